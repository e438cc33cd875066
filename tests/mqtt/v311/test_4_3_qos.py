"""4.3: the three qualities of service, seen from both ends."""

import pytest
from both import sessions
from conformance import wire

test_mqtt_4_3_1_1_a_message_of_qos_0_says_so_and_has_no_dup = (
    sessions.a_message_of_qos_0_says_so_and_has_no_dup
)


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
    mqtt.back("s").is_quiet()


test_mqtt_4_3_2_2_puback_comes_for_each_message = sessions.puback_comes_for_each_message
test_mqtt_4_3_2_2_after_puback_the_same_id_is_a_new_message = (
    sessions.after_puback_the_same_id_is_a_new_message
)


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
    mqtt.back("s").is_quiet()


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
    sub.is_quiet()


test_mqtt_4_3_3_1_an_id_is_not_free_before_its_pubcomp = sessions.an_id_is_not_free_before_its_pubcomp


def test_mqtt_4_3_3_2_a_message_goes_through_the_four_packets_once(mqtt):
    end = mqtt.topic("end")
    sub, pub = mqtt.subscriber((mqtt.topic("+"), 2)), mqtt.client()
    pub.send(wire.publish(mqtt.topic(), b"x", 2, 5))
    assert pub.expect(wire.PUBREC).body == wire.two(5)
    pub.send(wire.pubrel(5))
    assert pub.expect(wire.PUBCOMP).body == wire.two(5)
    pub.publish(end, b"", 2)
    assert [message.payload for message in sub.until(end)] == [b"x"]


test_mqtt_4_3_3_2_before_pubrel_the_same_id_is_the_same_message = (
    sessions.before_pubrel_the_same_id_is_the_same_message
)
test_mqtt_4_3_3_2_the_same_message_after_a_lost_connection_comes_once = (
    sessions.the_same_message_after_a_lost_connection_comes_once
)


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
    """The standard has no word for them."""
    sessions.acknowledgements_out_of_turn_harm_no_message(mqtt, name, 2)
