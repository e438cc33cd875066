"""4.3: the three qualities of service, seen from both ends."""

import time

import pytest
from both import sessions
from conformance import wire, wire5
from conformance.marks import not_mosquitto

NOT_FOUND = 0x92


def stored(mqtt, qos, *pairs):
    """A session that outlives its connection, subscribed."""
    return mqtt.subscriber((mqtt.topic(), qos), name="s", pairs=[mqtt.STAYS, *pairs])


def pubrec(client, packet_id, code=0):
    answer = client.expect(wire.PUBREC)
    assert (answer.packet_id, answer.code & 0xEF) == (packet_id, code)


def pubcomp(client, packet_id, code=0):
    client.send(wire.pubrel(packet_id))
    answer = client.expect(wire.PUBCOMP)
    assert (answer.packet_id, answer.code) == (packet_id, code)


test_mqtt_4_3_1_1_a_message_of_qos_0_says_so_and_has_no_dup = (
    sessions.a_message_of_qos_0_says_so_and_has_no_dup
)


def free_ids(mqtt, qos):
    sub, pub = mqtt.subscriber((mqtt.topic(), qos)), mqtt.client()
    for _ in range(15):
        pub.publish(mqtt.topic(), b"x", qos=qos)
    got = [sub.expect(wire.PUBLISH) for _ in range(15)]
    assert len({message.packet_id for message in got} - {0}) == 15
    # Those that are free are used again before those that are not.
    for message in got[5:10]:
        sub.acknowledge(message)
    for _ in range(5):
        pub.publish(mqtt.topic(), b"x", qos=qos)
    news = {sub.expect(wire.PUBLISH).packet_id for _ in range(5)}
    assert len(news) == 5
    assert not news & {message.packet_id for message in got[:5] + got[10:]}


def test_mqtt_4_3_2_1_each_message_of_qos_1_has_a_free_id(mqtt):
    free_ids(mqtt, 1)


def test_mqtt_4_3_2_2_qos_1_begins_without_dup(mqtt):
    """Though it came with one."""
    sub, pub = mqtt.subscriber((mqtt.topic(), 1)), mqtt.client()
    for dup in (False, True):
        pub.publish(mqtt.topic(), b"x", dup=dup)
        message = sub.take()
        assert (message.qos, message.dup) == (1, False) and message.packet_id


@not_mosquitto("closes for an acknowledgement of another kind")
def test_mqtt_4_3_2_3_qos_1_is_pending_until_its_puback(mqtt):
    sub = stored(mqtt, 1)
    mqtt.client().publish(mqtt.topic(), b"x")
    for dup in (False, True, True):
        got = sub.expect(wire.PUBLISH)
        assert (got.payload, got.dup) == (b"x", dup)
        # Acknowledgements of another kind, or of another message, are none of this one.
        sub.send(wire.pubcomp(got.packet_id), wire.puback(got.packet_id + 1))
        sub.ping()
        sub.close()
        sub = mqtt.back("s")
    sub.take()
    sub.leave()
    mqtt.back("s").is_quiet()


test_mqtt_4_3_2_4_puback_comes_for_each_message = sessions.puback_comes_for_each_message


def test_mqtt_4_3_2_4_what_is_acknowledged_is_the_servers(mqtt):
    """The publisher is gone at once; the message is not."""
    mqtt.away("s", (mqtt.topic(), 1))
    for n in range(5):
        client = mqtt.client()
        assert client.publish(mqtt.topic(), b"%d" % n) == 0
        client.close()
    sub = mqtt.back("s")
    assert [sub.take().payload for _ in range(5)] == [b"%d" % n for n in range(5)]


test_mqtt_4_3_2_5_after_puback_the_same_id_is_a_new_message = (
    sessions.after_puback_the_same_id_is_a_new_message
)


def test_mqtt_4_3_3_1_each_message_of_qos_2_has_a_free_id(mqtt):
    free_ids(mqtt, 2)


test_mqtt_4_3_3_1_an_id_is_not_free_before_its_pubcomp = sessions.an_id_is_not_free_before_its_pubcomp


def test_mqtt_4_3_3_2_qos_2_begins_without_dup(mqtt):
    """Though it came with one."""
    sub, pub = mqtt.subscriber((mqtt.topic(), 2)), mqtt.client()
    for dup in (False, True):
        pub.publish(mqtt.topic(), b"x", qos=2, dup=dup)
        message = sub.take()
        assert (message.qos, message.dup) == (2, False) and message.packet_id


@not_mosquitto("closes for an acknowledgement of another kind")
def test_mqtt_4_3_3_3_a_message_of_qos_2_is_pending_until_its_pubrec(mqtt):
    sub = stored(mqtt, 2)
    mqtt.client().publish(mqtt.topic(), b"x", qos=2)
    ids = set()
    for dup in (False, True, True):
        got = sub.expect(wire.PUBLISH)
        assert (got.payload, got.dup) == (b"x", dup)
        ids.add(got.packet_id)
        # Acknowledgements of another kind are none of this one.
        sub.send(wire.puback(got.packet_id))
        sub.ping()
        sub.close()
        sub = mqtt.back("s")
    assert len(ids) == 1
    sub.take()
    sub.is_quiet()


@pytest.mark.parametrize("code", [None, 0, 0x10])
def test_mqtt_4_3_3_4_pubrec_is_answered_with_pubrel(mqtt, code):
    sub = mqtt.subscriber((mqtt.topic(), 2))
    mqtt.client().publish(mqtt.topic(), b"x", qos=2)
    packet_id = sub.expect(wire.PUBLISH).packet_id
    for _ in range(2):
        # A second one asks for it again.
        sub.send(wire5.ack(wire.PUBREC, packet_id, code))
        answer = sub.expect(wire.PUBREL)
        assert (answer.packet_id, answer.code) == (packet_id, 0)


def test_mqtt_4_3_3_4_pubrec_with_an_error_is_not_answered(mqtt):
    sub = mqtt.subscriber((mqtt.topic(), 2))
    mqtt.client().publish(mqtt.topic(), b"x", qos=2)
    sub.send(wire5.ack(wire.PUBREC, sub.expect(wire.PUBLISH).packet_id, 0x80))
    sub.is_quiet()


def test_mqtt_4_3_3_5_pubrel_is_pending_until_its_pubcomp(mqtt):
    sub = stored(mqtt, 2)
    mqtt.client().publish(mqtt.topic(), b"x", qos=2)
    packet_id = sub.expect(wire.PUBLISH).packet_id
    sub.send(wire.pubrec(packet_id))
    for _ in range(3):
        answer = sub.receive()
        assert (answer.kind, answer.packet_id) == (wire.PUBREL, packet_id)
        sub.close()
        sub = mqtt.back("s")
    sub.expect(wire.PUBREL)
    sub.send(wire.pubcomp(packet_id))
    sub.leave()
    mqtt.back("s").is_quiet()


def test_mqtt_4_3_3_6_after_pubrel_the_message_is_not_sent_again(mqtt):
    """Not either when the connection ends before PUBREL can have arrived."""
    sub = stored(mqtt, 2)
    pub = mqtt.client()
    for n in range(10):
        pub.publish(mqtt.topic(), b"%d" % n, qos=2)
    ids = [sub.expect(wire.PUBLISH).packet_id for _ in range(10)]
    sub.send(*(wire.pubrec(packet_id) for packet_id in ids))
    for packet_id in ids[:5]:
        assert sub.expect(wire.PUBREL).packet_id == packet_id
    sub.close()
    sub = mqtt.back("s")
    said = [sub.receive() for _ in ids]
    sub.is_quiet()
    seen = [(packet.kind, packet.packet_id) for packet in said]
    released = [packet_id for kind, packet_id in seen if kind == wire.PUBREL]
    again = [packet_id for kind, packet_id in seen if kind == wire.PUBLISH]
    assert set(ids[:5]) <= set(released)
    assert not set(released) & set(again)
    assert sorted(released + again) == sorted(ids)


@not_mosquitto("lets it expire")
def test_mqtt_4_3_3_7_a_message_that_was_sent_does_not_expire(mqtt):
    sub = stored(mqtt, 2)
    mqtt.client().publish(mqtt.topic(), b"x", (wire5.MESSAGE_EXPIRY, 1), qos=2)
    sub.expect(wire.PUBLISH)
    sub.close()
    # Longer than its life.
    time.sleep(1.2)
    again = mqtt.back("s").take()
    assert (again.payload, again.dup) == (b"x", True)


def test_mqtt_4_3_3_8_pubrec_comes_for_each_message(mqtt):
    client = mqtt.client()
    client.send(*(wire5.publish(mqtt.topic(), b"x", qos=2, packet_id=n) for n in range(1, 21)))
    answers = [client.expect(wire.PUBREC) for _ in range(20)]
    assert [answer.packet_id for answer in answers] == list(range(1, 21))


def test_mqtt_4_3_3_8_what_is_received_is_the_servers(mqtt):
    """With its PUBREC at the latest when PUBREL comes; here by another connection."""
    mqtt.away("s", (mqtt.topic(), 2))
    pub = mqtt.client("p", mqtt.STAYS)
    pub.send(wire5.publish(mqtt.topic(), b"x", qos=2, packet_id=5))
    pubrec(pub, 5)
    pub.close()
    pubcomp(mqtt.back("p"), 5)
    assert mqtt.back("s").take().payload == b"x"


@not_mosquitto("does not refuse what its acl_file forbids")
def test_mqtt_4_3_3_9_after_a_refusal_the_same_id_is_a_new_message(mqtt):
    sub = mqtt.subscriber((mqtt.topic(), 2))
    pub = mqtt.client(port=mqtt.broker.guarded_port)
    pub.send(wire5.publish("forbidden/a", b"x", qos=2, packet_id=5))
    pubrec(pub, 5, 0x87)
    pub.send(wire5.publish(mqtt.topic(), b"y", qos=2, packet_id=5))
    pubrec(pub, 5)
    pubcomp(pub, 5)
    assert sub.take().payload == b"y"


@not_mosquitto("closes")
def test_mqtt_4_3_3_10_before_pubrel_the_same_id_is_the_same_message(mqtt):
    sessions.before_pubrel_the_same_id_is_the_same_message(mqtt, (False, True, True))


test_mqtt_4_3_3_10_the_same_message_after_a_lost_connection_comes_once = (
    sessions.the_same_message_after_a_lost_connection_comes_once
)


def test_mqtt_4_3_3_10_a_clean_start_forgets_the_ids(mqtt):
    sub, pub = mqtt.subscriber((mqtt.topic(), 2)), mqtt.client("p", mqtt.STAYS)
    pub.send(wire5.publish(mqtt.topic(), b"old", qos=2, packet_id=5))
    pubrec(pub, 5)
    pub.close()
    mqtt.client("p", mqtt.STAYS).publish(mqtt.topic(), b"new", qos=2, packet_id=5)
    # The old one as well, or not: its PUBREL never came.
    assert sub.take().payload == b"new" or sub.take().payload == b"new"


def test_mqtt_4_3_3_11_pubrel_is_answered_with_pubcomp(mqtt):
    client = mqtt.client()
    for packet_id in (1, 255, 256, 65535):
        client.send(wire5.publish(mqtt.topic(), b"x", qos=2, packet_id=packet_id))
        pubrec(client, packet_id)
        pubcomp(client, packet_id)


@not_mosquitto("knows every packet id")
def test_mqtt_4_3_3_11_pubrel_of_an_unknown_id_is_answered_too(mqtt):
    client = mqtt.client()
    for _ in range(2):
        pubcomp(client, 5, NOT_FOUND)


def test_mqtt_4_3_3_12_after_pubcomp_the_same_id_is_a_new_message(mqtt):
    sub, pub = mqtt.subscriber((mqtt.topic(), 2)), mqtt.client()
    for n, dup in enumerate((False, True, False)):
        pub.publish(mqtt.topic(), b"%d" % n, qos=2, dup=dup, packet_id=5)
    assert [sub.take().payload for _ in range(3)] == [b"0", b"1", b"2"]


def test_mqtt_4_3_3_13_the_handshake_goes_on_when_the_message_has_expired(mqtt):
    """Towards the server, and towards a client."""
    life = (wire5.MESSAGE_EXPIRY, 1)
    sub = stored(mqtt, 2)
    pub = mqtt.client("p", mqtt.STAYS)
    pub.publish(mqtt.topic(), b"x", life, qos=2)
    message = sub.expect(wire.PUBLISH)
    sub.send(wire.pubrec(message.packet_id))
    sub.expect(wire.PUBREL)
    sub.close()
    pub.send(wire5.publish(mqtt.topic("b"), b"x", life, qos=2, packet_id=5))
    pubrec(pub, 5)
    pub.close()
    # Longer than its life.
    time.sleep(1.2)
    pubcomp(mqtt.back("p"), 5)
    sub = mqtt.back("s")
    assert sub.expect(wire.PUBREL).packet_id == message.packet_id
    sub.send(wire.pubcomp(message.packet_id))
    sub.is_quiet()


@pytest.mark.parametrize("name", ["puback", "pubrec", "pubrel", "pubcomp"])
def test_mqtt_4_3_3_4_acknowledgements_out_of_turn_harm_no_message(mqtt, name):
    """The standard has no word for them but 0x92."""
    sessions.acknowledgements_out_of_turn_harm_no_message(mqtt, name, 1)
