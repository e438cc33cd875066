"""A changed file takes effect at a reload, whole or not at all."""

import json
import signal

import pytest

from harness.clients import Client
from harness.wait import until


def copy_rule(to):
    return {
        "sql": "SELECT * FROM 'in/#'",
        "actions": [{"republish": {"topic": to, "roleArn": "arn:aws:iam::123456789012:role/r"}}],
    }


@pytest.fixture
def home(daemon):
    gateway = daemon(rules={"copy": copy_rule("out/first")}).start()
    client = Client("c", gateway.ports["mqtt"]).connect()
    client.subscribe("out/#", 1)
    yield gateway, client
    client.disconnect()


def goes_to(client):
    client.publish("in/x", b'{"a":1}')
    return client.next().topic


def test_a_changed_rule_takes_effect_and_clients_stay(home):
    gateway, client = home
    assert goes_to(client) == "out/first"
    gateway.rules["copy"] = copy_rule("out/second")
    gateway.write()
    assert goes_to(client) == "out/first"
    said = gateway.ctl_ok("reload")
    assert "copy" in said, said
    assert goes_to(client) == "out/second"
    assert client.connected


def test_a_mistake_keeps_the_old_world(home):
    gateway, client = home
    gateway.rules["copy"] = copy_rule("out/second")
    gateway.rules["broken"] = {**copy_rule("out/x"), "sql": "SELEKT"}
    gateway.write()
    done = gateway.ctl("reload")
    assert done.returncode == 1
    assert "broken.json" in done.stdout + done.stderr, done
    assert goes_to(client) == "out/first"
    (gateway.file.parent / "rules.d" / "broken.json").unlink()
    gateway.ctl_ok("reload")
    assert goes_to(client) == "out/second"


def test_sighup_reloads(home):
    gateway, client = home
    gateway.rules["copy"] = copy_rule("out/second")
    gateway.write()
    since = gateway.process.mark()
    gateway.process.signal(signal.SIGHUP)
    gateway.log_has(r"(?i)reload", since=since)
    until(lambda: goes_to(client) == "out/second", "the new rule is in force", every=0.05)


def test_a_changed_policy_takes_effect(home):
    gateway, client = home
    gateway.policies["open"] = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": "iot:*", "Resource": "*"},
            {
                "Effect": "Deny",
                "Action": "iot:Subscribe",
                "Resource": "arn:aws:iot:*:*:topicfilter/closed/*",
            },
        ],
    }
    assert client.subscribe("closed/a", 1) == 1
    gateway.write()
    gateway.ctl_ok("reload")
    assert client.subscribe("closed/b", 1) == 128
    assert client.subscribe("open/b", 1) == 1


def test_a_removed_rule_file_is_gone(home):
    gateway, client = home
    (gateway.file.parent / "rules.d" / "copy.json").unlink()
    gateway.ctl_ok("reload")
    client.publish("in/x", b'{"a":1}')
    client.publish("out/marker", b"m")
    assert client.next().topic == "out/marker"
    assert json.loads(gateway.ctl_ok("rule", "list", "--json")) == []
