"""SUBSCRIBE, SUBACK, UNSUBSCRIBE and UNSUBACK (3.8 to 3.11 in both)."""

import pytest
from conformance import wire

MALFORMED, PROTOCOL_ERROR = 0x81, 0x82
# 3.1.1 has no codes in UNSUBACK.
GONE, WAS_NOT_THERE = (None, [0]), (None, [0x11])
FLAGS = pytest.mark.parametrize("flags", [0, 1, 3, 6, 10, 15])
IDS = pytest.mark.parametrize("packet_id", [1, 255, 256, 65535])


def _request(mqtt, kind, body):
    """SUBSCRIBE or UNSUBSCRIBE with id 1 and this behind its properties."""
    return wire.packet(kind, 2, wire.two(1) + mqtt.no_properties + body)


@FLAGS
def other_flags_in_subscribe_close(mqtt, flags):
    mqtt.ends(wire.tampered(mqtt.wire.subscribe([(mqtt.topic(), 0)]), flags), code=MALFORMED)


def a_subscribe_without_a_filter_closes(mqtt):
    mqtt.ends(_request(mqtt, wire.SUBSCRIBE, b""), code=PROTOCOL_ERROR)


@pytest.mark.parametrize("old, new", [(0, 1), (1, 0)])
def the_same_filter_again_replaces_the_qos(mqtt, old, new):
    end = mqtt.topic("end")
    sub = mqtt.subscriber((mqtt.topic(), old), (end, 1))
    assert sub.subscribe((mqtt.topic(), new)) == [new]
    pub = mqtt.client()
    pub.publish(mqtt.topic(), b"x")
    pub.publish(end)
    assert [message.qos for message in sub.until(end)] == [new]


def the_same_filter_again_brings_the_retained_messages_again(mqtt):
    mqtt.client().publish(mqtt.topic("b"), b"kept", retain=True)
    sub = mqtt.client()
    for qos in (0, 1):
        assert sub.subscribe((mqtt.topic("+"), qos)) == [qos]
        got = sub.take()
        assert (got.payload, got.qos, got.retain) == (b"kept", qos, True)


def no_message_is_lost_to_a_replacement(mqtt, options):
    """Messages pour in while the subscription is made again and again, with one of the options
    after the other."""
    sub, pub = mqtt.subscriber((mqtt.topic(), 1)), mqtt.client()
    for n in range(1, 101):
        pub.send(mqtt.wire.publish(mqtt.topic(), b"%d" % n, qos=1, packet_id=n))
        if n % 5 == 0:
            again = (mqtt.topic(), options[n // 5 % len(options)])
            sub.send(mqtt.wire.subscribe([again], packet_id=n))
    got, subacks = [], 0
    while len(got) < 100 or subacks < 20:
        said = sub.receive()
        if said.kind == wire.PUBLISH:
            got.append(int(said.payload))
            sub.send(wire.puback(said.packet_id))
        else:
            assert said.kind == wire.SUBACK
            subacks += 1
    assert got == list(range(1, 101))


def several_filters_are_like_several_subscribes(mqtt, *pairs):
    """`pairs` are properties of the SUBSCRIBE. All that comes of it."""
    pub = mqtt.client()
    names = [f"f{n}" for n in range(30)]
    for name in names:
        pub.publish(mqtt.topic(name), b"kept", retain=True)
    sub = mqtt.client()
    filters = [(mqtt.topic(name), 1) for name in names]
    sub.send(mqtt.wire.subscribe(filters, *pairs, packet_id=5), wire.pingreq())
    answer = sub.await_packet(wire.SUBACK)
    assert (answer.packet_id, answer.codes) == (5, [1] * 30)
    # One SUBACK: what is answered next is the PINGREQ.
    sub.await_packet(wire.PINGRESP)
    kept = [sub.take() for _ in names]
    assert sorted(m.topic for m in kept) == sorted(mqtt.topic(name) for name in names)
    for name in names:
        pub.publish(mqtt.topic(name), b"news")
    news = [sub.take() for _ in names]
    assert [m.topic for m in news] == [mqtt.topic(name) for name in names]
    return kept + news


@IDS
def suback_has_the_packet_id_of_subscribe(mqtt, packet_id):
    client = mqtt.client()
    client.send(mqtt.wire.subscribe([(mqtt.topic(), 0)], packet_id=packet_id))
    answer = client.expect(wire.SUBACK)
    assert (answer.packet_id, answer.codes) == (packet_id, [0])


@pytest.mark.parametrize("qos", [0, 1, 2])
def each_filter_has_a_code(mqtt, qos):
    client = mqtt.client()
    filters = [(mqtt.topic(f"{n}"), qos) for n in range(4)]
    for count in range(1, 5):
        assert client.subscribe(*filters[:count]) == [qos] * count


@pytest.mark.parametrize("published", [0, 1, 2])
@pytest.mark.parametrize("granted", [0, 1, 2])
def the_qos_of_a_delivery_is_the_lower_one(mqtt, published, granted):
    sub = mqtt.subscriber((mqtt.topic(), granted))
    mqtt.client().publish(mqtt.topic(), b"x", qos=published)
    assert sub.take().qos == min(published, granted)


@FLAGS
def other_flags_in_unsubscribe_close(mqtt, flags):
    mqtt.ends(wire.tampered(mqtt.wire.unsubscribe([mqtt.topic()]), flags), code=MALFORMED)


NO_STRINGS = {
    "not-utf-8": wire.text(b"\xff/a"),
    "longer-than-the-packet": b"\0\x0aabc",
    "half-a-length": b"\0",
    "second-cut-short": wire.text("a") + b"\0\5b",
}


@pytest.mark.parametrize("name", NO_STRINGS)
def a_filter_to_unsubscribe_that_is_no_string_closes(mqtt, name):
    mqtt.ends(_request(mqtt, wire.UNSUBSCRIBE, NO_STRINGS[name]), code=MALFORMED)


def an_unsubscribe_without_a_filter_closes(mqtt):
    mqtt.ends(_request(mqtt, wire.UNSUBSCRIBE, b""), code=PROTOCOL_ERROR)


# What is unsubscribed matches or resembles what is subscribed, but is not the same.
SIMILAR = {
    "a/b": ["a/+", "a/#", "#", "+/b", "a", "a/b/", "A/B", "a/bc", "/a/b"],
    "a/+": ["a/b", "a/#", "+/b", "a/", "+"],
    "a/#": ["a", "a/b", "a/+", "#"],
}


@pytest.mark.parametrize("filter", SIMILAR)
def filters_are_compared_by_their_characters(mqtt, filter):
    sub, pub = mqtt.subscriber((mqtt.topic(filter), 1)), mqtt.client()
    for similar in SIMILAR[filter]:
        assert sub.unsubscribe(mqtt.topic(similar)) in WAS_NOT_THERE
    pub.publish(mqtt.topic("a/b"), b"still here")
    assert sub.take().payload == b"still here"


@pytest.mark.parametrize("filter", SIMILAR)
def the_same_filter_removes_the_subscription(mqtt, filter):
    end = mqtt.topic("end")
    sub = mqtt.subscriber((mqtt.topic(filter), 1), (end, 1))
    assert sub.unsubscribe(mqtt.topic(filter)) in GONE
    pub = mqtt.client()
    pub.publish(mqtt.topic("a/b"), b"gone")
    pub.publish(end)
    assert sub.until(end) == []


def nothing_new_is_queued_after_unsubscribe(mqtt):
    end = mqtt.topic("end")
    sub = mqtt.stored("s", (mqtt.topic(), 1), (end, 1))
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
def a_delivery_that_has_begun_is_finished(mqtt, qos):
    """The message is sent again after UNSUBSCRIBE, and its acknowledgement ends it."""
    sub = mqtt.stored("s", (mqtt.topic(), qos))
    mqtt.client().publish(mqtt.topic(), b"begun", qos=qos)
    first = sub.expect(wire.PUBLISH)
    sub.unsubscribe(mqtt.topic())
    sub.close()
    sub = mqtt.back("s")
    again = sub.take()
    assert (again.payload, again.qos, again.packet_id) == (b"begun", qos, first.packet_id)
    sub.leave()
    mqtt.back("s").is_quiet()


def the_handshake_of_qos_2_goes_on_after_unsubscribe(mqtt):
    sub = mqtt.subscriber((mqtt.topic(), 2))
    mqtt.client().publish(mqtt.topic(), b"begun", qos=2)
    message = sub.expect(wire.PUBLISH)
    sub.unsubscribe(mqtt.topic())
    sub.send(wire.pubrec(message.packet_id))
    sub.expect_ack(wire.PUBREL, message.packet_id)
    sub.send(wire.pubcomp(message.packet_id))
    sub.ping()


@IDS
def unsuback_has_the_packet_id_of_unsubscribe(mqtt, packet_id):
    """Also where there is no subscription any more."""
    client = mqtt.subscriber((mqtt.topic(), 0))
    for codes in (GONE, WAS_NOT_THERE):
        client.send(mqtt.wire.unsubscribe([mqtt.topic()], packet_id=packet_id))
        answer = client.expect(wire.UNSUBACK)
        assert answer.packet_id == packet_id and answer.codes in codes


def several_filters_are_like_several_unsubscribes(mqtt):
    end = mqtt.topic("end")
    names = [f"f{n}" for n in range(20)]
    sub = mqtt.subscriber(*((mqtt.topic(name), 1) for name in names), (end, 1))
    # Every second one, and two that are not there.
    gone = [mqtt.topic(name) for name in ["x", *names[::2], "y"]]
    sub.send(mqtt.wire.unsubscribe(gone, packet_id=9), wire.pingreq())
    answer = sub.expect(wire.UNSUBACK)
    assert answer.packet_id == 9 and answer.codes in (None, [0x11, *[0] * 10, 0x11])
    # One UNSUBACK: what is answered next is the PINGREQ.
    sub.expect(wire.PINGRESP)
    pub = mqtt.client()
    for name in names:
        pub.publish(mqtt.topic(name))
    pub.publish(end)
    assert [m.topic for m in sub.until(end)] == [mqtt.topic(name) for name in names[1::2]]
