"""2: flags of the fixed header, packet ids."""

import pytest
from both import sessions
from conformance import wire
from conformance.marks import not_mosquitto

# A DISCONNECT closes anyway; what its flags change is seen in 3.14.1-1.
UNCHECKED = not_mosquitto("takes any flags in it")
LATER = [
    pytest.param(wire.puback(1), id="puback", marks=UNCHECKED),
    pytest.param(wire.pubrec(1), id="pubrec", marks=UNCHECKED),
    pytest.param(wire.pubrel(1), id="pubrel"),
    pytest.param(wire.pubcomp(1), id="pubcomp", marks=UNCHECKED),
    pytest.param(wire.subscribe([("a", 0)]), id="subscribe"),
    pytest.param(wire.unsubscribe(["a"]), id="unsubscribe"),
    pytest.param(wire.pingreq(), id="pingreq", marks=UNCHECKED),
]


test_mqtt_2_2_2_1_what_the_server_sends_has_the_flags_of_the_table = (
    sessions.what_the_server_sends_has_the_flags_of_the_table
)
test_mqtt_2_2_2_1_the_acknowledgements_of_qos_2_have_the_flags_of_the_table = (
    sessions.the_acknowledgements_of_qos_2_have_the_flags_of_the_table
)


def test_mqtt_2_2_2_2_wrong_flags_in_connect_close(mqtt):
    for data in wire.wrong_flags(wire.connect("flags")):
        assert mqtt.refused(data) == [], data.hex()


@pytest.mark.parametrize("right", LATER)
def test_mqtt_2_2_2_2_wrong_flags_in_later_packets_close(mqtt, right):
    for data in wire.wrong_flags(right):
        mqtt.ends(data)


test_mqtt_2_3_1_1_packet_id_0_closes = sessions.packet_id_0_closes
test_mqtt_2_3_1_4_the_server_uses_no_packet_id_twice_at_a_time = (
    sessions.the_server_uses_no_packet_id_twice_at_a_time
)


def test_mqtt_2_3_1_4_a_message_sent_again_keeps_its_packet_id(mqtt):
    sub = mqtt.subscriber((mqtt.topic(), 1), name="sub", clean=False)
    pub = mqtt.client()
    for n in range(3):
        pub.publish(mqtt.topic(), b"%d" % n)
    first = [sub.expect(wire.PUBLISH) for _ in range(3)]
    sub.close()
    sub = mqtt.back("sub")
    again = [sub.expect(wire.PUBLISH) for _ in range(3)]
    assert [(m.payload, m.packet_id) for m in again] == [(m.payload, m.packet_id) for m in first]


test_mqtt_2_3_1_5_a_publish_of_qos_0_has_no_packet_id = sessions.a_publish_of_qos_0_has_no_packet_id


@pytest.mark.parametrize("packet_id", [1, 256, 65535])
def test_mqtt_2_3_1_6_puback_has_the_packet_id_of_its_publish(mqtt, packet_id):
    client = mqtt.client()
    client.send(wire.publish(mqtt.topic(), b"x", 1, packet_id))
    assert client.expect(wire.PUBACK).body == wire.two(packet_id)


test_mqtt_2_3_1_6_pubrec_and_pubrel_have_the_packet_id_of_their_publish = (
    sessions.pubrec_pubrel_and_pubcomp_have_the_packet_id_of_their_publish
)
test_mqtt_2_3_1_7_suback_and_unsuback_have_the_packet_id_of_their_request = (
    sessions.suback_and_unsuback_have_the_packet_id_of_their_request
)
