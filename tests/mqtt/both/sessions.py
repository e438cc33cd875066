"""What a session remembers, and the packet ids that it uses (2, 4.1 to 4.5 in both)."""

import pytest
from conformance import wire

PROTOCOL_ERROR = 0x82
IDS = pytest.mark.parametrize("packet_id", [1, 256, 65535])


def the_server_uses_no_packet_id_twice_at_a_time(mqtt):
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


ID_0 = {
    "publish-qos-1": lambda say: say.publish("a", b"x", qos=1, packet_id=0),
    "publish-qos-2": lambda say: say.publish("a", b"x", qos=2, packet_id=0),
    "subscribe": lambda say: say.subscribe([("a", 0)], packet_id=0),
    "unsubscribe": lambda say: say.unsubscribe(["a"], packet_id=0),
}


@pytest.mark.parametrize("name", ID_0)
def packet_id_0_closes(mqtt, name):
    mqtt.ends(ID_0[name](mqtt.wire), code=PROTOCOL_ERROR)


def a_publish_of_qos_0_has_no_packet_id(mqtt):
    sub, pub = mqtt.subscriber((mqtt.topic(), 1)), mqtt.client()
    head = wire.text(mqtt.topic()) + mqtt.no_properties
    # Two bytes that would be taken for an id, and none at all.
    for payload in (b"\x12\x34", b"\0\0", b""):
        pub.send(wire.packet(wire.PUBLISH, 0, head + payload))
        got = sub.expect(wire.PUBLISH)
        assert (got.flags, got.body) == (0, head + payload)


@IDS
def pubrec_pubrel_and_pubcomp_have_the_packet_id_of_their_publish(mqtt, packet_id):
    sub, pub = mqtt.subscriber((mqtt.topic(), 2)), mqtt.client()
    pub.send(mqtt.wire.publish(mqtt.topic(), b"x", qos=2, packet_id=packet_id))
    pub.expect_ack(wire.PUBREC, packet_id)
    pub.send(wire.pubrel(packet_id))
    pub.expect_ack(wire.PUBCOMP, packet_id)
    got = sub.expect(wire.PUBLISH)
    sub.send(wire.pubrec(got.packet_id))
    sub.expect_ack(wire.PUBREL, got.packet_id)


@IDS
def suback_and_unsuback_have_the_packet_id_of_their_request(mqtt, packet_id):
    client = mqtt.client()
    client.send(mqtt.wire.subscribe([(mqtt.topic(), 0)], packet_id=packet_id))
    assert client.expect(wire.SUBACK).packet_id == packet_id
    client.send(mqtt.wire.unsubscribe([mqtt.topic()], packet_id=packet_id))
    assert client.expect(wire.UNSUBACK).packet_id == packet_id


def what_the_server_sends_has_the_flags_of_the_table(mqtt):
    client, say = mqtt.open(), mqtt.wire
    client.send(
        say.connect(mqtt.id("c")), say.subscribe([(mqtt.topic("x"), 0)], packet_id=1),
        say.unsubscribe([mqtt.topic("x")], packet_id=2),
        say.publish(mqtt.topic(), b"", qos=1, packet_id=3), wire.pingreq(),
    )
    got = {}
    for _ in range(5):
        answer = client.receive()
        got[answer.kind] = answer.flags
    kinds = (wire.CONNACK, wire.SUBACK, wire.UNSUBACK, wire.PUBACK, wire.PINGRESP)
    assert got == dict.fromkeys(kinds, 0)


def the_acknowledgements_of_qos_2_have_the_flags_of_the_table(mqtt):
    sub, pub = mqtt.subscriber((mqtt.topic(), 2)), mqtt.client()
    pub.send(mqtt.wire.publish(mqtt.topic(), b"x", qos=2, packet_id=7))
    assert pub.expect(wire.PUBREC).flags == 0
    pub.send(wire.pubrel(7))
    assert pub.expect(wire.PUBCOMP).flags == 0
    sub.send(wire.pubrec(sub.expect(wire.PUBLISH).packet_id))
    assert sub.expect(wire.PUBREL).flags == 2


def an_unfinished_pubrel_is_sent_again(mqtt):
    sub = mqtt.stored("s", (mqtt.topic(), 2))
    mqtt.client().publish(mqtt.topic(), b"x", qos=2)
    message = sub.expect(wire.PUBLISH)
    sub.send(wire.pubrec(message.packet_id))
    sub.expect(wire.PUBREL)
    sub.close()
    sub = mqtt.back("s")
    # PUBREL, and no PUBLISH: that one has been received.
    sub.expect_ack(wire.PUBREL, message.packet_id)
    sub.send(wire.pubcomp(message.packet_id))
    sub.leave()
    mqtt.back("s").is_quiet()


def every_matching_session_gets_the_message(mqtt):
    end = mqtt.topic("end")
    mqtt.away("away", (mqtt.topic("#"), 1))
    subs = [mqtt.subscriber((mqtt.topic(f), q), (end, q)) for f in ("a", "+", "#") for q in (0, 1)]
    other = mqtt.subscriber((mqtt.topic("b"), 1), (end, 1))
    pub = mqtt.subscriber((mqtt.topic(), 1), (end, 1))
    pub.publish(mqtt.topic(), b"to all")
    pub.publish(end)
    for sub in [*subs, mqtt.back("away"), pub]:
        assert [message.payload for message in sub.until(end)] == [b"to all"]
    assert other.until(end) == []


# The three qualities of service.


def a_message_of_qos_0_says_so_and_has_no_dup(mqtt):
    sub = mqtt.subscriber((mqtt.topic(), 1))
    mqtt.client().publish(mqtt.topic(), b"x", qos=0)
    assert sub.expect(wire.PUBLISH).flags == 0


def puback_comes_for_each_message(mqtt):
    client = mqtt.client()
    client.send(*(
        mqtt.wire.publish(mqtt.topic(), b"x", qos=1, packet_id=n) for n in range(1, 51)
    ))
    answers = [client.expect(wire.PUBACK) for _ in range(50)]
    assert [answer.packet_id for answer in answers] == list(range(1, 51))


def after_puback_the_same_id_is_a_new_message(mqtt):
    sub, pub = mqtt.subscriber((mqtt.topic(), 1)), mqtt.client()
    for n, dup in enumerate((False, True, True, False)):
        pub.publish(mqtt.topic(), b"%d" % n, dup=dup, packet_id=5)
    assert [sub.take().payload for _ in range(4)] == [b"0", b"1", b"2", b"3"]


def an_id_is_not_free_before_its_pubcomp(mqtt):
    sub, pub = mqtt.subscriber((mqtt.topic(), 2)), mqtt.client()
    pending = set()
    for _ in range(10):
        pub.publish(mqtt.topic(), b"x", qos=2)
        message = sub.expect(wire.PUBLISH)
        assert message.packet_id not in pending
        pending.add(message.packet_id)
        sub.send(wire.pubrec(message.packet_id))
        sub.expect(wire.PUBREL)


def before_pubrel_the_same_id_is_the_same_message(mqtt, dups=(False, True)):
    end = mqtt.topic("end")
    sub, pub = mqtt.subscriber((mqtt.topic("+"), 2)), mqtt.client()
    for dup in dups:
        pub.send(mqtt.wire.publish(mqtt.topic(), b"x", qos=2, packet_id=5, dup=dup))
        pub.expect_ack(wire.PUBREC, 5)
    pub.send(wire.pubrel(5))
    pub.expect_ack(wire.PUBCOMP, 5)
    pub.publish(end, b"", qos=2)
    assert [message.payload for message in sub.until(end)] == [b"x"]


def the_same_message_after_a_lost_connection_comes_once(mqtt):
    end = mqtt.topic("end")
    sub, pub = mqtt.subscriber((mqtt.topic("+"), 2)), mqtt.stored("p")
    pub.send(mqtt.wire.publish(mqtt.topic(), b"x", qos=2, packet_id=5))
    pub.expect_ack(wire.PUBREC, 5)
    for _ in range(2):
        pub.close()
        pub = mqtt.back("p")
        pub.send(mqtt.wire.publish(mqtt.topic(), b"x", qos=2, packet_id=5, dup=True))
        pub.expect_ack(wire.PUBREC, 5)
    pub.send(wire.pubrel(5))
    pub.expect_ack(wire.PUBCOMP, 5)
    pub.publish(end, b"", qos=2)
    assert [message.payload for message in sub.until(end)] == [b"x"]


def acknowledgements_out_of_turn_harm_no_message(mqtt, name, qos):
    """Whether they close or not, messages go on."""
    sub = mqtt.subscriber((mqtt.topic(), qos))
    stray = mqtt.client()
    stray.send(getattr(wire, name)(77))
    mqtt.client().publish(mqtt.topic(), b"x", qos=qos)
    assert sub.take().payload == b"x"
