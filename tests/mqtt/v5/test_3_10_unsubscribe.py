"""3.10 and 3.11: UNSUBSCRIBE and UNSUBACK."""

import pytest
from conformance import wire, wire5
from conformance.marks import not_mosquitto

MALFORMED, PROTOCOL_ERROR = 0x81, 0x82
GONE, WAS_NOT_THERE, INVALID = 0, 0x11, 0x8F


def raw_unsubscribe(body):
    return wire.packet(wire.UNSUBSCRIBE, 2, wire.two(1) + b"\0" + body)


@pytest.mark.parametrize("flags", [0, 1, 3, 6, 10, 15])
def test_mqtt_3_10_1_1_other_flags_in_unsubscribe_close(mqtt, flags):
    mqtt.ends(wire.tampered(wire5.unsubscribe([mqtt.topic()]), flags), code=MALFORMED)


FILTERS = {
    "not-utf-8": wire.text(b"\xff/a"),
    "longer-than-the-packet": b"\0\x0aabc",
    "half-a-length": b"\0",
    "second-cut-short": wire.text("a") + b"\0\5b",
}


@pytest.mark.parametrize("name", FILTERS)
def test_mqtt_3_10_3_1_a_filter_that_is_no_string_closes(mqtt, name):
    mqtt.ends(raw_unsubscribe(FILTERS[name]), code=MALFORMED)


def test_mqtt_3_10_3_2_an_unsubscribe_without_a_filter_closes(mqtt):
    mqtt.ends(raw_unsubscribe(b""), code=PROTOCOL_ERROR)


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
        assert sub.unsubscribe(mqtt.topic(similar)) == [WAS_NOT_THERE]
    pub.publish(mqtt.topic("a/b"), b"still here")
    assert sub.take().payload == b"still here"


@pytest.mark.parametrize("filter", SIMILAR)
def test_mqtt_3_10_4_1_the_same_filter_removes_the_subscription(mqtt, filter):
    end = mqtt.topic("end")
    sub = mqtt.subscriber((mqtt.topic(filter), 1), (end, 1))
    assert sub.unsubscribe(mqtt.topic(filter)) == [GONE]
    pub = mqtt.client()
    pub.publish(mqtt.topic("a/b"), b"gone")
    pub.publish(end)
    assert sub.until(end) == []


def test_mqtt_3_10_4_2_nothing_new_is_queued_after_unsubscribe(mqtt):
    end = mqtt.topic("end")
    sub = mqtt.subscriber((mqtt.topic(), 1), (end, 1), name="s", pairs=[mqtt.STAYS])
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
    sub = mqtt.subscriber((mqtt.topic(), qos), name="s", pairs=[mqtt.STAYS])
    mqtt.client().publish(mqtt.topic(), b"begun", qos=qos)
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
    mqtt.client().publish(mqtt.topic(), b"begun", qos=2)
    message = sub.expect(wire.PUBLISH)
    sub.unsubscribe(mqtt.topic())
    sub.send(wire.pubrec(message.packet_id))
    answer = sub.expect(wire.PUBREL)
    assert (answer.packet_id, answer.code) == (message.packet_id, 0)
    sub.send(wire.pubcomp(message.packet_id))
    sub.ping()


def test_mqtt_3_10_4_4_every_unsubscribe_is_answered(mqtt):
    client = mqtt.client()
    client.send(*(
        wire5.unsubscribe([mqtt.topic(f"{n}")], (wire5.USER, ("a", "b")), packet_id=n)
        for n in range(1, 21)
    ))
    answers = [client.expect(wire.UNSUBACK) for _ in range(20)]
    assert sorted(answer.packet_id for answer in answers) == list(range(1, 21))


@pytest.mark.parametrize("packet_id", [1, 255, 256, 65535])
def test_mqtt_3_10_4_5_unsuback_has_the_packet_id_of_unsubscribe(mqtt, packet_id):
    client = mqtt.subscriber((mqtt.topic(), 0))
    for code in (GONE, WAS_NOT_THERE):
        client.send(wire5.unsubscribe([mqtt.topic()], packet_id=packet_id))
        answer = client.expect(wire.UNSUBACK)
        assert (answer.packet_id, answer.codes) == (packet_id, [code])


def test_mqtt_3_10_4_6_several_filters_are_like_several_unsubscribes(mqtt):
    end = mqtt.topic("end")
    names = [f"f{n}" for n in range(20)]
    sub = mqtt.subscriber(*((mqtt.topic(name), 1) for name in names), (end, 1))
    # Every second one, and two that are not there.
    gone = [mqtt.topic(name) for name in ["x", *names[::2], "y"]]
    sub.send(wire5.unsubscribe(gone, packet_id=9), wire.pingreq())
    answer = sub.expect(wire.UNSUBACK)
    assert answer.packet_id == 9
    assert answer.codes == [WAS_NOT_THERE, *[GONE] * 10, WAS_NOT_THERE]
    # One UNSUBACK: what is answered next is the PINGREQ.
    sub.expect(wire.PINGRESP)
    pub = mqtt.client()
    for name in names:
        pub.publish(mqtt.topic(name))
    pub.publish(end)
    assert [m.topic for m in sub.until(end)] == [mqtt.topic(name) for name in names[1::2]]


def test_mqtt_3_11_2_1_unsuback_fits_into_the_maximum_packet_size(mqtt):
    """Whatever there is to explain: neither Reason String nor User Property makes it too long."""
    size = mqtt.client().connect_answer.size
    client = mqtt.client(None, (wire5.MAXIMUM_PACKET, size))
    for filter in (mqtt.topic(), mqtt.topic("x" * 500)):
        client.send(wire5.unsubscribe([filter]))
        answer = client.expect(wire.UNSUBACK)
        assert answer.codes == [WAS_NOT_THERE] and answer.size <= size


def test_mqtt_3_11_3_1_codes_of_unsuback_are_in_the_order_of_the_filters(mqtt):
    client = wire5.client(mqtt, "s")
    client.subscribe((mqtt.topic(), 0))
    client.send(wire5.unsubscribe([mqtt.topic("b"), mqtt.topic()]))
    assert client.expect(wire.UNSUBACK).codes == [0x11, 0]


@not_mosquitto("closes for a filter that is none")
def test_mqtt_3_11_3_2_codes_say_what_became_of_each_filter(mqtt):
    """`wire5` reads only codes of the table."""
    client = mqtt.subscriber((mqtt.topic(), 0))
    answer = client.unsubscribe(mqtt.topic("b"), "a/#/b", mqtt.topic(), mqtt.topic())
    assert answer == [WAS_NOT_THERE, INVALID, GONE, WAS_NOT_THERE]
