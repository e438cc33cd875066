"""4.6: messages arrive in the order in which they were sent."""

import pytest
from both import order
from conformance import wire

test_mqtt_4_6_0_1_messages_are_sent_again_in_their_order = order.messages_are_sent_again_in_their_order


def test_mqtt_4_6_0_2_pubacks_in_another_order_are_taken(mqtt):
    """A client that breaks the rule: each acknowledgement ends its own message."""
    sub = mqtt.subscriber((mqtt.topic(), 1), name="s", pairs=[mqtt.STAYS])
    got = mqtt.sent_to(sub, 1, 10)
    sub.send(*(wire.puback(message.packet_id) for message in reversed(got[2:])))
    sub.ping()
    sub.close()
    sub = mqtt.back("s")
    assert [sub.take().payload for _ in range(2)] == [b"0", b"1"]
    sub.is_quiet()


def test_mqtt_4_6_0_3_pubrecs_in_another_order_are_taken(mqtt):
    """A client that breaks the rule: each acknowledgement is answered for its own message."""
    sub = mqtt.subscriber((mqtt.topic(), 2), name="s", pairs=[mqtt.STAYS])
    ids = [message.packet_id for message in mqtt.sent_to(sub, 2, 10)]
    sub.send(*(wire.pubrec(packet_id) for packet_id in reversed(ids)))
    assert [sub.expect(wire.PUBREL).packet_id for _ in ids] == ids[::-1]
    sub.send(*(wire.pubcomp(packet_id) for packet_id in ids[2:]))
    sub.ping()
    sub.close()
    sub = mqtt.back("s")
    assert {sub.expect(wire.PUBREL).packet_id for _ in range(2)} == set(ids[:2])
    sub.is_quiet()


test_mqtt_4_6_0_4_pubrels_are_in_the_order_of_the_pubrecs = order.pubrels_are_in_the_order_of_the_pubrecs


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_mqtt_4_6_0_5_the_order_of_each_publisher_is_kept(mqtt, qos):
    def acknowledged(pub, ids):
        """All of them, in their order, as the server's receive maximum wants it."""
        if qos:
            acks = [pub.expect(wire.PUBACK if qos == 1 else wire.PUBREC) for _ in ids]
            assert [ack.packet_id for ack in acks] == list(ids)
        if qos == 2:
            pub.send(*(wire.pubrel(packet_id) for packet_id in ids))
            assert [pub.expect(wire.PUBCOMP).code for _ in ids] == [0] * len(ids)

    order.the_order_of_each_publisher_is_kept(mqtt, qos, acknowledged)


def test_mqtt_4_6_0_5_the_order_is_kept_from_the_queue_into_the_live_stream(mqtt):
    order.the_order_is_kept_from_the_queue_into_the_live_stream(mqtt, 50)


test_mqtt_4_6_0_6_topics_are_ordered_by_default = order.topics_are_ordered_by_default
