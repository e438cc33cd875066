"""2: flags of the fixed header, packet ids, properties."""

import pytest
from both import sessions
from conformance import wire, wire5
from conformance.marks import not_mosquitto

UNCHECKED = not_mosquitto("takes any flags in it")
LATER = [
    pytest.param(wire.puback(1), id="puback", marks=UNCHECKED),
    pytest.param(wire.pubrec(1), id="pubrec", marks=UNCHECKED),
    pytest.param(wire.pubrel(1), id="pubrel"),
    pytest.param(wire.pubcomp(1), id="pubcomp", marks=UNCHECKED),
    pytest.param(wire5.subscribe([("a", 0)]), id="subscribe"),
    pytest.param(wire5.unsubscribe(["a"]), id="unsubscribe"),
    pytest.param(wire.pingreq(), id="pingreq", marks=UNCHECKED),
    pytest.param(wire5.disconnect(), id="disconnect"),
    pytest.param(wire5.auth(0x18, (wire5.AUTH_METHOD, "m")), id="auth"),
]


test_mqtt_2_1_3_1_what_the_server_sends_has_the_flags_of_the_table = (
    sessions.what_the_server_sends_has_the_flags_of_the_table
)
test_mqtt_2_1_3_1_the_acknowledgements_of_qos_2_have_the_flags_of_the_table = (
    sessions.the_acknowledgements_of_qos_2_have_the_flags_of_the_table
)


def test_mqtt_2_1_3_1_wrong_flags_in_connect_close(mqtt):
    """Before its version is known: it cannot be told."""
    for data in wire.wrong_flags(wire5.connect("flags")):
        mqtt.refused(data, code=None)


@pytest.mark.parametrize("right", LATER)
def test_mqtt_2_1_3_1_wrong_flags_in_later_packets_close(mqtt, right):
    for data in wire.wrong_flags(right):
        mqtt.ends(data, code=0x81)


test_mqtt_2_2_1_2_a_publish_of_qos_0_has_no_packet_id = sessions.a_publish_of_qos_0_has_no_packet_id
test_mqtt_2_2_1_3_packet_id_0_closes = sessions.packet_id_0_closes
test_mqtt_2_2_1_4_the_server_uses_no_packet_id_twice_at_a_time = (
    sessions.the_server_uses_no_packet_id_twice_at_a_time
)


def test_mqtt_2_2_1_4_a_new_message_takes_no_id_of_one_sent_again(mqtt):
    sub = mqtt.subscriber((mqtt.topic(), 1), name="s", pairs=[mqtt.STAYS])
    pub = mqtt.client()
    for n in range(3):
        pub.publish(mqtt.topic(), b"%d" % n)
    first = [sub.expect(wire.PUBLISH) for _ in range(3)]
    # Only the second is done.
    sub.send(wire.puback(first[1].packet_id))
    sub.ping()
    sub.close()
    sub = mqtt.back("s")
    again = [sub.expect(wire.PUBLISH) for _ in range(2)]
    assert [(m.payload, m.packet_id) for m in again] == [
        (m.payload, m.packet_id) for m in (first[0], first[2])
    ]
    for _ in range(3):
        pub.publish(mqtt.topic(), b"new")
    ids = [m.packet_id for m in again] + [sub.expect(wire.PUBLISH).packet_id for _ in range(3)]
    assert len(set(ids)) == 5


@pytest.mark.parametrize("packet_id", [1, 256, 65535])
def test_mqtt_2_2_1_5_puback_has_the_packet_id_of_its_publish(mqtt, packet_id):
    client = mqtt.subscriber((mqtt.topic(), 0))
    client.send(wire5.publish(mqtt.topic(), b"x", qos=1, packet_id=packet_id))
    assert client.await_packet(wire.PUBACK).packet_id == packet_id


test_mqtt_2_2_1_5_pubrec_pubrel_and_pubcomp_have_the_packet_id_of_their_publish = (
    sessions.pubrec_pubrel_and_pubcomp_have_the_packet_id_of_their_publish
)
test_mqtt_2_2_1_6_suback_and_unsuback_have_the_packet_id_of_their_request = (
    sessions.suback_and_unsuback_have_the_packet_id_of_their_request
)


def test_mqtt_2_2_2_1_the_server_says_that_there_are_no_properties(mqtt):
    client, pub = mqtt.client(), mqtt.client()
    client.send(wire5.subscribe([(mqtt.topic(), 1)], packet_id=7))
    assert client.expect(wire.SUBACK).body == b"\0\7\0\1"
    pub.publish(mqtt.topic(), b"x", qos=0)
    assert client.expect(wire.PUBLISH).body == wire.text(mqtt.topic()) + b"\0x"
    pub.publish(mqtt.topic(), b"", qos=1)
    got = client.expect(wire.PUBLISH)
    assert got.body == wire.text(mqtt.topic()) + wire.two(got.packet_id) + b"\0"
    client.send(wire5.unsubscribe([mqtt.topic()], packet_id=8))
    assert client.expect(wire.UNSUBACK).body == b"\0\x08\0\0"


HEAD = wire.text("MQTT") + b"\x05\x02" + wire.two(60)
NO_LENGTH = {
    "publish": wire.packet(wire.PUBLISH, 0, wire.text("a")),
    "publish-qos-1": wire.packet(wire.PUBLISH, 2, wire.text("a") + b"\0\1"),
    "subscribe": wire.packet(wire.SUBSCRIBE, 2, b"\0\1"),
    "unsubscribe": wire.packet(wire.UNSUBSCRIBE, 2, b"\0\1"),
    "auth": wire.packet(wire5.AUTH, 0, b"\x18"),
}


@pytest.mark.parametrize("name", NO_LENGTH)
def test_mqtt_2_2_2_1_a_packet_without_a_property_length_closes(mqtt, name):
    mqtt.ends(NO_LENGTH[name], code=0x81)


def test_mqtt_2_2_2_1_a_connect_without_a_property_length_closes(mqtt):
    """With nothing behind the keep alive, with a client id there, and with a will without one."""
    mqtt.refused(wire.packet(wire.CONNECT, 0, HEAD), code=0x81)
    will = wire.text("topic") + wire.text("payload")
    head = wire.text("MQTT") + b"\x05\x06" + wire.two(60) + b"\0"
    mqtt.refused(wire.packet(wire.CONNECT, 0, head + wire.text(mqtt.id()) + will), code=0x81)


def test_mqtt_2_2_2_1_the_short_forms_have_no_property_length(mqtt):
    """Of PUBACK with and without a reason code, and of DISCONNECT."""
    sub = mqtt.subscriber((mqtt.topic(), 1))
    pub = mqtt.client()
    for tail in (b"", b"\0", b"\0\0", b"\x10"):
        pub.publish(mqtt.topic(), b"x")
        got = sub.expect(wire.PUBLISH)
        sub.send(wire.packet(wire.PUBACK, 0, wire.two(got.packet_id) + tail))
        sub.ping()
    for body in (b"", b"\0", b"\0\0"):
        client = mqtt.client(will=(mqtt.topic(), b"will", 1, ()))
        client.send(wire.packet(wire.DISCONNECT, 0, body))
        assert client.closed() == []
    pub.publish(mqtt.topic(), b"end")
    assert sub.take().payload == b"end"


def prop(id, value=b""):
    """A section of one property, written by the byte."""
    return wire.length(1 + len(value)) + bytes([id]) + value


def in_publish(section):
    return wire.packet(wire.PUBLISH, 0, wire.text("a") + section + b"x")


def in_subscribe(section):
    return wire.packet(wire.SUBSCRIBE, 2, b"\0\1" + section + wire.text("a") + b"\0")


def twice(*pair):
    return wire5.properties(pair, pair)


# Rules of 2.2.2 and of each packet's properties that have no number of their own.
BAD_PROPERTIES = {
    "none-of-the-table": (in_publish(prop(0x7F)), 0x81),
    "none-of-the-table-in-two-bytes": (in_publish(b"\2\x80\1"), 0x81),
    "cut-short": (in_publish(b"\3\2\0\0"), 0x81),
    "longer-than-the-packet": (wire.packet(wire.PUBLISH, 0, wire.text("a") + b"\x05\1\0"), 0x81),
    "connects": (in_publish(wire5.properties((wire5.SESSION_EXPIRY, 1))), 0x81),
    "publishs-in-subscribe": (in_subscribe(wire5.properties((wire5.ALIAS, 1))), 0x81),
    "payload-format-twice": (in_publish(twice(wire5.PAYLOAD_FORMAT, 0)), 0x82),
    "message-expiry-twice": (in_publish(twice(wire5.MESSAGE_EXPIRY, 9)), 0x82),
    "topic-alias-twice": (in_publish(twice(wire5.ALIAS, 1)), 0x82),
    "response-topic-twice": (in_publish(twice(wire5.RESPONSE_TOPIC, "r")), 0x82),
    "correlation-data-twice": (in_publish(twice(wire5.CORRELATION, b"r")), 0x82),
    "content-type-twice": (in_publish(twice(wire5.CONTENT_TYPE, "r")), 0x82),
    "payload-format-2": (in_publish(wire5.properties((wire5.PAYLOAD_FORMAT, 2))), 0x82),
    "subscription-identifier-twice": (in_subscribe(twice(wire5.SUBSCRIPTION_ID, 1)), 0x82),
    "subscription-identifier-0": (in_subscribe(b"\2\x0b\0"), 0x82),
}


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=not_mosquitto("takes it") if name == "payload-format-2" else ())
    for name in BAD_PROPERTIES
])
def test_mqtt_4_13_1_1_properties_that_cannot_be_close(mqtt, name):
    data, code = BAD_PROPERTIES[name]
    mqtt.ends(data, code=code)
