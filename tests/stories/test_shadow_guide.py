"""The developer guide's chapters on shadows, example by example, where `test_shadow_flow` does not tell them."""

import http.client
import json

import pytest

from harness.clients import Client
from harness.daemon import allow
from harness.ports import free_port

ALL = allow((["iot:*"], ["*"]))
ROLE = "arn:aws:iam::123456789012:role/my-iot-role"


def republish(sql, topic):
    return {
        "sql": sql, "ruleDisabled": False, "awsIotSqlVersion": "2016-03-23",
        "actions": [{"republish": {"topic": topic, "roleArn": ROLE}}],
    }


@pytest.fixture
def home(daemon):
    rules = {
        # "Trim Device Shadow Messages". Its topic(2) is the word "things"; the thing is topic(3).
        "trim": republish(
            "SELECT state, version FROM '$aws/things/+/shadow/update/delta'", "${topic(3)}/delta"),
        "seen": republish(
            "SELECT current.version AS now, previous.version AS before "
            "FROM '$aws/things/+/shadow/name/+/update/documents'", "seen/${topic(3)}/${topic(6)}"),
        "reads": republish(
            f"SELECT get_thing_shadow('lamp', '{ROLE}').state.reported AS classic, "
            f"get_thing_shadow('lamp', 'config', '{ROLE}').state AS config FROM 'ask'", "told"),
    }
    gateway = daemon(policies={"all": ALL}, rules=rules).start()
    client = Client("guide", gateway.ports["mqtt"]).connect()
    yield gateway, client
    client.disconnect()


def ask(client, operation, document=None, thing="lamp", raw=None):
    """A request and its answer: (accepted or rejected, document)."""
    prefix = f"$aws/things/{thing}/shadow"
    payload = raw if raw is not None else b"" if document is None else json.dumps(document).encode()
    client.publish(f"{prefix}/{operation}", payload, qos=1)
    while True:
        message = client.next()
        suffix = message.topic.removeprefix(prefix + "/")
        if suffix in (f"{operation}/accepted", f"{operation}/rejected"):
            return suffix.split("/")[1], json.loads(message.payload)


def listen(client, *filters):
    for topic_filter in filters:
        assert client.subscribe(topic_filter, 1) == 1


def answers(client, thing="lamp"):
    listen(client, *(f"$aws/things/{thing}/shadow/{operation}/{answer}"
                     for operation in ("update", "get", "delete") for answer in ("accepted", "rejected")))


def test_optimistic_locking(home):
    _, client = home
    answers(client)
    colors = ["RED", "GREEN", "BLUE"]
    for version in range(1, 11):
        assert ask(client, "update", {"state": {"desired": {"colors": colors}}})[1]["version"] == version
    stale = {"state": {"desired": {"colors": ["BLUE"]}}, "version": 9}
    outcome, error = ask(client, "update", stale)
    assert (outcome, error["code"], error["message"]) == ("rejected", 409, "Version conflict")
    outcome, accepted = ask(client, "update", {**stale, "version": 10})
    assert (outcome, accepted["version"]) == ("accepted", 11)
    document = ask(client, "get")[1]
    assert document["state"]["desired"] == {"colors": ["BLUE"]}


def test_deleting_data(home):
    _, client = home
    answers(client)
    ask(client, "update", {"state": {
        "desired": {"lights": {"color": "RED"}, "engine": "ON"},
        "reported": {"lights": {"color": "GREEN"}, "engine": "OFF"},
    }})
    ask(client, "update", {"state": {"desired": None, "reported": {"engine": None}}})
    document = ask(client, "get")[1]
    assert document["state"] == {"reported": {"lights": {"color": "GREEN"}}}
    assert list(document["metadata"]) == ["reported"]
    # All data goes, the shadow remains, and its version goes on.
    assert ask(client, "update", {"state": None})[1]["version"] == 3
    document = ask(client, "get")[1]
    assert (document["state"], document["metadata"], document["version"]) == ({}, {}, 3)
    assert ask(client, "update", {"state": {"reported": {"a": 1}}})[1]["version"] == 4


def test_members_come_in_the_order_of_the_guide(home):
    _, client = home
    shadow = "$aws/things/lamp/shadow"
    listen(client, f"{shadow}/update/#", f"{shadow}/get/accepted", f"{shadow}/delete/+")
    request = {"clientToken": "t", "state": {"desired": {"a": 1}, "reported": {"a": 0}}}
    client.publish(f"{shadow}/update", json.dumps(request).encode(), qos=1)
    client.publish(f"{shadow}/update", json.dumps({**request, "version": 7}).encode(), qos=1)
    client.publish(f"{shadow}/get", b'{"clientToken":"t"}', qos=1)
    client.publish(f"{shadow}/delete", b'{"clientToken":"t"}', qos=1)
    told = {}
    while "delete/accepted" not in told:
        message = client.next()
        if message.topic != f"{shadow}/update":
            told[message.topic.removeprefix(shadow + "/")] = json.loads(message.payload)
    order = {name: list(document) for name, document in told.items()}
    assert order == {
        "update/accepted": ["state", "metadata", "version", "timestamp", "clientToken"],
        "update/delta": ["version", "timestamp", "state", "metadata", "clientToken"],
        "update/documents": ["previous", "current", "timestamp", "clientToken"],
        "update/rejected": ["code", "message", "timestamp", "clientToken"],
        "get/accepted": ["state", "metadata", "version", "timestamp", "clientToken"],
        "delete/accepted": ["version", "timestamp", "clientToken"],
    }
    assert list(told["get/accepted"]["state"]) == ["desired", "reported", "delta"]
    assert list(told["update/documents"]["current"]) == ["state", "metadata", "version"]


def test_trimmed_messages(home):
    _, client = home
    answers(client)
    listen(client, "lamp/delta")
    ask(client, "update", {"state": {"desired": {"a": 1}}})
    message = client.next()
    assert message.topic == "lamp/delta"
    assert json.loads(message.payload) == {"state": {"a": 1}, "version": 1}


def test_rules_see_what_becomes_of_a_named_shadow(home):
    gateway, client = home
    listen(client, "seen/#")
    for version in (1, 2):
        gateway.ctl_ok("shadow", "update", "lamp", "--name", "config", '{"state":{"reported":{"a":1}}}')
        message = client.next()
        assert message.topic == "seen/lamp/config"
        expected = {"now": version, **({"before": version - 1} if version > 1 else {})}
        assert json.loads(message.payload) == expected


def test_sql_reads_shadows_as_they_are_stored(home):
    gateway, client = home
    answers(client)
    listen(client, "told")

    def told():
        client.publish("ask", b"{}")
        return json.loads(client.until_topic("told")[-1].payload)

    assert told() == {}
    ask(client, "update", {"state": {"reported": {"color": "red"}}})
    assert told() == {"classic": {"color": "red"}}
    gateway.ctl_ok("shadow", "update", "lamp", "--name", "config", '{"state":{"desired":{"a":1}}}')
    assert told() == {"classic": {"color": "red"}, "config": {"desired": {"a": 1}, "delta": {"a": 1}}}
    ask(client, "delete")
    assert "classic" not in told()


def test_a_thing_and_its_shadows_are_deleted_apart(home):
    gateway, client = home
    answers(client)
    gateway.ctl_ok("thing", "create", "lamp")
    ask(client, "update", {"state": {"reported": {"a": 1}}})
    gateway.ctl_ok("thing", "delete", "lamp")
    assert ask(client, "get")[1]["state"] == {"reported": {"a": 1}}
    gateway.ctl_ok("thing", "create", "lamp")
    ask(client, "delete")
    assert "lamp" in gateway.ctl_ok("thing", "list")


def test_one_nul_behind_the_document(home):
    gateway, client = home
    answers(client)
    document = b'{"state":{"reported":{"a":1}}}'
    assert ask(client, "update", raw=document + b"\0")[0] == "accepted"
    assert ask(client, "get", raw=b'{"clientToken":"c"}\0')[1]["clientToken"] == "c"
    outcome, error = ask(client, "update", raw=document + b"\0\0")
    assert (outcome, error["message"]) == ("rejected", "Invalid JSON")
    device = gateway.cert("nul", policy="all")
    assert gateway.https("POST", "/things/lamp/shadow", device, document + b"\0")[0] == 200
    assert gateway.https("POST", "/things/lamp/shadow", device, document + b"\0\0")[0] == 400


def test_the_limits_are_settings(daemon):
    shadow = {
        "max_document_bytes": 100, "max_depth": 2, "max_client_token_bytes": 3, "max_thing_name": 4,
        "max_shadow_name": 3,
    }
    gateway = daemon(policies={"all": ALL}, config={"shadow": shadow}).start()
    device = gateway.cert("limits", policy="all")

    def update(reported, path="/things/lamp/shadow", **more):
        body = json.dumps({"state": {"reported": reported}, **more})
        status, text = gateway.https("POST", path, device, body)
        return status, json.loads(text).get("message")

    assert update({"a": {"b": 1}}, clientToken="abc")[0] == 200
    assert update({"a": 1}, clientToken="abcd") == (400, "Invalid clientToken")
    assert update({"a": {"b": {"c": 1}}}) == (
        400, "JSON contains too many levels of nesting; maximum is 2")
    assert update({"a": "x" * 92})[0] == 200
    assert update({"a": "x" * 93}) == (413, "The payload exceeds the maximum size allowed")
    assert update({}, path="/things/lamp/shadow?name=abc")[0] == 200
    assert update({}, path="/things/lamp/shadow?name=abcd")[0] == 400
    assert update({}, path="/things/lamps/shadow")[0] == 400


def test_what_the_rest_api_does_not_have(home):
    gateway, _ = home
    device = gateway.cert("rest", policy="all")
    listed = "/api/things/shadow/ListNamedShadowsForThing/lamp"
    for method, path, status in (
        ("PUT", "/things/lamp/shadow", 405), ("PATCH", "/things/lamp/shadow", 405),
        ("POST", listed, 405), ("DELETE", listed, 405),
        ("GET", "/things/lamp/shadow/", 404), ("GET", "/things/lamp", 404), ("GET", f"{listed}/x", 404),
        ("GET", "/things//shadow", 400), ("GET", "/things/a%2Fb/shadow", 400),
        ("GET", "/things/%ff/shadow", 400), ("GET", "/things/lamp/shadow?name=", 400),
        ("GET", "/things/lamp/shadow?name=a%20b", 400), ("GET", "/things/lamp/shadow?name=%", 400),
    ):
        found, text = gateway.https(method, path, device)
        assert found == status, (method, path, found, text)
        assert json.loads(text)["message"], (method, path)
    # What is not known in a query is not looked at.
    assert gateway.https("POST", "/things/lamp/shadow?x=1&name=a&name=b", device, b'{"state":{}}')[0] == 200
    assert json.loads(gateway.https("GET", listed, device)[1])["results"] == ["a"]


def test_a_denial_names_the_trace_that_is_in_the_log(daemon):
    gateway = daemon(policies={"nothing": allow((["iot:Connect"], ["*"]))}).start()
    device = gateway.cert("poor", policy="nothing")
    status, text = gateway.https("GET", "/things/lamp/shadow", device)
    document = json.loads(text)
    assert (status, document["code"], document["message"]) == (403, 403, "Forbidden")
    gateway.log_has(f"PolicyDenied.*trace_id={document['traceId']}")


def test_who_is_nobody_is_unauthorized(daemon):
    """Error messages of the guide: 401 before 403."""
    gateway = daemon(policies={"nothing": allow((["iot:Connect"], ["*"]))})
    port = free_port()
    gateway.config["listener"].append({
        "protocol": "http", "address": f"127.0.0.1:{port}", "auth": "anonymous", "policy": "nothing"})
    gateway.write()
    gateway.start()
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    link.request("GET", "/things/lamp/shadow")
    answer = link.getresponse()
    document = json.loads(answer.read())
    assert answer.status == 401
    assert (document["code"], document["message"]) == (401, "Unauthorized")
    assert answer.getheader("x-amzn-errortype") == "UnauthorizedException"
    link.close()
