"""4.8: an error ends the connection on which it was made, and no other."""

import pytest
from both import errors
from conformance import wire
from conformance.marks import not_mosquitto

VIOLATIONS = {
    "packet-type-0": b"\x00\x00",
    "packet-type-15": b"\xf0\x00",
    "connack": wire.packet(wire.CONNACK, 0, b"\0\0"),
    "suback": wire.packet(wire.SUBACK, 0, b"\0\1\0"),
    "unsuback": wire.packet(wire.UNSUBACK, 0, b"\0\1"),
    "pingresp": wire.packet(wire.PINGRESP, 0, b""),
    "length-of-five-bytes": bytes([wire.PUBLISH << 4]) + b"\xff\xff\xff\xff\x01",
    "puback-without-id": wire.packet(wire.PUBACK, 0, b""),
    "puback-with-half-an-id": wire.packet(wire.PUBACK, 0, b"\0"),
    "publish-without-room-for-its-id": wire.packet(wire.PUBLISH, 2, wire.text("a") + b"\0"),
    "subscribe-without-id": wire.packet(wire.SUBSCRIBE, 2, b""),
    "unsubscribe-without-id": wire.packet(wire.UNSUBSCRIBE, 2, b""),
}


# A mosquitto can be another's client, and takes these from anybody.
BRIDGE = ("suback", "unsuback", "pingresp")


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=not_mosquitto("takes it") if name in BRIDGE else ())
    for name in VIOLATIONS
])
def test_mqtt_4_8_0_1_a_violation_closes_the_connection(mqtt, name):
    mqtt.ends(VIOLATIONS[name])


LONGER = {
    "puback": wire.packet(wire.PUBACK, 0, b"\0\1\0"),
    "pingreq": wire.packet(wire.PINGREQ, 0, b"x"),
    "disconnect": wire.packet(wire.DISCONNECT, 0, b"x"),
}


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=not_mosquitto("takes it")) for name in LONGER
])
def test_mqtt_4_8_0_1_more_than_belongs_into_a_packet_closes_the_connection(mqtt, name):
    """As an error: the will goes out, which a DISCONNECT as it should be would keep back."""
    sub = mqtt.subscriber((mqtt.topic(), 1))
    mqtt.ends(LONGER[name], will=(mqtt.topic(), b"will", 1, False))
    assert sub.take().payload == b"will"


def test_mqtt_4_8_0_1_a_violation_closes_no_other_connection(mqtt):
    violations = {name: (data, None) for name, data in VIOLATIONS.items() if name not in BRIDGE}
    errors.closes_no_other_connection(mqtt, violations)


test_mqtt_4_8_0_1_what_came_before_a_violation_has_been_done = errors.what_came_before_has_been_done
