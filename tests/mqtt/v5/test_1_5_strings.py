"""1.5.4 to 1.5.7: strings are UTF-8 and nothing less, numbers are no longer than they need be."""

import pytest
from both import strings
from both.strings import NOT_UTF_8
from conformance import wire, wire5
from conformance.marks import not_mosquitto


def willed(*pairs, topic="w"):
    return wire5.connect("w", will=(topic, b"", 0, pairs))


IN_CONNECT = {
    "client-id": lambda bad: wire5.connect(bad),
    "user-name": lambda bad: wire5.connect("u", user=bad),
    "authentication-method": lambda bad: wire5.connect("a", (wire5.AUTH_METHOD, bad)),
    "will-topic": lambda bad: willed(topic=bad),
    "will-content-type": lambda bad: willed((wire5.CONTENT_TYPE, bad)),
    "will-response-topic": lambda bad: willed((wire5.RESPONSE_TOPIC, bad)),
}

IN_LATER_PACKETS = {
    "topic": lambda bad: wire5.publish(bad, b"x"),
    "topic-qos-1": lambda bad: wire5.publish(bad, b"x", qos=1),
    "content-type": lambda bad: wire5.publish("a", b"x", (wire5.CONTENT_TYPE, bad)),
    "response-topic": lambda bad: wire5.publish("a", b"x", (wire5.RESPONSE_TOPIC, bad)),
    "filter": lambda bad: wire5.subscribe([(bad, 0)]),
    "second-filter": lambda bad: wire5.subscribe([("a", 0), (bad, 0)]),
    "filter-to-unsubscribe": lambda bad: wire5.unsubscribe([bad]),
    "reason-string-of-puback": lambda bad: wire5.ack(wire.PUBACK, 1, 0, (wire5.REASON_STRING, bad)),
}

PAIR_IN_CONNECT = {
    "connect": lambda pair: wire5.connect("u", (wire5.USER, pair)),
    "will": lambda pair: willed((wire5.USER, pair)),
}

PAIR_IN_LATER_PACKETS = {
    "publish": lambda pair: wire5.publish("a", b"x", (wire5.USER, pair)),
    "puback": lambda pair: wire5.ack(wire.PUBACK, 1, 0, (wire5.USER, pair)),
    "subscribe": lambda pair: wire5.subscribe([("a", 0)], (wire5.USER, pair)),
    "unsubscribe": lambda pair: wire5.unsubscribe(["a"], (wire5.USER, pair)),
}


@pytest.mark.parametrize("bad", NOT_UTF_8.values(), ids=NOT_UTF_8)
@pytest.mark.parametrize("where", IN_CONNECT)
def test_mqtt_1_5_4_1_ill_formed_utf_8_in_connect_closes(mqtt, where, bad):
    mqtt.refused(IN_CONNECT[where](bad), code=0x81)


@pytest.mark.parametrize("bad", NOT_UTF_8.values(), ids=NOT_UTF_8)
@pytest.mark.parametrize("where", IN_LATER_PACKETS)
def test_mqtt_1_5_4_1_ill_formed_utf_8_in_later_packets_closes(mqtt, where, bad):
    mqtt.ends(IN_LATER_PACKETS[where](bad), code=0x81)


@pytest.mark.parametrize("bad", NOT_UTF_8.values(), ids=NOT_UTF_8)
def test_mqtt_1_5_4_1_an_ill_formed_protocol_name_closes(mqtt, bad):
    """Whose version is unknown: it cannot be told."""
    mqtt.refused(wire5.connect("p", name=bad), code=None)


@pytest.mark.parametrize("bad", [b"\0", b"a\0b"], ids=["alone", "inside"])
@pytest.mark.parametrize("where", IN_CONNECT)
def test_mqtt_1_5_4_2_nul_in_connect_closes(mqtt, where, bad):
    mqtt.refused(IN_CONNECT[where](bad), code=0x81)


@pytest.mark.parametrize("bad", [b"\0", b"a\0b"], ids=["alone", "inside"])
@pytest.mark.parametrize("where", IN_LATER_PACKETS)
def test_mqtt_1_5_4_2_nul_in_later_packets_closes(mqtt, where, bad):
    mqtt.ends(IN_LATER_PACKETS[where](bad), code=0x81)


def test_mqtt_1_5_4_3_a_byte_order_mark_is_a_character_and_kept(mqtt):
    mark = "\ufeff"
    pairs = [(wire5.CONTENT_TYPE, mark), (wire5.USER, (mark, mark))]
    for message in strings.a_byte_order_mark_is_a_character_and_kept(mqtt, *pairs):
        assert message.properties == pairs


# What a variable byte integer must not look like, with the number that it would be.
TOO_LONG = {
    "0-in-2": (0, b"\x80\x00"),
    "0-in-4": (0, b"\x80\x80\x80\x00"),
    "7-in-2": (7, b"\x87\x00"),
    "127-in-3": (127, b"\xff\x80\x00"),
    "128-in-3": (128, b"\x80\x81\x00"),
    "5-bytes": (0, b"\x80\x80\x80\x80\x01"),
}


def user_properties(size):
    """User properties of that many bytes."""
    return b"" if size == 0 else b"\x26\0\0" + wire.text(b"x" * (size - 5))


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=not_mosquitto("takes it") if name in ("0-in-2", "0-in-4") else ())
    for name, (size, _) in TOO_LONG.items() if size != 7
])
def test_mqtt_1_5_5_1_a_remaining_length_of_too_many_bytes_closes(mqtt, name):
    size, written = TOO_LONG[name]
    if size == 0:
        data = bytes([wire.PINGREQ << 4]) + written
    else:
        body = wire5.publish(mqtt.topic(), b"x" * size)[2:][:size]
        data = bytes([wire.PUBLISH << 4]) + written + body
    mqtt.ends(data, code=0x81)


@pytest.mark.parametrize("name", TOO_LONG)
def test_mqtt_1_5_5_1_a_property_length_of_too_many_bytes_closes(mqtt, name):
    size, written = TOO_LONG[name]
    section = written + user_properties(size)
    head = wire.text("MQTT") + b"\x05\x02" + wire.two(60)
    connect = wire.packet(wire.CONNECT, 0, head + section + wire.text(mqtt.id()))
    mqtt.refused(connect, code=0x81)
    publish = wire.packet(wire.PUBLISH, 0, wire.text(mqtt.topic()) + section + b"x")
    mqtt.ends(publish, code=0x81)
    subscribe = wire.two(1) + section + wire.text(mqtt.topic()) + b"\0"
    mqtt.ends(wire.packet(wire.SUBSCRIBE, 2, subscribe), code=0x81)


@pytest.mark.parametrize("written", [b"\x81\x00", b"\xff\x80\x00", b"\x80\x80\x80\x80\x01"])
def test_mqtt_1_5_5_1_a_subscription_identifier_of_too_many_bytes_closes(mqtt, written):
    section = bytes([1 + len(written), wire5.SUBSCRIPTION_ID]) + written
    body = wire.two(1) + section + wire.text(mqtt.topic()) + b"\0"
    mqtt.ends(wire.packet(wire.SUBSCRIBE, 2, body), code=0x81)


def test_mqtt_1_5_5_1_the_servers_numbers_are_no_longer_than_they_need_be(mqtt):
    """Around each length where one more byte begins; `wire5` reads strictly."""
    client = mqtt.client()
    for identifier in (127, 128, 16_383, 16_384, 2_097_151, 2_097_152, 268_435_455):
        client.subscribe((mqtt.topic(), 0), pairs=[(wire5.SUBSCRIPTION_ID, identifier)])
        client.publish(mqtt.topic(), qos=0)
        assert client.take().all(wire5.SUBSCRIPTION_ID) == [identifier]
    client.unsubscribe(mqtt.topic())
    client.subscribe((mqtt.topic(), 0))
    for size in (127, 128, 16_383, 16_384):
        user = (wire5.USER, ("n", "x" * (size - 6)))
        client.publish(mqtt.topic(), b"", user, qos=0)
        got = client.take()
        assert got.all(wire5.USER) == [user[1]]
        assert got.body == wire.text(mqtt.topic()) + wire5.properties(user)


@pytest.mark.parametrize("bad", [*NOT_UTF_8.values(), b"a\0b"], ids=[*NOT_UTF_8, "nul"])
@pytest.mark.parametrize("where", PAIR_IN_CONNECT)
def test_mqtt_1_5_7_1_a_bad_string_of_a_pair_in_connect_closes(mqtt, where, bad):
    for pair in ((bad, "value"), ("name", bad)):
        mqtt.refused(PAIR_IN_CONNECT[where](pair), code=0x81)


@pytest.mark.parametrize("bad", [*NOT_UTF_8.values(), b"a\0b"], ids=[*NOT_UTF_8, "nul"])
@pytest.mark.parametrize("where", PAIR_IN_LATER_PACKETS)
def test_mqtt_1_5_7_1_a_bad_string_of_a_pair_in_later_packets_closes(mqtt, where, bad):
    for pair in ((bad, "value"), ("name", bad)):
        mqtt.ends(PAIR_IN_LATER_PACKETS[where](pair), code=0x81)
