"""3.10 and 3.11: UNSUBSCRIBE and UNSUBACK."""

import pytest
from conformance import wire


@pytest.mark.parametrize("flags", [0, 1, 3, 6, 10, 15])
def test_mqtt_3_10_1_1_other_flags_in_unsubscribe_close(mqtt, flags):
    mqtt.ends(wire.tampered(wire.unsubscribe([mqtt.topic()]), flags))


FILTERS = {
    "not-utf-8": wire.text(b"\xff/a"),
    "longer-than-the-packet": b"\0\x0aabc",
    "half-a-length": b"\0",
    "second-cut-short": wire.text("a") + b"\0\5b",
}


@pytest.mark.parametrize("name", FILTERS)
def test_mqtt_3_10_3_1_a_filter_that_is_no_string_closes(mqtt, name):
    mqtt.ends(wire.packet(wire.UNSUBSCRIBE, 2, wire.two(1) + FILTERS[name]))


def test_mqtt_3_10_3_2_an_unsubscribe_without_a_filter_closes(mqtt):
    mqtt.ends(wire.packet(wire.UNSUBSCRIBE, 2, wire.two(1)))


# What is unsubscribed matches or resembles what is subscribed, but is not the same.
SIMILAR = {
    "a/b": ["a/+", "a/#", "#", "+/b", "a", "a/b/", "A/B", "a/bc", "/a/b"],
    "a/+": ["a/b", "a/#", "+/b", "a/", "+"],
    "a/#": ["a", "a/b", "a/+", "#"],
}


@pytest.mark.parametrize("filter", SIMILAR)
def test_mqtt_3_10_4_1_filters_are_compared_by_their_characters(mqtt, filter):
    sub, pub = mqtt.subscriber((mqtt.topic(filter), 1)), mqtt.client()
    for similar in SIMILAR[filter]:
        sub.unsubscribe(mqtt.topic(similar))
    pub.publish(mqtt.topic("a/b"), b"still here")
    assert sub.take().payload == b"still here"


@pytest.mark.parametrize("filter", SIMILAR)
def test_mqtt_3_10_4_1_the_same_filter_removes_the_subscription(mqtt, filter):
    end = mqtt.topic("end")
    sub = mqtt.subscriber((mqtt.topic(filter), 1), (end, 1))
    sub.unsubscribe(mqtt.topic(filter))
    pub = mqtt.client()
    pub.publish(mqtt.topic("a/b"), b"gone")
    pub.publish(end)
    assert sub.until(end) == []


def test_mqtt_3_10_4_2_nothing_new_is_queued_after_unsubscribe(mqtt):
    end = mqtt.topic("end")
    sub = mqtt.subscriber((mqtt.topic(), 1), (end, 1), name="s", clean=False)
    pub = mqtt.client()
    pub.publish(mqtt.topic(), b"before")
    assert sub.take().payload == b"before"
    sub.unsubscribe(mqtt.topic())
    pub.publish(mqtt.topic(), b"connected")
    sub.leave()
    pub.publish(mqtt.topic(), b"away")
    pub.publish(end)
    assert mqtt.back("s").until(end) == []


@pytest.mark.parametrize("qos", [1, 2])
def test_mqtt_3_10_4_3_a_delivery_that_has_begun_is_finished(mqtt, qos):
    """The message is sent again after UNSUBSCRIBE, and its acknowledgement ends it."""
    sub = mqtt.subscriber((mqtt.topic(), qos), name="s", clean=False)
    mqtt.client().publish(mqtt.topic(), b"begun", qos)
    first = sub.expect(wire.PUBLISH)
    sub.unsubscribe(mqtt.topic())
    sub.close()
    sub = mqtt.back("s")
    again = sub.take()
    assert (again.payload, again.qos, again.packet_id) == (b"begun", qos, first.packet_id)
    sub.leave()
    sub = mqtt.back("s")
    sub.send(wire.pingreq())
    sub.expect(wire.PINGRESP)


def test_mqtt_3_10_4_3_the_handshake_of_qos_2_goes_on_after_unsubscribe(mqtt):
    sub = mqtt.subscriber((mqtt.topic(), 2))
    mqtt.client().publish(mqtt.topic(), b"begun", 2)
    message = sub.expect(wire.PUBLISH)
    sub.unsubscribe(mqtt.topic())
    sub.send(wire.pubrec(message.packet_id))
    assert sub.expect(wire.PUBREL).packet_id == message.packet_id
    sub.send(wire.pubcomp(message.packet_id))
    sub.ping()


@pytest.mark.parametrize("packet_id", [1, 255, 256, 65535])
def test_mqtt_3_10_4_4_unsuback_has_the_packet_id_of_unsubscribe(mqtt, packet_id):
    client = mqtt.subscriber((mqtt.topic(), 0))
    client.send(wire.unsubscribe([mqtt.topic()], packet_id))
    assert client.expect(wire.UNSUBACK).body == wire.two(packet_id)


def test_mqtt_3_10_4_5_unsuback_comes_even_if_there_was_no_subscription(mqtt):
    client = mqtt.client()
    for packet_id in (7, 8):
        client.send(wire.unsubscribe([mqtt.topic("never")], packet_id))
        assert client.expect(wire.UNSUBACK).body == wire.two(packet_id)


def test_mqtt_3_10_4_6_several_filters_are_like_several_unsubscribes(mqtt):
    end = mqtt.topic("end")
    names = [f"f{n}" for n in range(20)]
    sub = mqtt.subscriber(*((mqtt.topic(name), 1) for name in names), (end, 1))
    # Every second one, and two that are not there.
    gone = [mqtt.topic(name) for name in ["x", *names[::2], "y"]]
    sub.send(wire.unsubscribe(gone, 9), wire.pingreq())
    assert sub.expect(wire.UNSUBACK).body == wire.two(9)
    # One UNSUBACK: what is answered next is the PINGREQ.
    sub.expect(wire.PINGRESP)
    pub = mqtt.client()
    for name in names:
        pub.publish(mqtt.topic(name))
    pub.publish(end)
    assert [m.topic for m in sub.until(end)] == [mqtt.topic(name) for name in names[1::2]]
