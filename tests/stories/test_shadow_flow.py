"""The light bulb of the developer guide, step by step as it is published there."""

import json

import pytest

from harness import raw
from harness.clients import Client
from harness.daemon import allow

THING = "$aws/things/myLightBulb/shadow"
ANSWERS = [
    "update/accepted", "update/rejected", "update/delta",
    "get/accepted", "get/rejected", "delete/accepted", "delete/rejected",
]
WILL_RULE = {
    "rule": {
        "ruleDisabled": False,
        "sql": "SELECT * FROM 'my/things/myLightBulb/update'",
        "description": "Turn my/things/ into $aws/things/",
        "actions": [
            {
                "republish": {
                    "topic": "$aws/things/myLightBulb/shadow/update",
                    "roleArn": "arn:aws:iam::123456789012:role/aws_iam_republish",
                }
            }
        ],
    }
}
DEVICE = allow(
    (["iot:Connect"], ["arn:aws:iot:local:000000000000:client/*"]),
    (
        ["iot:Publish", "iot:Receive"],
        [
            "arn:aws:iot:local:000000000000:topic/$aws/things/myLightBulb/shadow/*",
            "arn:aws:iot:local:000000000000:topic/my/things/myLightBulb/*",
        ],
    ),
    (
        ["iot:Subscribe"],
        ["arn:aws:iot:local:000000000000:topicfilter/$aws/things/myLightBulb/shadow/*"],
    ),
    (
        ["iot:GetThingShadow", "iot:UpdateThingShadow", "iot:DeleteThingShadow"],
        ["arn:aws:iot:local:000000000000:thing/myLightBulb"],
    ),
)


class Bulb:
    """Sends requests and reads answers, with the documents parsed."""

    def __init__(self, client):
        self.client = client
        for answer in ANSWERS:
            assert client.subscribe(f"{THING}/{answer}", 1) == 1

    def ask(self, operation, document=None):
        payload = b"" if document is None else json.dumps(document).encode()
        self.client.publish(f"{THING}/{operation}", payload, qos=1)

    def answers(self, *wanted):
        """The next answers, which must be on `wanted`, in any order, and no others."""
        got = {}
        for message in self.client.collect(len(wanted)):
            got[message.topic.removeprefix(THING + "/")] = json.loads(message.payload)
        assert sorted(got) == sorted(wanted), got
        return [got[name] for name in wanted]

    def nothing_else(self):
        """No answer is left over: the next one is that of a request made now."""
        self.ask("get")
        message = self.client.next()
        assert message.topic.startswith(f"{THING}/get/"), message
        return json.loads(message.payload)


@pytest.fixture
def home(daemon):
    gateway = daemon(policies={"bulb": DEVICE}, rules={"wills": WILL_RULE}).start()
    device = gateway.cert("bulb", policy="bulb", thing="myLightBulb")
    client = Client("bulb", gateway.ports["mqtts"], identity=device).connect()
    yield gateway, device, Bulb(client)
    client.disconnect()


def test_shadow_flow(home):
    gateway, device, bulb = home

    # The light bulb comes online and reports its state.
    bulb.ask("update", {"state": {"reported": {"color": "red"}}})
    [accepted] = bulb.answers("update/accepted")
    t1 = accepted["timestamp"]
    assert accepted == {
        "state": {"reported": {"color": "red"}},
        "metadata": {"reported": {"color": {"timestamp": t1}}},
        "version": 1,
        "timestamp": t1,
    }

    # An application asks for the state.
    bulb.ask("get")
    [got] = bulb.answers("get/accepted")
    assert got == {
        "state": {"reported": {"color": "red"}},
        "metadata": {"reported": {"color": {"timestamp": t1}}},
        "version": 1,
        "timestamp": got["timestamp"],
    }
    assert got["timestamp"] >= t1

    # The user wants it green.
    bulb.ask("update", {"state": {"desired": {"color": "green"}}})
    accepted, delta = bulb.answers("update/accepted", "update/delta")
    t2 = accepted["timestamp"]
    assert accepted == {
        "state": {"desired": {"color": "green"}},
        "metadata": {"desired": {"color": {"timestamp": t2}}},
        "version": 2,
        "timestamp": t2,
    }
    assert delta == {
        "version": 2,
        "timestamp": t2,
        "state": {"color": "green"},
        "metadata": {"color": {"timestamp": t2}},
    }

    # The bulb changes its color and says so.
    bulb.ask("update", {"state": {"reported": {"color": "green"}, "desired": None}})
    [accepted] = bulb.answers("update/accepted")
    t3 = accepted["timestamp"]
    assert accepted == {
        "state": {"reported": {"color": "green"}, "desired": None},
        "metadata": {
            "reported": {"color": {"timestamp": t3}},
            "desired": {"timestamp": t3},
        },
        "version": 3,
        "timestamp": t3,
    }

    # The application reads it once more: aws iot-data get-thing-shadow is this request.
    status, text = gateway.https("GET", "/things/myLightBulb/shadow", device)
    document = json.loads(text)
    assert status == 200
    assert document == {
        "state": {"reported": {"color": "green"}},
        "metadata": {"reported": {"color": {"timestamp": t3}}},
        "version": 3,
        "timestamp": document["timestamp"],
    }

    # The will of a device, on a topic that is not reserved, and the rule that carries it over. The
    # guide's documents have no `state`, so the shadow refuses them and says why.
    published = {"reported": {"connected": "false"}}
    with raw.Connection(gateway.ports["mqtts"], identity=device) as link:
        will = ("my/things/myLightBulb/update", json.dumps(published).encode(), 1, False)
        link.connect("bulb-2", will=will)
        bulb.ask("update", {"reported": {"connected": "true"}})
        [rejected] = bulb.answers("update/rejected")
        assert (rejected["code"], rejected["message"]) == (400, "Missing required node: state")
    [rejected] = bulb.answers("update/rejected")
    assert (rejected["code"], rejected["message"]) == (400, "Missing required node: state")

    # The shadow is deleted; the answer carries the version that it had.
    bulb.ask("delete")
    [deleted] = bulb.answers("delete/accepted")
    assert deleted == {"version": 3, "timestamp": deleted["timestamp"]}
    gone = bulb.nothing_else()
    assert gone["code"] == 404, gone


def test_a_will_tells_that_the_bulb_is_gone(home):
    """The guide's will with the `state` that its example leaves out."""
    gateway, device, bulb = home
    lost = json.dumps({"state": {"reported": {"connected": "false"}}}).encode()
    with raw.Connection(gateway.ports["mqtts"], identity=device) as link:
        link.connect("bulb-2", will=("my/things/myLightBulb/update", lost, 1, False))
        bulb.ask("update", {"state": {"reported": {"connected": "true"}}})
        [accepted] = bulb.answers("update/accepted")
        assert accepted["state"] == {"reported": {"connected": "true"}}
    [accepted] = bulb.answers("update/accepted")
    assert accepted["state"] == {"reported": {"connected": "false"}}
    assert accepted["version"] == 2

    # Who says goodbye leaves no will.
    with raw.Connection(gateway.ports["mqtts"], identity=device) as link:
        link.connect("bulb-2", will=("my/things/myLightBulb/update", lost, 1, False))
        link.send(raw.disconnect())
        assert link.closed() == []
    assert bulb.nothing_else()["version"] == 2


def test_a_shadow_survives_a_kill(home):
    gateway, device, bulb = home
    bulb.ask("update", {"state": {"desired": {"color": "blue"}, "reported": {"color": "red"}}})
    bulb.answers("update/accepted", "update/delta")
    gateway.kill()
    gateway.start()
    status, text = gateway.https("GET", "/things/myLightBulb/shadow", device)
    document = json.loads(text)
    assert status == 200
    assert document["version"] == 1
    assert document["state"] == {
        "desired": {"color": "blue"}, "reported": {"color": "red"}, "delta": {"color": "blue"},
    }


def test_documents_carry_both_sides_of_a_change(home):
    _, _, bulb = home
    assert bulb.client.subscribe(f"{THING}/update/documents", 1) == 1
    bulb.ask("update", {"state": {"reported": {"on": True}}})
    _, first = bulb.answers("update/accepted", "update/documents")
    assert first["previous"] is None
    assert first["current"]["state"] == {"reported": {"on": True}}
    bulb.ask("update", {"state": {"reported": {"on": False}}})
    _, second = bulb.answers("update/accepted", "update/documents")
    assert second["previous"] == first["current"]
    assert second["current"]["version"] == 2


def test_a_will_on_a_reserved_topic_is_ignored(home):
    """The guide: "LWT messages sent to AWS IoT reserved topics are ignored"."""
    gateway, device, bulb = home
    with raw.Connection(gateway.ports["mqtts"], identity=device) as link:
        link.connect("bulb-2", will=(f"{THING}/update", b'{"state":{"reported":{"x":1}}}', 1, False))
        link.ping()
    gateway.log_has(r"Disconnect.*client_id=bulb-2")
    assert bulb.nothing_else()["code"] == 404
