"""2: flags of the fixed header, packet ids."""

import pytest
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


def wrong_flags(data):
    """The packet with each of the flags that table 2.2 does not have for it."""
    right = data[0] & 15
    return [wire.tampered(data, flags) for flags in range(16) if flags != right]


def test_mqtt_2_2_2_1_what_the_server_sends_has_the_flags_of_the_table(mqtt):
    client = mqtt.open()
    client.send(
        wire.connect(mqtt.id("c")), wire.subscribe([(mqtt.topic("x"), 0)], 1),
        wire.unsubscribe([mqtt.topic("x")], 2), wire.publish(mqtt.topic(), b"", 1, 3), wire.pingreq(),
    )
    got = {}
    for _ in range(5):
        answer = client.receive()
        got[answer.kind] = answer.flags
    kinds = (wire.CONNACK, wire.SUBACK, wire.UNSUBACK, wire.PUBACK, wire.PINGRESP)
    assert got == dict.fromkeys(kinds, 0)


def test_mqtt_2_2_2_1_the_acknowledgements_of_qos_2_have_the_flags_of_the_table(mqtt):
    sub, pub = mqtt.subscriber((mqtt.topic(), 2)), mqtt.client()
    pub.send(wire.publish(mqtt.topic(), b"x", 2, 7))
    assert pub.expect(wire.PUBREC).flags == 0
    pub.send(wire.pubrel(7))
    assert pub.expect(wire.PUBCOMP).flags == 0
    message = sub.expect(wire.PUBLISH)
    sub.send(wire.pubrec(message.packet_id))
    assert sub.expect(wire.PUBREL).flags == 2


def test_mqtt_2_2_2_2_wrong_flags_in_connect_close(mqtt):
    for data in wrong_flags(wire.connect("flags")):
        assert mqtt.refused(data) == [], data.hex()


@pytest.mark.parametrize("right", LATER)
def test_mqtt_2_2_2_2_wrong_flags_in_later_packets_close(mqtt, right):
    for data in wrong_flags(right):
        mqtt.ends(data)


ID_0 = {
    "publish-qos-1": wire.publish("a", b"x", 1, 0),
    "publish-qos-2": wire.publish("a", b"x", 2, 0),
    "subscribe": wire.subscribe([("a", 0)], 0),
    "unsubscribe": wire.unsubscribe(["a"], 0),
}


@pytest.mark.parametrize("name", ID_0)
def test_mqtt_2_3_1_1_packet_id_0_closes(mqtt, name):
    mqtt.ends(ID_0[name])


def test_mqtt_2_3_1_4_the_server_uses_no_packet_id_twice_at_a_time(mqtt):
    sub, pub = mqtt.subscriber((mqtt.topic(), 1)), mqtt.client()
    for _ in range(15):
        pub.publish(mqtt.topic(), b"x")
    ids = [sub.expect(wire.PUBLISH).packet_id for _ in range(15)]
    assert 0 not in ids and len(set(ids)) == 15
    # Two are free again; whatever is used next is none of the other thirteen.
    for packet_id in ids[3:5]:
        sub.send(wire.puback(packet_id))
    for _ in range(2):
        pub.publish(mqtt.topic(), b"y")
        ids.append(sub.expect(wire.PUBLISH).packet_id)
    pending = ids[:3] + ids[5:]
    assert len(set(pending)) == len(pending)


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


def test_mqtt_2_3_1_5_a_publish_of_qos_0_has_no_packet_id(mqtt):
    sub, pub = mqtt.subscriber((mqtt.topic(), 1)), mqtt.client()
    # Two bytes that would be taken for an id, and none at all.
    for payload in (b"\x12\x34", b"\0\0", b""):
        pub.send(wire.packet(wire.PUBLISH, 0, wire.text(mqtt.topic()) + payload))
        got = sub.expect(wire.PUBLISH)
        assert got.flags == 0
        assert got.body == wire.text(mqtt.topic()) + payload


@pytest.mark.parametrize("packet_id", [1, 256, 65535])
def test_mqtt_2_3_1_6_puback_has_the_packet_id_of_its_publish(mqtt, packet_id):
    client = mqtt.client()
    client.send(wire.publish(mqtt.topic(), b"x", 1, packet_id))
    assert client.expect(wire.PUBACK).body == wire.two(packet_id)


@pytest.mark.parametrize("packet_id", [1, 256, 65535])
def test_mqtt_2_3_1_6_pubrec_and_pubrel_have_the_packet_id_of_their_publish(mqtt, packet_id):
    sub, pub = mqtt.subscriber((mqtt.topic(), 2)), mqtt.client()
    pub.send(wire.publish(mqtt.topic(), b"x", 2, packet_id))
    assert pub.expect(wire.PUBREC).body == wire.two(packet_id)
    pub.send(wire.pubrel(packet_id))
    assert pub.expect(wire.PUBCOMP).body == wire.two(packet_id)
    got = sub.expect(wire.PUBLISH)
    sub.send(wire.pubrec(got.packet_id))
    assert sub.expect(wire.PUBREL).body == wire.two(got.packet_id)


@pytest.mark.parametrize("packet_id", [1, 256, 65535])
def test_mqtt_2_3_1_7_suback_and_unsuback_have_the_packet_id_of_their_request(mqtt, packet_id):
    client = mqtt.client()
    client.send(wire.subscribe([(mqtt.topic(), 0)], packet_id))
    assert client.expect(wire.SUBACK).packet_id == packet_id
    client.send(wire.unsubscribe([mqtt.topic()], packet_id))
    assert client.expect(wire.UNSUBACK).body == wire.two(packet_id)
