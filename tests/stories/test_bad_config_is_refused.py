"""A mistake in a file is named by file, line and key, with the reason; nothing starts on half of it."""

import copy
import json
import re

import pytest

from harness import toml
from harness.clients import Client
from harness.daemon import is_open

GOOD_RULE = {
    "sql": "SELECT * FROM 'a/b'",
    "actions": [{"republish": {"topic": "c/d", "roleArn": "arn:aws:iam::123456789012:role/r"}}],
}


def line_of(text, needle):
    """The number of the first line with `needle`."""
    for number, line in enumerate(text.splitlines(), 1):
        if needle in line:
            return number
    raise AssertionError(f"{needle!r} is not in:\n{text}")


def left_in(folder):
    """What is in a folder that need not be there."""
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def refused(gateway, file, line, *words):
    """`check` and a start both say no, with file, line and words; nothing was loaded."""
    place = re.compile(re.escape(file) + (rf"(?::{line}\b|.*\bline {line}\b)" if line else ""))
    checked = gateway.check()
    said = checked.stdout + checked.stderr
    assert checked.returncode == 1, f"check ended with {checked.returncode}:\n{said}"
    assert place.search(said), f"{file}:{line} is not in:\n{said}"
    for word in words:
        assert re.search(word, said, re.IGNORECASE), f"{word!r} is not in:\n{said}"

    child = gateway.spawn()
    code = child.wait(15)
    assert code not in (0, -9, -6, -11), f"ended with {code}:\n{child.log}"
    assert "panicked" not in child.log
    assert place.search(child.log), f"{file}:{line} is not in:\n{child.log}"
    for word in words:
        assert re.search(word, child.log, re.IGNORECASE), f"{word!r} is not in:\n{child.log}"
    assert not any(is_open(port) for port in gateway.ports.values())
    assert not gateway.socket.exists()
    assert left_in(gateway.data_dir) == []


def changed(config, change):
    config = copy.deepcopy(config)
    change(config)
    return config


def put(*path):
    """Sets `path[-2]` to `path[-1]`."""
    def change(config):
        at = config
        for step in path[:-2]:
            at = at[step] if isinstance(step, int) else at.setdefault(step, {})
        at[path[-2]] = path[-1]
    return change


def upstream(**keys):
    def change(config):
        good = {
            "name": "cloud", "url": "mqtt://127.0.0.1:1", "client_id": "g",
            "route": [{"direction": "out", "filter": "a/#", "qos": 1}],
        }
        route = {k[6:]: keys.pop(k) for k in list(keys) if k.startswith("route_")}
        good["route"][0].update(route)
        good.update(keys)
        config["upstream"] = [{k: v for k, v in good.items() if v is not None}]
    return change


# name: (change, text that stands in the wrong line, words that the message must have)
CONFIG = {
    "unknown-table": (put("brokr", "x", 1), "brokr", ["brokr"]),
    "unknown-key": (put("broker", "max_inflite", 5), "max_inflite", ["max_inflite"]),
    "unknown-key-in-listener": (put("listener", 0, "adress", "x"), "adress", ["adress"]),
    "wrong-type": (put("broker", "max_inflight", "many"), "max_inflight", ["max_inflight"]),
    "negative": (put("broker", "max_inflight", -1), "max_inflight", ["max_inflight"]),
    "bad-address": (put("listener", 0, "address", "localhost"), '"localhost"', ["address"]),
    "bad-protocol": (put("listener", 0, "protocol", "mqqt"), "mqqt", ["protocol", "mqqt"]),
    "bad-auth": (put("listener", 0, "auth", "trust"), "trust", ["auth", "trust"]),
    "unknown-policy": (put("listener", 0, "policy", "no-such"), "no-such", ["policy", "no-such"]),
    "bad-sync": (put("store", "sync", "sometimes"), "sometimes", ["sync"]),
    "bad-size": (put("store", "max_bytes", "1 elephant"), "elephant", ["max_bytes"]),
    "bad-url": (upstream(url="cloud.example"), "cloud.example", ["url"]),
    "bad-url-scheme": (upstream(url="ftp://host:1"), "ftp://", ["url"]),
    "bad-direction": (upstream(route_direction="up"), '"up"', ["direction"]),
    "bad-filter": (upstream(route_filter="a/#/b"), "a/#/b", ["filter"]),
    "bad-qos": (upstream(route_qos=3), "qos = 3", ["qos"]),
    "bad-on-full": (upstream(route_on_full="panic"), "panic", ["on_full"]),
    "missing-ca-file": (upstream(url="mqtts://h:8883", ca="/no/such/ca.pem"), "/no/such", ["ca"]),
    "bad-serial-format": (
        put("serial", [{"name": "m", "path": "/dev/null", "baud": 9600, "format": "xml", "topic": "t"}]),
        "xml", ["format"],
    ),
    "bad-serial-topic": (
        put("serial", [{"name": "m", "path": "/dev/null", "baud": 9600, "format": "text", "topic": "a/#"}]),
        "a/#", ["topic"],
    ),
}


@pytest.mark.parametrize("name", CONFIG)
def test_a_wrong_value_in_the_config(daemon, name):
    change, needle, words = CONFIG[name]
    gateway = daemon()
    gateway.config = changed(gateway.config, change)
    gateway.write()
    refused(gateway, "iotedge.toml", line_of(gateway.file.read_text(), needle), *words)


def test_a_missing_key(daemon):
    gateway = daemon()
    del gateway.config["listener"][0]["address"]
    gateway.write()
    refused(gateway, "iotedge.toml", line_of(gateway.file.read_text(), "[[listener]]"), "address")


def test_an_open_listener_needs_a_policy(daemon):
    gateway = daemon()
    del gateway.config["listener"][0]["policy"]
    gateway.write()
    refused(gateway, "iotedge.toml", None, "policy", "anonymous")


def test_two_upstreams_of_one_name(daemon):
    gateway = daemon()
    change = upstream()
    change(gateway.config)
    gateway.config["upstream"] *= 2
    gateway.write()
    refused(gateway, "iotedge.toml", None, "cloud", "twice|duplicate|already|more than one|two")


def test_text_that_is_no_toml(daemon):
    gateway = daemon()
    text = gateway.file.read_text() + "\n[broker\nx = 1\n"
    gateway.file.write_text(text)
    refused(gateway, "iotedge.toml", line_of(text, "[broker"))


def test_all_mistakes_of_a_drop_in_file_are_found_there(daemon):
    gateway = daemon()
    folder = gateway.file.parent / "conf.d"
    folder.mkdir()
    (folder / "10-mine.toml").write_text(toml.dumps({"broker": {"max_inflite": 1}}))
    refused(gateway, "10-mine.toml", 3, "max_inflite")


# name: (text or document, needle in the wrong line or None, words)
RULES = {
    "no-json": ('{\n  "sql": "SELECT * FROM \'a\'",\n  "actions": [,]\n}', '"actions"', []),
    "bad-sql": ({**GOOD_RULE, "sql": "SELEKT * FROM 'a'"}, '"sql"', ["sql", "SELEKT|expected"]),
    "unquoted-filter": ({**GOOD_RULE, "sql": "SELECT * FROM a/b"}, '"sql"', ["sql"]),
    "unknown-function": ({**GOOD_RULE, "sql": "SELECT frob(x) AS y FROM 'a'"}, '"sql"', ["frob"]),
    "no-sql": ({"actions": GOOD_RULE["actions"]}, None, ["sql"]),
    "no-actions": ({"sql": GOOD_RULE["sql"]}, None, ["actions"]),
    "unknown-action": (
        {**GOOD_RULE, "actions": [{"teleport": {"to": "x"}}]}, '"teleport"', ["teleport"],
    ),
    "unknown-key": ({**GOOD_RULE, "sqll": "x"}, '"sqll"', ["sqll"]),
    "bad-topic": (
        {**GOOD_RULE, "actions": [{"republish": {"topic": "a/#", "roleArn": "r"}}]}, "a/#", ["topic"],
    ),
    "bad-template": (
        {**GOOD_RULE, "actions": [{"republish": {"topic": "a/${topic(", "roleArn": "r"}}]},
        "a/${", ["topic"],
    ),
    "bad-version": ({**GOOD_RULE, "awsIotSqlVersion": "2020-01-01"}, "2020-01-01", ["awsIotSqlVersion"]),
    "wrong-type": ({**GOOD_RULE, "ruleDisabled": "no"}, "ruleDisabled", ["ruleDisabled"]),
}


@pytest.mark.parametrize("name", RULES)
def test_a_mistake_in_a_rule_file(daemon, name):
    document, needle, words = RULES[name]
    gateway = daemon(rules={"a-good": GOOD_RULE, "broken": document})
    text = (gateway.file.parent / "rules.d" / "broken.json").read_text()
    refused(gateway, "broken.json", line_of(text, needle) if needle else None, *words)


STATEMENT = {"Effect": "Allow", "Action": ["iot:Publish"], "Resource": ["*"]}
POLICIES = {
    "no-json": ('{\n  "Version": "2012-10-17",\n  "Statement": [\n}', "}", []),
    "bad-effect": (
        {"Version": "2012-10-17", "Statement": [{**STATEMENT, "Effect": "Perhaps"}]},
        "Perhaps", ["Effect"],
    ),
    "bad-version": ({"Version": "2021-01-01", "Statement": [STATEMENT]}, "2021-01-01", ["Version"]),
    "no-statement": ({"Version": "2012-10-17"}, None, ["Statement"]),
    "no-resource": (
        {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "iot:Publish"}]},
        None, ["Resource"],
    ),
    "unknown-key": (
        {"Version": "2012-10-17", "Statement": [{**STATEMENT, "Efect": "Allow"}]}, "Efect", ["Efect"],
    ),
}


@pytest.mark.parametrize("name", POLICIES)
def test_a_mistake_in_a_policy_file(daemon, name):
    document, needle, words = POLICIES[name]
    gateway = daemon(policies={"broken": document})
    text = (gateway.file.parent / "policies.d" / "broken.json").read_text()
    refused(gateway, "broken.json", line_of(text, needle) if needle else None, *words)


def test_several_mistakes_are_all_said_at_once(daemon):
    gateway = daemon(
        rules={"broken": {**GOOD_RULE, "sql": "SELEKT"}},
        policies={"wrong": {"Version": "2012-10-17", "Statement": [{**STATEMENT, "Effect": "Maybe"}]}},
    )
    checked = gateway.check()
    said = checked.stdout + checked.stderr
    assert checked.returncode == 1
    assert "broken.json" in said and "wrong.json" in said, said


def test_a_missing_config_file_is_named(daemon, binaries, tmp_path):
    gateway = daemon()
    gateway.file.unlink()
    checked = gateway.check()
    assert checked.returncode == 1
    assert "iotedge.toml" in checked.stdout + checked.stderr
    child = gateway.spawn()
    assert child.wait(10) not in (0, -9)
    assert "iotedge.toml" in child.log


def test_a_good_config_passes_and_leaves_nothing_behind(daemon):
    gateway = daemon(rules={"good": GOOD_RULE})
    checked = gateway.check()
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert left_in(gateway.data_dir) == []


def test_when_the_mistake_is_mended_it_starts(daemon):
    gateway = daemon(rules={"mine": {**GOOD_RULE, "sql": "SELEKT"}})
    assert gateway.spawn().wait(15) != 0
    gateway.rules["mine"] = GOOD_RULE
    gateway.write()
    gateway.start()
    client = Client("c", gateway.ports["mqtt"]).connect()
    client.subscribe("c/d")
    client.publish("a/b", json.dumps({"x": 1}).encode())
    assert json.loads(client.next().payload) == {"x": 1}
    client.disconnect()
    gateway.stop()


def test_what_only_the_bridge_refuses_is_found_by_the_check(daemon):
    gateway = daemon(config={"upstream": [{
        "name": "cloud", "kind": "aws-iot-core", "url": "mqtts://cloud.example", "username": "u",
        "keep_alive": 1300,
    }]})
    line = line_of(gateway.file.read_text(), "keep_alive")
    refused(gateway, "iotedge.toml", line, r"upstream\.keep_alive", "1200 seconds")
