"""Thing groups: policies that are attached to a group speak for the things in it."""

import pytest

from harness.clients import Client, Refused
from harness.daemon import allow
from harness.wait import until

ARN = "arn:aws:iot:local:000000000000:"
POLICIES = {
    "connect": allow((["iot:Connect"], [ARN + "client/*"])),
    "speak": allow((["iot:Publish"], [ARN + "topic/house/${iot:Connection.Thing.ThingName}"])),
    "hush": {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Deny", "Action": "iot:Publish", "Resource": "*"}],
    },
}


def refused(client, topic):
    """In version 3.1.1 a denied publish ends the connection."""
    with pytest.raises(ConnectionError):
        client.publish(topic, b"x")
        client.publish(topic, b"x")


def test_the_policies_of_a_group_are_those_of_its_things(daemon):
    gateway = daemon(policies=POLICIES).start()
    lamp = gateway.cert("lamp", thing="lamp")
    other = gateway.cert("other", policy="connect")
    port = gateway.ports["mqtts"]
    with pytest.raises(Refused):
        Client("lamp", port, identity=lamp).connect()
    gateway.ctl_ok("thing-group", "create", "house")
    gateway.ctl_ok("thing-group", "create", "attic", "--parent", "house")
    gateway.ctl_ok("thing-group", "add", "attic", "lamp")
    gateway.ctl_ok("thing-group", "attach-policy", "house", "connect")
    client = Client("lamp", port, identity=lamp).connect()
    # In force at the next packet.
    gateway.ctl_ok("thing-group", "attach-policy", "attic", "speak")
    client.publish("house/lamp", b"on")
    gateway.ctl_ok("thing-group", "attach-policy", "house", "hush")
    refused(client, "house/lamp")
    question = ("--client-id", "lamp", "--action", "iot:Publish", "--resource", "house/lamp")
    done = gateway.ctl("policy", "explain", "--cert", lamp.id, *question)
    assert done.returncode == 1
    for words in (
        "policy     speak (of thing group attic)",
        "policy     connect (of thing group house)",
        "deny, by statement 1 of policy hush (of thing group house)",
    ):
        assert words in done.stdout, done.stdout
    gateway.ctl_ok("thing-group", "detach-policy", "house", "hush")
    # With another client id it does not speak for the thing, and who is not attached to the thing does
    # not become it by its name.
    with pytest.raises(Refused):
        Client("someone", port, identity=lamp).connect()
    refused(Client("lamp", port, identity=other).connect(), "house/lamp")
    # It is kept.
    gateway.restart()
    Client("lamp", port, identity=lamp).connect().publish("house/lamp", b"on")
    client = Client("lamp", port, identity=lamp).connect()
    gateway.ctl_ok("thing-group", "remove", "attic", "lamp")
    refused(client, "house/lamp")


def test_groups_by_command(daemon):
    gateway = daemon(policies=POLICIES).start()
    gateway.ctl_ok("thing", "create", "lamp")
    made = gateway.ctl_json("thing-group", "create", "house", "--description", "all of it")
    assert made["thingGroupArn"] == ARN + "thinggroup/house"
    gateway.ctl_ok("thing-group", "create", "attic", "--parent", "house")
    gateway.ctl_ok("thing-group", "add", "attic", "lamp")
    gateway.ctl_ok("thing-group", "attach-policy", "attic", "speak")
    shown = gateway.ctl_json("thing-group", "describe", "attic")
    assert (shown["parents"], shown["policies"], shown["things"]) == (["house"], ["speak"], ["lamp"])
    assert gateway.ctl_json("thing", "describe", "lamp")["thingGroups"] == ["attic"]
    assert gateway.ctl_json("policy", "show", "speak")["thingGroups"] == ["attic"]
    table = gateway.ctl_ok("thing-group", "list")
    assert [line.split() for line in table.splitlines()[1:]] == [
        ["attic", "house", "speak"],
        ["house", "-", "-"],
    ]
    for words, reason in (
        (("thing-group", "delete", "house"), "groups are in"),
        (("thing-group", "add", "house", "lamp"), "same topmost group"),
        (("thing-group", "add", "nowhere", "lamp"), "no thing group"),
        (("thing-group", "attach-policy", "house", "nothing"), "no policy"),
        (("thing-group", "detach-policy", "house", "speak"), "not attached"),
    ):
        done = gateway.ctl(*words)
        assert done.returncode == 1 and reason in done.stderr, (words, done.stderr)
    # A policy of a group stays as long as it is that.
    document = gateway.folder / "p.json"
    document.write_text('{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", '
                        '"Action": "iot:Connect", "Resource": "*"}]}')
    gateway.ctl_ok("policy", "create", "kept", document)
    gateway.ctl_ok("thing-group", "attach-policy", "house", "kept")
    done = gateway.ctl("policy", "delete", "kept")
    assert done.returncode == 1 and "thing group house" in done.stderr
    gateway.ctl_ok("thing-group", "detach-policy", "house", "kept")
    gateway.ctl_ok("policy", "delete", "kept")
    gateway.ctl_ok("thing-group", "delete", "attic")
    assert "thingGroups" not in gateway.ctl_json("thing", "describe", "lamp")


def test_a_policy_of_a_group_that_cannot_be_read_lets_nothing_through(daemon):
    gateway = daemon(policies=POLICIES).start()
    lamp = gateway.cert("lamp", policy="connect", thing="lamp")
    gateway.ctl_ok("thing-group", "create", "house")
    gateway.ctl_ok("thing-group", "add", "house", "lamp")
    gateway.ctl_ok("thing-group", "attach-policy", "house", "hush")
    Client("lamp", gateway.ports["mqtts"], identity=lamp).connect().disconnect()
    # Its file goes: it may have held a Deny.
    del gateway.policies["hush"]
    (gateway.file.parent / "policies.d/hush.json").unlink()
    gateway.ctl_ok("reload")

    def out():
        try:
            Client("lamp", gateway.ports["mqtts"], identity=lamp).connect().disconnect()
        except Refused:
            return True
        return False

    until(out, "nothing is allowed")
    gateway.log_has("the attached policy .*hush.* is not there")
