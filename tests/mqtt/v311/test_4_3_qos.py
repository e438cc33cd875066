"""4.3: the three qualities of service, seen from both ends."""

import pytest
from conformance import wire


def quiet(client):
    """Nothing is waiting to be sent to this client."""
    client.send(wire.pingreq())
    client.expect(wire.PINGRESP)


def test_mqtt_4_3_1_1_a_message_of_qos_0_says_so_and_has_no_dup(mqtt):
    sub = mqtt.subscriber((mqtt.topic(), 1))
    mqtt.client().publish(mqtt.topic(), b"x", 0)
    assert sub.expect(wire.PUBLISH).flags == 0


def test_mqtt_4_3_2_1_qos_1_begins_without_dup_and_with_a_free_id(mqtt):
    sub, pub = mqtt.subscriber((mqtt.topic(), 1)), mqtt.client()
    for _ in range(10):
        pub.publish(mqtt.topic(), b"x")
    got = [sub.expect(wire.PUBLISH) for _ in range(10)]
    assert {(message.qos, message.dup) for message in got} == {(1, False)}
    assert len({message.packet_id for message in got} - {0}) == 10


def test_mqtt_4_3_2_1_qos_1_is_pending_until_its_puback(mqtt):
    sub = mqtt.subscriber((mqtt.topic(), 1), name="s", clean=False)
    mqtt.client().publish(mqtt.topic(), b"x")
    for dup in (False, True, True):
        got = sub.expect(wire.PUBLISH)
        assert (got.payload, got.dup) == (b"x", dup)
        sub.close()
        sub = mqtt.back("s")
    sub.take()
    sub.leave()
    quiet(mqtt.back("s"))


def test_mqtt_4_3_2_2_puback_comes_for_each_message(mqtt):
    client = mqtt.client()
    client.send(*(wire.publish(mqtt.topic(), b"x", 1, n) for n in range(1, 51)))
    answers = [client.expect(wire.PUBACK) for _ in range(50)]
    assert [answer.packet_id for answer in answers] == list(range(1, 51))


def test_mqtt_4_3_2_2_after_puback_the_same_id_is_a_new_message(mqtt):
    sub, pub = mqtt.subscriber((mqtt.topic(), 1)), mqtt.client()
    for n, dup in enumerate((False, True, True, False)):
        pub.publish(mqtt.topic(), b"%d" % n, 1, dup=dup, packet_id=5)
    assert [sub.take().payload for _ in range(4)] == [b"0", b"1", b"2", b"3"]


def test_mqtt_4_3_3_1_qos_2_begins_without_dup_and_with_a_free_id(mqtt):
    sub, pub = mqtt.subscriber((mqtt.topic(), 2)), mqtt.client()
    for _ in range(10):
        pub.publish(mqtt.topic(), b"x", 2)
    got = [sub.expect(wire.PUBLISH) for _ in range(10)]
    assert {(message.qos, message.dup) for message in got} == {(2, False)}
    assert len({message.packet_id for message in got} - {0}) == 10


def test_mqtt_4_3_3_1_pubrec_is_answered_with_pubrel_and_the_message_not_sent_again(mqtt):
    sub = mqtt.subscriber((mqtt.topic(), 2), name="s", clean=False)
    mqtt.client().publish(mqtt.topic(), b"x", 2)
    message = sub.expect(wire.PUBLISH)
    sub.send(wire.pubrec(message.packet_id))
    answer = sub.expect(wire.PUBREL)
    assert (answer.flags, answer.body) == (2, wire.two(message.packet_id))
    for _ in range(2):
        sub.close()
        sub = mqtt.back("s")
        # Pending until PUBCOMP.
        assert sub.receive().kind == wire.PUBREL
    sub.send(wire.pubcomp(message.packet_id))
    sub.leave()
    quiet(mqtt.back("s"))


def test_mqtt_4_3_3_1_a_message_of_qos_2_is_pending_until_its_pubrec(mqtt):
    sub = mqtt.subscriber((mqtt.topic(), 2), name="s", clean=False)
    mqtt.client().publish(mqtt.topic(), b"x", 2)
    ids = set()
    for dup in (False, True, True):
        got = sub.expect(wire.PUBLISH)
        assert (got.payload, got.dup) == (b"x", dup)
        ids.add(got.packet_id)
        sub.close()
        sub = mqtt.back("s")
    assert len(ids) == 1
    sub.take()
    quiet(sub)


def test_mqtt_4_3_3_1_an_id_is_not_free_before_its_pubcomp(mqtt):
    sub, pub = mqtt.subscriber((mqtt.topic(), 2)), mqtt.client()
    pending = set()
    for _ in range(10):
        pub.publish(mqtt.topic(), b"x", 2)
        message = sub.expect(wire.PUBLISH)
        assert message.packet_id not in pending
        pending.add(message.packet_id)
        sub.send(wire.pubrec(message.packet_id))
        sub.expect(wire.PUBREL)


def test_mqtt_4_3_3_2_a_message_goes_through_the_four_packets_once(mqtt):
    end = mqtt.topic("end")
    sub, pub = mqtt.subscriber((mqtt.topic("+"), 2)), mqtt.client()
    pub.send(wire.publish(mqtt.topic(), b"x", 2, 5))
    assert pub.expect(wire.PUBREC).body == wire.two(5)
    pub.send(wire.pubrel(5))
    assert pub.expect(wire.PUBCOMP).body == wire.two(5)
    pub.publish(end, b"", 2)
    assert [message.payload for message in sub.until(end)] == [b"x"]


def test_mqtt_4_3_3_2_before_pubrel_the_same_id_is_the_same_message(mqtt):
    end = mqtt.topic("end")
    sub, pub = mqtt.subscriber((mqtt.topic("+"), 2)), mqtt.client()
    for dup in (False, True):
        pub.send(wire.publish(mqtt.topic(), b"x", 2, 5, dup=dup))
        assert pub.expect(wire.PUBREC).body == wire.two(5)
    pub.send(wire.pubrel(5))
    assert pub.expect(wire.PUBCOMP).body == wire.two(5)
    pub.publish(end, b"", 2)
    assert [message.payload for message in sub.until(end)] == [b"x"]


def test_mqtt_4_3_3_2_the_same_message_after_a_lost_connection_comes_once(mqtt):
    end = mqtt.topic("end")
    sub, pub = mqtt.subscriber((mqtt.topic("+"), 2)), mqtt.client("p", clean=False)
    pub.send(wire.publish(mqtt.topic(), b"x", 2, 5))
    pub.expect(wire.PUBREC)
    for _ in range(2):
        pub.close()
        pub = mqtt.back("p")
        pub.send(wire.publish(mqtt.topic(), b"x", 2, 5, dup=True))
        assert pub.expect(wire.PUBREC).body == wire.two(5)
    pub.send(wire.pubrel(5))
    assert pub.expect(wire.PUBCOMP).body == wire.two(5)
    pub.publish(end, b"", 2)
    assert [message.payload for message in sub.until(end)] == [b"x"]


def test_mqtt_4_3_3_2_pubrel_after_a_lost_connection_is_answered(mqtt):
    pub = mqtt.client("p", clean=False)
    pub.send(wire.publish(mqtt.topic(), b"x", 2, 5))
    pub.expect(wire.PUBREC)
    for _ in range(2):
        pub.close()
        pub = mqtt.back("p")
        pub.send(wire.pubrel(5))
        assert pub.expect(wire.PUBCOMP).body == wire.two(5)


def test_mqtt_4_3_3_2_after_pubcomp_the_same_id_is_a_new_message(mqtt):
    sub, pub = mqtt.subscriber((mqtt.topic(), 2)), mqtt.client()
    for n in range(3):
        pub.publish(mqtt.topic(), b"%d" % n, 2, packet_id=5)
    assert [sub.take().payload for _ in range(3)] == [b"0", b"1", b"2"]


@pytest.mark.parametrize("name", ["pubrec", "pubrel", "pubcomp"])
def test_mqtt_4_3_3_2_acknowledgements_out_of_turn_harm_no_message(mqtt, name):
    """The standard has no word for them; whether they close or not, messages go on."""
    sub = mqtt.subscriber((mqtt.topic(), 2))
    stray = mqtt.client()
    stray.send(getattr(wire, name)(77))
    pub = mqtt.client()
    pub.publish(mqtt.topic(), b"x", 2)
    assert sub.take().payload == b"x"
