"""3.4 to 3.7: PUBACK, PUBREC, PUBREL and PUBCOMP."""

import pytest
from conformance import wire, wire5
from conformance.marks import not_mosquitto

MALFORMED, PROTOCOL_ERROR, TOO_LARGE, NOT_FOUND = 0x81, 0x82, 0x95, 0x92
ACKS = {"puback": wire.PUBACK, "pubrec": wire.PUBREC, "pubrel": wire.PUBREL, "pubcomp": wire.PUBCOMP}
KINDS = pytest.mark.parametrize("kind", ACKS.values(), ids=ACKS)


def bad_codes(kind):
    """Reason codes that the tables of other packets have, and such as none has."""
    return sorted({0, 1, 2, 4, 0x10, 0x11, 0x18, 0x7F, 0x80, 0x92, 0xA3, 0xFF} - wire5.CODES[kind])


def in_flight(mqtt, qos):
    """A subscriber that has been sent a message, and its packet id."""
    sub = mqtt.subscriber((mqtt.topic(), qos))
    mqtt.client().publish(mqtt.topic(), b"x", qos=qos)
    return sub, sub.expect(wire.PUBLISH).packet_id


def answers(mqtt, kind, data, *pairs, port=None):
    """What a client hears when it says that; the client, its CONNACK and the answer."""
    client = mqtt.client(None, *pairs, port=port)
    client.send(data)
    return client.connect_answer, client.expect(kind)


def short_and_long(mqtt, kind, data, port=None):
    """The answer to a client without a limit, and to one with room for its CONNACK and no more."""
    connack, long = answers(mqtt, kind, data, port=port)
    _, short = answers(mqtt, kind, data, (wire5.MAXIMUM_PACKET, connack.size), port=port)
    assert short.code == long.code
    assert short.size <= connack.size
    if long.size > connack.size:
        assert short.size < long.size
    return short, long


def forbidden(qos):
    return wire5.publish("forbidden/" + "x" * 50, b"", qos=qos)


@not_mosquitto("closes for a topic that its acl_file forbids")
def test_mqtt_3_4_2_1_puback_says_how_it_went(mqtt):
    client = mqtt.client(port=mqtt.broker.guarded_port)
    assert client.publish(mqtt.topic()) in (0, 0x10), "nobody has subscribed"
    assert client.publish("forbidden/a") == 0x87
    client.subscribe((mqtt.topic(), 0))
    assert client.publish(mqtt.topic()) == 0
    assert client.take().topic == mqtt.topic()


@not_mosquitto("takes any code")
@pytest.mark.parametrize("code", bad_codes(wire.PUBACK))
def test_mqtt_3_4_2_1_a_puback_with_another_code_closes(mqtt, code):
    sub, packet_id = in_flight(mqtt, 1)
    sub.send(wire5.ack(wire.PUBACK, packet_id, code))
    sub.thrown_out(PROTOCOL_ERROR)


@pytest.mark.parametrize("code", sorted(wire5.CODES[wire.PUBACK]))
def test_mqtt_3_4_2_1_every_code_of_the_table_is_taken(mqtt, code):
    sub, packet_id = in_flight(mqtt, 1)
    sub.send(wire5.ack(wire.PUBACK, packet_id, code))
    sub.ping()


@not_mosquitto("sends no reason strings")
def test_mqtt_3_4_2_2_puback_leaves_out_the_reason_that_does_not_fit(mqtt):
    port = mqtt.broker.guarded_port
    short, long = short_and_long(mqtt, wire.PUBACK, forbidden(1), port)
    assert long.code == 0x87 and long.one(wire5.REASON_STRING)
    assert short.all(wire5.REASON_STRING) == []


@not_mosquitto("has no maximum unless it is configured")
@pytest.mark.parametrize("name", ACKS)
def test_mqtt_3_4_2_3_an_acknowledgement_larger_than_the_servers_maximum_closes(mqtt, name):
    """User Properties fill it: the sender has to leave them out."""
    client = mqtt.client()
    maximum = client.connect_answer.one(wire5.MAXIMUM_PACKET)
    filler = [(wire5.USER, ("n", "x" * 60_000))] * (maximum // 60_000 + 1)
    client.send(wire5.ack(ACKS[name], 1, 0, *filler))
    client.thrown_out(TOO_LARGE)


@not_mosquitto("knows every packet id")
@KINDS
def test_mqtt_3_4_2_3_reason_string_and_user_properties_are_taken(mqtt, kind):
    """On the way to the server, in an acknowledgement of nothing, which is no error."""
    client = mqtt.client()
    said = [(wire5.USER, ("a", "b")), (wire5.REASON_STRING, "because"), (wire5.USER, ("a", "b"))]
    if kind == wire.PUBREC:
        client.send(wire5.ack(kind, 7, 0x80, *said))
    elif kind == wire.PUBREL:
        client.send(wire5.ack(kind, 7, 0, *said))
        assert client.expect(wire.PUBCOMP).code == NOT_FOUND
    else:
        client.send(wire5.ack(kind, 7, 0, *said))
    client.ping()


@not_mosquitto("closes for a topic that its acl_file forbids")
def test_mqtt_3_5_2_1_pubrec_says_how_it_went(mqtt):
    client = mqtt.client(port=mqtt.broker.guarded_port)
    assert client.publish(mqtt.topic(), qos=2) in (0, 0x10), "nobody has subscribed"
    assert client.publish("forbidden/a", qos=2) == 0x87
    client.subscribe((mqtt.topic(), 0))
    assert client.publish(mqtt.topic(), qos=2) == 0
    assert client.take().topic == mqtt.topic()


@not_mosquitto("takes any code")
@pytest.mark.parametrize("code", bad_codes(wire.PUBREC))
def test_mqtt_3_5_2_1_a_pubrec_with_another_code_closes(mqtt, code):
    mqtt.ends(wire5.ack(wire.PUBREC, 1, code), code=PROTOCOL_ERROR)


@not_mosquitto("sends no reason strings")
def test_mqtt_3_5_2_2_pubrec_leaves_out_the_reason_that_does_not_fit(mqtt):
    port = mqtt.broker.guarded_port
    short, long = short_and_long(mqtt, wire.PUBREC, forbidden(2), port)
    assert long.code == 0x87 and long.one(wire5.REASON_STRING)
    assert short.all(wire5.REASON_STRING) == []


@pytest.mark.parametrize("flags", [0, 1, 3, 6, 10, 15])
def test_mqtt_3_6_1_1_other_flags_in_pubrel_close(mqtt, flags):
    mqtt.ends(wire.tampered(wire.pubrel(1), flags), code=MALFORMED)


def test_mqtt_3_6_2_1_pubrel_says_how_it_went(mqtt):
    sub, packet_id = in_flight(mqtt, 2)
    sub.send(wire.pubrec(packet_id))
    answer = sub.expect(wire.PUBREL)
    assert (answer.packet_id, answer.code) == (packet_id, 0)


@not_mosquitto("knows every packet id")
def test_mqtt_3_6_2_1_pubrel_of_an_unknown_id_says_so(mqtt):
    client = mqtt.client()
    client.send(wire.pubrec(77))
    answer = client.expect(wire.PUBREL)
    assert (answer.packet_id, answer.code) == (77, NOT_FOUND)


@not_mosquitto("takes any code")
@pytest.mark.parametrize("code", bad_codes(wire.PUBREL))
def test_mqtt_3_6_2_1_a_pubrel_with_another_code_closes(mqtt, code):
    mqtt.ends(wire5.ack(wire.PUBREL, 1, code), code=PROTOCOL_ERROR)


@not_mosquitto("answers an unknown id with nothing")
def test_mqtt_3_6_2_2_pubrel_leaves_out_what_does_not_fit(mqtt):
    short, _ = short_and_long(mqtt, wire.PUBREL, wire.pubrec(77))
    assert short.code == NOT_FOUND


@not_mosquitto("knows every packet id")
def test_mqtt_3_7_2_1_pubcomp_of_an_unknown_id_says_so(mqtt):
    client = mqtt.client()
    client.send(wire.pubrel(77))
    answer = client.expect(wire.PUBCOMP)
    assert (answer.packet_id, answer.code) == (77, NOT_FOUND)


def test_mqtt_3_7_2_1_pubcomp_says_how_it_went(mqtt):
    client = mqtt.client()
    client.send(wire5.publish(mqtt.topic(), qos=2, packet_id=9))
    client.expect(wire.PUBREC)
    client.send(wire.pubrel(9))
    answer = client.expect(wire.PUBCOMP)
    assert (answer.packet_id, answer.code) == (9, 0)


@not_mosquitto("takes any code")
@pytest.mark.parametrize("code", bad_codes(wire.PUBCOMP))
def test_mqtt_3_7_2_1_a_pubcomp_with_another_code_closes(mqtt, code):
    mqtt.ends(wire5.ack(wire.PUBCOMP, 1, code), code=PROTOCOL_ERROR)


def test_mqtt_3_7_2_2_pubcomp_leaves_out_what_does_not_fit(mqtt):
    short_and_long(mqtt, wire.PUBCOMP, wire.pubrel(77))
