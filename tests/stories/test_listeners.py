"""What a listener says for itself, others do not: limits of its own, several protocols on its port."""

import pytest
from conformance import wire, wire5
from harness.ports import free_port
from harness.wait import until


@pytest.fixture
def doors(daemon):
    """A gateway with a listener of these keys; the ports of the open one and of that one."""
    opened = []

    def make(**keys):
        port = free_port()
        gateway = daemon()
        gateway.config["listener"].append({
            "protocol": "mqtt", "address": f"127.0.0.1:{port}", "auth": "anonymous",
            "policy": "open", **keys,
        })
        gateway.write()
        gateway.start()

        def dial(port, kind=wire5.Client):
            opened.append(kind(port))
            return opened[-1]

        return dial, gateway.ports["mqtt"], port

    yield make
    for client in opened:
        client.close()


def test_max_qos_holds_on_its_listener(doors):
    dial, wide, narrow = doors(max_qos=0)
    client = dial(narrow)
    assert client.connect("c").one(wire5.MAXIMUM_QOS) == 0
    assert client.subscribe(("a", 1)) == [0]
    client.publish("a", b"0", qos=0)
    assert client.take().payload == b"0"
    client.send(wire5.publish("a", b"1", qos=1))
    client.thrown_out(0x9B)
    old = dial(narrow, wire.Client)
    old.connect("old")
    assert old.subscribe(("a", 1)) == [0]
    old.send(wire.publish("a", b"1", 1, 7))
    old.thrown_out()
    will = dial(narrow, wire5.Client)
    will.send(wire5.connect("will", will=("a", b"", 1, ())))
    will.thrown_out(0x9B, wire.CONNACK)
    client = dial(wide)
    client.connect("c")
    assert client.subscribe(("a", 1)) == [1]
    assert client.publish("a", b"1", qos=1) == 0


def test_max_topic_alias_holds_on_its_listener(doors):
    dial, wide, narrow = doors(max_topic_alias=2)
    assert dial(wide).connect("w").one(wire5.ALIAS_MAXIMUM) == 32
    client = dial(narrow)
    assert client.connect("c", (wire5.ALIAS_MAXIMUM, 10)).one(wire5.ALIAS_MAXIMUM) == 2
    client.subscribe(("a/+", 0))
    for name in "xyzxyz":
        client.publish(f"a/{name}", b"", qos=0)
    got = [client.take() for _ in range(6)]
    assert [(m.topic, m.all(wire5.ALIAS)) for m in got] == [
        ("a/x", [1]), ("a/y", [2]), ("a/z", []), ("", [1]), ("", [2]), ("a/z", []),
    ]
    client.send(wire5.publish("a/x", b"", (wire5.ALIAS, 3)))
    client.thrown_out(0x94)


def test_a_listener_may_want_client_ids(doors):
    dial, wide, narrow = doors(allow_empty_client_id=False)
    for clean in (True, False):
        old = dial(narrow, wire.Client)
        old.send(wire.connect("", clean=clean))
        [answer] = old.closed()
        assert (answer.kind, answer.code) == (wire.CONNACK, 2)
    new = dial(narrow)
    new.send(wire5.connect(""))
    new.thrown_out(0x85, wire.CONNACK)
    dial(narrow).connect("named")
    dial(wide, wire.Client).connect("")
    assert dial(wide).connect("").one(wire5.ASSIGNED_ID)


def test_max_connections_counts_those_of_its_listener(doors):
    dial, wide, narrow = doors(max_connections=2)
    first, second = dial(narrow), dial(narrow)
    first.connect("first")
    second.connect("second")
    for _ in range(3):
        assert dial(narrow).closed() == []
    dial(wide).connect("elsewhere")
    first.leave()

    def connected():
        client = dial(narrow, wire.Client)
        try:
            client.connect("third")
        except (wire.Closed, ConnectionError):
            return False
        return True

    until(connected, "the place of the client that left is free")
