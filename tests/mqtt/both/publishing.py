"""PUBLISH and its first answer (3.3 in both)."""

import pytest
from conformance import wire

MALFORMED = 0x81


@pytest.mark.parametrize("qos", [1, 2])
def a_message_sent_again_has_dup(mqtt, qos):
    sub = mqtt.stored("s", (mqtt.topic(), qos))
    mqtt.client().publish(mqtt.topic(), b"x", qos=qos)
    assert not sub.expect(wire.PUBLISH).dup
    sub.close()
    again = mqtt.back("s").take()
    assert (again.payload, again.qos, again.dup) == (b"x", qos, True)


def qos_0_is_sent_without_dup(mqtt):
    sub = mqtt.subscriber((mqtt.topic(), 0))
    mqtt.client().publish(mqtt.topic(), b"x", qos=1, dup=True)
    got = sub.take()
    assert (got.qos, got.dup) == (0, False)


@pytest.mark.parametrize("qos", [1, 2])
def dup_is_not_passed_on(mqtt, qos):
    sub = mqtt.subscriber((mqtt.topic(), qos))
    mqtt.client().publish(mqtt.topic(), b"x", qos=qos, dup=True)
    assert not sub.take().dup


def both_qos_bits_close(mqtt):
    for flags in (0b0110, 0b1110, 0b0111):
        body = wire.text(mqtt.topic()) + wire.two(1) + mqtt.no_properties
        mqtt.ends(wire.packet(wire.PUBLISH, flags, body), code=MALFORMED)


BODIES = {
    "nothing": b"",
    "half-a-length": b"\0",
    "topic-longer-than-the-packet": b"\0\x0aabc",
    "not-utf-8": wire.text(b"\xff"),
}


@pytest.mark.parametrize("name", BODIES)
def a_publish_that_does_not_begin_with_a_topic_closes(mqtt, name):
    behind = mqtt.no_properties if name == "not-utf-8" else b""
    mqtt.ends(wire.packet(wire.PUBLISH, 0, BODIES[name] + behind), code=MALFORMED)


def a_delivered_topic_matches_the_filter(mqtt):
    end = mqtt.topic("end")
    filters = {"a/b": ["a/b"], "a/+": ["a/b", "a/c"], "a/#": ["a", "a/b", "a/c", "a/c/d"]}
    subs = {f: mqtt.subscriber((mqtt.topic(f), 0), (end, 0)) for f in filters}
    pub = mqtt.client()
    for name in ("a", "a/b", "a/c", "a/c/d", "b"):
        pub.publish(mqtt.topic(name), name.encode(), qos=0)
    pub.publish(end, qos=0)
    for name, sub in subs.items():
        got = [(message.topic, message.payload) for message in sub.until(end)]
        assert got == [(mqtt.topic(t), t.encode()) for t in filters[name]]


def qos_0_is_not_answered_qos_1_with_puback(mqtt):
    client = mqtt.client()
    client.send(
        mqtt.wire.publish(mqtt.topic(), b"x"),
        mqtt.wire.publish(mqtt.topic(), b"x", qos=1, packet_id=5), wire.pingreq(),
    )
    answers = [client.receive(), client.receive()]
    assert sorted(answer.kind for answer in answers) == [wire.PUBACK, wire.PINGRESP]


def qos_2_is_answered_with_pubrec(mqtt):
    client = mqtt.client()
    client.send(mqtt.wire.publish(mqtt.topic(), b"x", qos=2, packet_id=5))
    client.expect_ack(wire.PUBREC, 5)


# What is retained.


@pytest.mark.parametrize("qos", [0, 1, 2])
def retain_keeps_the_message_and_its_qos(mqtt, qos):
    pub = mqtt.client()
    pub.publish(mqtt.topic(), b"kept", qos=qos, retain=True)
    pub.ping()
    for granted in (0, 1) if qos < 2 else (0, 1, 2):
        got = mqtt.subscriber((mqtt.topic(), granted)).take()
        assert (got.payload, got.qos, got.retain) == (b"kept", min(qos, granted), True)


def a_message_without_retain_changes_nothing_kept(mqtt):
    end = mqtt.topic("end")
    pub = mqtt.client()
    pub.publish(mqtt.topic(), b"kept", retain=True)
    for payload in (b"passing", b""):
        pub.publish(mqtt.topic(), payload)
        pub.publish(mqtt.topic("other"), payload)
    sub = mqtt.subscriber((mqtt.topic("+"), 1))
    pub.publish(end)
    assert [(m.topic, m.payload) for m in sub.until(end)] == [(mqtt.topic(), b"kept")]


def an_empty_retained_message_is_not_kept(mqtt, *pairs):
    """Nor is one with properties."""
    end = mqtt.topic("end")
    pub = mqtt.client()
    pub.publish(mqtt.topic(), b"", *pairs, retain=True)
    sub = mqtt.subscriber((mqtt.topic("+"), 1))
    pub.publish(end)
    assert sub.until(end) == []
