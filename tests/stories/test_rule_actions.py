"""Rules that work offline: what their actions do, and that nothing of it is lost."""

import gzip
import json
import sqlite3
import stat

import pytest

from harness.clients import Client
from harness.pki import make_ca, sign
from harness.ports import free_port
from harness.wait import until
from harness.web import WebServer

BUTTON = {"serialNumber": "ABCDEFG12345", "clickType": "SINGLE", "batteryVoltage": "2000 mV"}
VERSION = "2016-03-23"


def rule(sql, *actions, **more):
    return {"sql": sql, "awsIotSqlVersion": VERSION, "actions": list(actions), **more}


def connected(gateway, name="publisher"):
    return Client(name, gateway.ports["mqtt"]).connect()


def files(gateway):
    return gateway.data_dir / "rules" / "files"


def rows(gateway, sql, name="rules.db"):
    """What the sqlite3 command would show; nothing while there is no such table yet."""
    path = gateway.data_dir / "rules" / "sqlite" / name
    if not path.exists():
        return []
    try:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as link:
            return link.execute(sql).fetchall()
    except sqlite3.OperationalError:
        return []


def dead(gateway):
    return gateway.ctl_json("dead-letters", "list")


@pytest.fixture
def web():
    servers = []

    def make(**how):
        servers.append(WebServer(free_port(), **how).start())
        return servers[-1]

    yield make
    for server in servers:
        server.stop()


def test_the_buttons_clicks_go_to_a_table_and_a_message(daemon):
    """The guide's DynamoDB and SNS tutorials, with what there is on a gateway."""
    gateway = daemon(rules={
        "button": rule(
            "SELECT * FROM 'iotbutton/+'",
            {"sqlite": {"table": "clicks", "columns": {
                "SerialNumber": "${serialNumber}",
                "ClickType": "${clickType}",
                "millivolts": {"type": "INTEGER", "value": "${substring(batteryVoltage, 0, 4)}"},
            }}},
            {"republish": {"topic": "clicks/${serialNumber}", "qos": 1}},
        ),
        "all": rule("SELECT *, topic(2) AS button FROM 'iotbutton/+'", {"sqlite": {"table": "raw"}}),
    }).start()
    listener = connected(gateway, "listener")
    listener.subscribe("clicks/#")
    client = connected(gateway)
    client.publish("iotbutton/ABCDEFG12345", json.dumps(BUTTON))
    assert json.loads(listener.next().payload) == BUTTON
    sql = "SELECT SerialNumber, ClickType, millivolts FROM clicks"
    until(lambda: rows(gateway, sql) == [("ABCDEFG12345", "SINGLE", 2000)], "the row")
    raw = "SELECT serialNumber, clickType, batteryVoltage, button FROM raw"
    until(lambda: rows(gateway, raw) == [(*BUTTON.values(), "ABCDEFG12345")], "the whole row")
    counts = 'iotedge_rule_action_success_total{rule="button",action="actions[0]",kind="sqlite"} 1'
    until(lambda: counts in gateway.admin("/metrics")[1], "the action is counted")


def test_a_last_will_reaches_the_shadow_by_a_rule(daemon):
    """Wills on reserved topics are ignored; a rule takes them there (2016 guide, p. 160)."""
    gateway = daemon(rules={"lwt": {"rule": {
        "ruleDisabled": False,
        "sql": "SELECT * FROM 'my/things/myLightBulb/update'",
        "description": "Turn my/things/ into $aws/things/",
        "actions": [{"republish": {
            "topic": "$aws/things/myLightBulb/shadow/update",
            "roleArn": "arn:aws:iam::123456789012:role/aws_iam_republish",
        }}],
    }}}).start()
    will = json.dumps({"state": {"reported": {"connected": "false"}}})
    bulb = Client("bulb", gateway.ports["mqtt"], will=("my/things/myLightBulb/update", will, 1, False))
    bulb.connect()
    watcher = connected(gateway, "watcher")
    watcher.subscribe("$aws/things/myLightBulb/shadow/update/accepted")
    bulb.publish("$aws/things/myLightBulb/shadow/update",
                 json.dumps({"state": {"reported": {"connected": "true"}}}))
    assert json.loads(watcher.next().payload)["state"]["reported"]["connected"] == "true"
    bulb._paho._sock.close()
    assert json.loads(watcher.next().payload)["state"]["reported"]["connected"] == "false"


def test_shadow_messages_are_trimmed(daemon):
    """2016 guide, "Trim Device Shadow Messages"; topic(2) is the second level, `things`."""
    gateway = daemon(rules={"trim": {
        "sql": "SELECT state, version FROM '$aws/things/+/shadow/update/delta'",
        "ruleDisabled": False,
        "actions": [{"republish": {
            "topic": "${topic(2)}/delta", "roleArn": "arn:aws:iam::123456789012:role/my-iot-role",
        }}],
    }}).start()
    client = connected(gateway)
    client.subscribe("things/delta")
    client.publish("$aws/things/lamp/shadow/update", json.dumps({"state": {"desired": {"on": True}}}))
    assert json.loads(client.next().payload) == {"state": {"on": True}, "version": 1}


def test_an_endless_loop_ends_and_is_explained(daemon):
    gateway = daemon(
        config={"broker": {"max_hops": 4}},
        rules={"echo": rule("SELECT * FROM 'loop/#'", {"republish": {"topic": "loop/again"}})},
    ).start()
    client = connected(gateway)
    client.subscribe("loop/#", qos=0)
    client.publish("loop", "{}")
    client.publish("loop-is-over", "{}")
    gateway.log_explains("rules republish in a loop: dropped after 4 republications")
    assert len(client.collect(5)) == 5
    assert 'iotedge_dropped_total{reason="loop"} 1' in gateway.admin("/metrics")[1]
    client.publish("loop/x", "{}", qos=0)
    assert len(client.collect(5)) == 5
    assert client.drain() == []


def test_actions_of_the_cloud_are_refused_with_a_sentence(daemon):
    gateway = daemon(rules={"my-rule": {
        "sql": "SELECT * FROM 'iot/test'",
        "ruleDisabled": False,
        "awsIotSqlVersion": "2016-03-23-beta",
        "actions": [{"dynamoDB": {
            "tableName": "my-dynamodb-table",
            "roleArn": "arn:aws:iam::123456789012:role/my-iot-role",
            "hashKeyField": "topic", "hashKeyValue": "${topic(2)}",
            "rangeKeyField": "timestamp", "rangeKeyValue": "${timestamp()}",
        }}],
    }})
    checked = gateway.check()
    assert checked.returncode == 1
    said = checked.stdout + checked.stderr
    assert "the action dynamoDB needs a service of AWS" in said
    assert "my-rule.json:7:" in said, said


def test_a_message_of_version_5_has_the_headers_that_its_rule_gives_it(daemon):
    import paho.mqtt.client as paho
    from paho.mqtt.properties import Properties
    import queue

    gateway = daemon(rules={"headers": rule(
        "SELECT v FROM 'in'",
        {"republish": {"topic": "out", "qos": 1, "retain": True, "headers": {
            "payloadFormatIndicator": "UTF8_DATA",
            "contentType": "application/${kind}",
            "responseTopic": "answers/${topic()}",
            "correlationData": "${encode(topic(), 'base64')}",
            "messageExpiry": "${ttl}",
            "userProperties": [{"key": "rule", "value": "headers"}, {"key": "v", "value": "${v}"}],
        }}},
    )}).start()
    client = connected(gateway)
    client.publish("in", json.dumps({"v": 7, "kind": "json", "ttl": 1000}))
    got = queue.SimpleQueue()
    reader = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="v5", protocol=paho.MQTTv5)
    reader.on_connect = lambda c, *_: c.subscribe("out", qos=1)
    reader.on_message = lambda c, u, message: got.put(message)
    reader.connect("127.0.0.1", gateway.ports["mqtt"])
    reader.loop_start()
    message = got.get(timeout=10)
    reader.loop_stop()
    assert message.retain and json.loads(message.payload) == {"v": 7}
    properties = message.properties
    assert properties.PayloadFormatIndicator == 1
    assert properties.ContentType == "application/json"
    assert properties.ResponseTopic == "answers/in"
    assert properties.CorrelationData == b"in"
    assert 900 < properties.MessageExpiryInterval <= 1000
    assert properties.UserProperty == [("rule", "headers"), ("v", "7")]
    assert isinstance(properties, Properties)


def test_files_are_written_rotated_and_never_outside_their_root(daemon):
    gateway = daemon(rules={
        "log": rule("SELECT * FROM 'log/#'", {"file": {
            "path": "${topic(2)}/all.log", "maxBytes": 1024, "keep": 3, "gzip": True,
        }}),
        "now": rule("SELECT * FROM 'log/#'", {"file": {"path": "now/${topic(2)}.json", "mode": "replace"}}),
        "evil": rule("SELECT * FROM 'evil'", {"file": {"path": "${path}"}},
                     errorAction={"republish": {"topic": "errors"}}),
    }).start()
    client = connected(gateway)
    client.subscribe("errors")
    for n in range(100):
        client.publish("log/pump", json.dumps({"n": n, "pad": "x" * 30}))
    folder = files(gateway) / "pump"
    last = '{"n":99,'
    until(lambda: (folder / "all.log").exists() and last in (folder / "all.log").read_text().replace(" ", ""),
          "the last line")
    names = sorted(p.name for p in folder.iterdir())
    assert len(names) == 4 and sum(n.endswith(".gz") for n in names) == 3, names
    newest = max((p for p in folder.glob("*.gz")), key=lambda p: int(p.name.split(".")[2]))
    lines = gzip.decompress(newest.read_bytes()).decode() + (folder / "all.log").read_text()
    numbers = [json.loads(line)["n"] for line in lines.splitlines()]
    assert numbers == list(range(numbers[0], 100)) and len(numbers) > 20
    assert stat.S_IMODE((folder / "all.log").stat().st_mode) == 0o640
    until(lambda: json.loads((files(gateway) / "now" / "pump.json").read_text())["n"] == 99, "the last one")
    outside = gateway.folder / "outside"
    outside.mkdir()
    (files(gateway) / "link").symlink_to(outside)
    for path in ("../../../outside/x", str(outside / "x"), "link/x", "a/../../x", ".x"):
        client.publish("evil", json.dumps({"path": path}))
        error = json.loads(client.next().payload)
        assert error["ruleName"] == "evil" and error["failures"][0]["failedAction"] == "FileAction"
    assert list(outside.iterdir()) == []
    queues = ["evil/0"] * 5
    until(lambda: [letter["queue"] for letter in dead(gateway)] == queues, "the dead letters")


def test_a_program_gets_the_payload_and_no_shell_sees_it(daemon, tmp_path):
    program = tmp_path / "program"
    program.write_text(
        "#!/bin/sh\nif [ \"$1\" = fail ]; then echo broken >&2; exit 3; fi\n"
        f"{{ printf '%s|' \"$@\"; cat; echo; }} >> '{tmp_path}/got'\n"
    )
    program.chmod(0o755)
    gateway = daemon(
        config={"rules": {"exec_allow": [str(program)], "max_attempts": 2}},
        rules={
            "run": rule("SELECT v FROM 'run/#'", {"exec": {"command": [str(program), "${topic()}", "-x"]}}),
            "fail": rule("SELECT * FROM 'fail'", {"exec": {"command": [str(program), "fail"]}}),
        },
    ).start()
    client = connected(gateway)
    topic = "run/$(touch pwned);`touch pwned`"
    client.publish(topic, json.dumps({"v": "'; touch pwned"}))
    got = tmp_path / "got"
    until(lambda: got.exists() and got.read_text().endswith("\n"), "the program ran")
    assert got.read_text() == f"{topic}|-x|" + '{"v":"\'; touch pwned"}\n'
    client.publish("fail", "{}")
    until(lambda: dead(gateway), "it was given up")
    assert "exit code 3: broken" in dead(gateway)[0]["reason"]

    gateway.rules["other"] = rule("SELECT * FROM 'x'", {"exec": {"command": ["/bin/sh", "-c", "id"]}})
    gateway.write()
    refused = gateway.ctl("reload")
    assert refused.returncode == 1
    assert "rules.exec_allow names it not" in refused.stdout + refused.stderr


def test_a_request_carries_what_the_rule_says_with_a_client_certificate(daemon, web, tmp_path):
    authority = make_ca(tmp_path / "pki", "web")
    server = sign(tmp_path / "pki", "server", authority, san="DNS:localhost,IP:127.0.0.1")
    mine = sign(tmp_path / "pki", "gateway", authority)
    https = web(identity=server, client_ca=authority[0])
    gateway = daemon(rules={"web": rule("SELECT v FROM 'web/+'", {"http": {
        "url": f"https://localhost:{https.port}/${{topic(2)}}?v=${{v}}",
        "method": "PUT",
        "headers": [{"key": "X-Rule", "value": "web ${v}"}],
        "ca": str(authority[0]), "certificate": str(mine.certificate), "key": str(mine.key),
    }})}).start()
    client = connected(gateway)
    client.publish("web/pump", json.dumps({"v": 5}))
    request = https.wait(1)[0]
    assert (request.method, request.path) == ("PUT", "/pump?v=5")
    assert json.loads(request.body) == {"v": 5}
    headers = {name.lower(): value for name, value in request.headers.items()}
    assert headers["x-rule"] == "web 5"
    assert headers["content-type"] == "application/json"
    assert headers["idempotency-key"]


def test_a_server_that_says_no_sends_the_message_to_the_error_action_and_aside(daemon, web):
    server = web()
    server.answer = lambda request: 400 if b"bad" in request.body else 200
    gateway = daemon(rules={"web": rule(
        "SELECT v FROM 'web'",
        {"http": {"url": f"http://127.0.0.1:{server.port}/"}},
        errorAction={"republish": {"topic": "errors/${topic()}", "qos": 1}},
    )}).start()
    client = connected(gateway)
    client.subscribe("errors/#")
    for v in ("1", "bad", "2"):
        client.publish("web", json.dumps({"v": v}))
    assert [json.loads(r.body)["v"] for r in server.wait(2)] == ["1", "2"]
    error = json.loads(client.next().payload)
    assert error["ruleName"] == "web" and error["clientId"] == "publisher"
    assert error["failures"][0]["failedAction"] == "HttpAction"
    assert "400" in error["failures"][0]["errorMessage"]
    until(lambda: dead(gateway), "the dead letter")
    letters = dead(gateway)
    assert [letter["queue"] for letter in letters] == ["web/0"]
    shown = gateway.ctl_ok("dead-letters", "show", str(letters[0]["id"]))
    assert '{"v":"bad"}' in shown and "400" in shown
    server.answer = lambda request: 200
    assert "1 replayed" in gateway.ctl_ok("dead-letters", "replay", "--queue", "web")
    assert json.loads(server.wait(3)[2].body) == {"v": "bad"}
    until(lambda: dead(gateway) == [], "it is no dead letter any more")
    server.answer = lambda request: 404
    client.publish("web", json.dumps({"v": "gone"}))
    until(lambda: dead(gateway), "a new one")
    assert gateway.ctl("dead-letters", "drop", "999999").returncode == 1
    gateway.ctl_ok("dead-letters", "drop", str(dead(gateway)[0]["id"]))
    assert dead(gateway) == []


def test_nothing_is_lost_when_the_sink_is_down_and_the_gateway_is_killed(daemon, web):
    server = web()
    gateway = daemon(rules={"web": rule(
        "SELECT n FROM 'web'",
        {"http": {"url": f"http://127.0.0.1:{server.port}/"}},
        {"sqlite": {"table": "t"}},
        {"file": {"path": "all.log"}},
    )}).start()
    client = connected(gateway)
    client.publish("web", json.dumps({"n": 0}))
    server.wait(1)
    server.stop()
    for n in range(1, 101):
        client.publish("web", json.dumps({"n": n}))
    gateway.log_explains("the action is tried again", f"http://127.0.0.1:{server.port}/")
    outboxes = {o["name"]: o for o in gateway.ctl_json("status")["outboxes"]}
    assert outboxes["web/0"]["queued"] == 100
    assert f"http://127.0.0.1:{server.port}/" in outboxes["web/0"]["trouble"]
    assert "web/0" in gateway.ctl_ok("status")
    gateway.kill()
    server.start()
    gateway.start()
    connected(gateway).publish("web", json.dumps({"n": 101}))
    numbers = [json.loads(r.body)["n"] for r in server.wait(102, deadline=60)]
    assert numbers == list(range(102))
    until(lambda: len(rows(gateway, "SELECT n FROM t")) == 102, "all rows", deadline=30)
    assert [n for n, in rows(gateway, "SELECT n FROM t ORDER BY rowid")] == list(range(102))
    lines = (files(gateway) / "all.log")
    until(lambda: len(lines.read_text().splitlines()) == 102, "all lines", deadline=30)
    assert [json.loads(line)["n"] for line in lines.read_text().splitlines()] == list(range(102))


def test_rows_and_lines_are_written_once_through_kills(daemon):
    """A kill wherever it comes: SQLite and the file know what they have."""
    gateway = daemon(rules={"r": rule(
        "SELECT n FROM 'in'", {"sqlite": {"table": "t"}}, {"file": {"path": "all.log"}},
    )})
    acknowledged = 0
    for _ in range(5):
        gateway.start()
        client = connected(gateway)
        for _ in range(60):
            client.publish("in", json.dumps({"n": acknowledged}))
            acknowledged += 1
        gateway.kill()
    gateway.start()
    expected = list(range(acknowledged))
    until(lambda: len(rows(gateway, "SELECT n FROM t")) >= acknowledged, "all rows", deadline=30)
    assert [n for n, in rows(gateway, "SELECT n FROM t ORDER BY rowid")] == expected
    lines = files(gateway) / "all.log"
    until(lambda: len(lines.read_text().splitlines()) >= acknowledged, "all lines", deadline=30)
    assert [json.loads(line)["n"] for line in lines.read_text().splitlines()] == expected


def test_a_slow_sink_stops_neither_publishers_nor_other_rules(daemon, web):
    import threading

    server, hold = web(), threading.Event()
    server.answer = lambda request: (hold.wait(30), 200)[1]
    gateway = daemon(
        config={"rules": {"max_outbox_messages": 10}},
        rules={
            "slow": rule("SELECT * FROM 'in'", {"http": {"url": f"http://127.0.0.1:{server.port}/"}}),
            "fast": rule("SELECT * FROM 'in'", {"republish": {"topic": "out"}}),
        },
    ).start()
    client = connected(gateway)
    client.subscribe("out")
    for n in range(50):
        client.publish("in", json.dumps({"n": n}))
    assert [json.loads(m.payload)["n"] for m in client.collect(50)] == list(range(50))
    metrics = gateway.admin("/metrics")[1]
    assert 'iotedge_rule_outbox_messages{outbox="slow/0"} 10' in metrics
    hold.set()
    numbers = [json.loads(r.body)["n"] for r in server.wait(10)]
    assert numbers[0] == 0 and numbers[-1] == 49 and numbers == sorted(numbers)
    dropped = [line for line in gateway.admin("/metrics")[1].splitlines() if 'reason="queue-full"' in line]
    assert dropped == ['iotedge_dropped_total{reason="queue-full"} 40']


def test_a_function_is_accepted_and_is_not_there_yet(daemon):
    arn = "arn:aws:lambda:us-east-1:123456789012:function:myLambdaFunction"
    gateway = daemon(rules={"l": {"rule": {
        "sql": "SELECT * FROM 'some/topic'", "ruleDisabled": False,
        "actions": [{"lambda": {"functionArn": arn}}],
        "errorAction": {"republish": {"topic": "errors"}},
    }}}).start()
    client = connected(gateway)
    client.subscribe("errors")
    client.publish("some/topic", "{}")
    error = json.loads(client.next().payload)
    assert error["failures"] == [{
        "failedAction": "LambdaAction", "failedResource": arn,
        "errorMessage": f"no such function: {arn}",
    }]


def test_a_rule_hands_messages_to_a_route_of_the_bridge(daemon, upstream):
    broker = upstream().start()
    gateway = daemon(
        config={"upstream": [{
            "name": "cloud", "url": f"mqtt://127.0.0.1:{broker.port}", "client_id": "gateway",
            "route": [{"direction": "out", "filter": "up/#", "qos": 1, "name": "up"}],
        }]},
        rules={"hand": rule("SELECT v FROM 'in/+'", {"upstream": {"route": "cloud/up", "topic": "up/${topic(2)}"}})},
    ).start()
    there = Client("there", broker.port).connect()
    there.subscribe("up/#")
    here = connected(gateway, "here")
    here.subscribe("up/#")
    gateway.wait_link("cloud")
    here.publish("in/pump", json.dumps({"v": 1}))
    message = there.next()
    assert (message.topic, json.loads(message.payload)) == ("up/pump", {"v": 1})
    assert here.drain() == []
    gateway.rules["hand"] = rule("SELECT v FROM 'in/+'", {"upstream": {"route": "cloud/other"}})
    gateway.write()
    refused = gateway.ctl("reload")
    assert refused.returncode == 1
    assert "there is no outbound route of this name; there are: cloud/up" in refused.stdout + refused.stderr


def test_what_waits_for_a_deleted_rule_is_still_done(daemon, web):
    server = web()
    server.stop()
    gateway = daemon().start()
    document = gateway.folder / "r.json"
    document.write_text(json.dumps(rule("SELECT n FROM 'in'", {"http": {"url": f"http://127.0.0.1:{server.port}/"}})))
    gateway.ctl_ok("rule", "create", "r", document)
    client = connected(gateway)
    for n in range(3):
        client.publish("in", json.dumps({"n": n}))
    gateway.ctl_ok("rule", "delete", "r")
    client.publish("in", json.dumps({"n": 99}))
    gateway.kill()
    server.start()
    gateway.start()
    assert [json.loads(r.body)["n"] for r in server.wait(3)] == [0, 1, 2]
    until(lambda: 'outbox="r/0"' not in gateway.admin("/metrics")[1], "the outbox goes when it is empty")
