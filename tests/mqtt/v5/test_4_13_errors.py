"""4.13: a violation closes the connection on which it was made, and no other."""

import pytest
from both import errors
from conformance import wire, wire5
from conformance.marks import not_mosquitto

MALFORMED, PROTOCOL_ERROR = 0x81, 0x82


def body(kind, data, flags=0):
    return wire.packet(kind, flags, data)


# What cannot be read, and what may not be said.
VIOLATIONS = {
    "packet-type-0": (b"\x00\x00", MALFORMED),
    "second-connect": (wire5.connect("x"), PROTOCOL_ERROR),
    "connack": (body(wire.CONNACK, b"\0\0\0"), PROTOCOL_ERROR),
    "suback": (body(wire.SUBACK, b"\0\1\0\0"), PROTOCOL_ERROR),
    "unsuback": (body(wire.UNSUBACK, b"\0\1\0\0"), PROTOCOL_ERROR),
    "pingresp": (body(wire.PINGRESP, b""), PROTOCOL_ERROR),
    "length-of-five-bytes": (bytes([wire.PUBLISH << 4]) + b"\xff\xff\xff\xff\x01", MALFORMED),
    "puback-without-id": (body(wire.PUBACK, b""), MALFORMED),
    "puback-with-half-an-id": (body(wire.PUBACK, b"\0"), MALFORMED),
    "puback-of-id-0": (body(wire.PUBACK, b"\0\0"), PROTOCOL_ERROR),
    "publish-without-room-for-its-id": (body(wire.PUBLISH, wire.text("a") + b"\0", 2), MALFORMED),
    "publish-without-properties": (body(wire.PUBLISH, wire.text("a")), MALFORMED),
    "publish-with-qos-3": (body(wire.PUBLISH, wire.text("a") + b"\0\1\0", 6), MALFORMED),
    "publish-of-a-server": (wire5.publish("a", b"", (wire5.SUBSCRIPTION_ID, 1)), PROTOCOL_ERROR),
    "subscribe-without-id": (body(wire.SUBSCRIBE, b"", 2), MALFORMED),
    "subscribe-of-id-0": (wire5.subscribe([("a", 0)], packet_id=0), PROTOCOL_ERROR),
    "properties-longer-than-the-packet": (body(wire.SUBSCRIBE, b"\0\1\x7f\0\1a\0", 2), MALFORMED),
    "properties-that-end-in-a-field": (body(wire.SUBSCRIBE, b"\0\1\2\x26\0\0\1a\0", 2), MALFORMED),
    "unknown-property": (body(wire.SUBSCRIBE, b"\0\1\2\x7e\0\0\1a\0", 2), MALFORMED),
    "unsubscribe-without-id": (body(wire.UNSUBSCRIBE, b"", 2), MALFORMED),
    "disconnect-with-a-life-that-connect-did-not-give": (
        wire5.disconnect(0, (wire5.SESSION_EXPIRY, 5)), PROTOCOL_ERROR),
    "disconnect-with-more-behind-it": (body(wire5.DISCONNECT, b"\0\0\0"), MALFORMED),
    "puback-with-more-behind-it": (body(wire.PUBACK, b"\0\1\0\0\0"), MALFORMED),
}
# A mosquitto can be another's client, and takes some of these from anybody; others it overlooks.
TAKEN = {
    "connack", "suback", "unsuback", "pingresp", "disconnect-with-more-behind-it",
    "puback-with-more-behind-it", "second-connect", "publish-of-a-server",
}


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=not_mosquitto("takes it") if name in TAKEN else ())
    for name in VIOLATIONS
])
def test_mqtt_4_13_2_1_an_error_closes_the_connection_with_its_code(mqtt, name):
    """As an error: the will goes out."""
    data, code = VIOLATIONS[name]
    sub = mqtt.subscriber((mqtt.topic(), 1))
    mqtt.ends(data, code=code, will=(mqtt.topic(), b"will", 1, []))
    assert sub.take().payload == b"will"


def test_mqtt_4_13_2_1_an_error_closes_no_other_connection(mqtt):
    violations = {name: it for name, it in VIOLATIONS.items() if name not in TAKEN}
    errors.closes_no_other_connection(mqtt, violations)


test_mqtt_4_13_2_1_what_came_before_an_error_has_been_done = errors.what_came_before_has_been_done


def test_mqtt_4_13_2_1_a_client_without_room_for_the_code_is_closed_too(mqtt):
    """Its maximum packet size lets no CONNACK through, let alone a DISCONNECT."""
    client = mqtt.open()
    client.send(wire5.connect(mqtt.id("c"), (wire5.MAXIMUM_PACKET, 2)), b"\x00\x00")
    assert client.closed() == []
