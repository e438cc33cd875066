"""4.6: messages arrive in the order in which they were sent."""

import pytest
from conformance import wire, wire5

QOS = pytest.mark.parametrize("qos", [1, 2])


def sent(mqtt, sub, qos, count):
    """What a subscriber gets, before any acknowledgement."""
    pub = mqtt.client()
    for n in range(count):
        pub.publish(mqtt.topic(), b"%d" % n, qos=qos)
    return [sub.expect(wire.PUBLISH) for _ in range(count)]


@QOS
def test_mqtt_4_6_0_1_messages_are_sent_again_in_their_order(mqtt, qos):
    """Written for clients; a server that did not could not keep the order of its deliveries."""
    sub = mqtt.subscriber((mqtt.topic(), qos), name="s", pairs=[mqtt.STAYS])
    first = sent(mqtt, sub, qos, 15)
    sub.close()
    sub = mqtt.back("s")
    again = [sub.expect(wire.PUBLISH) for _ in range(15)]
    assert [m.payload for m in again] == [m.payload for m in first] == [b"%d" % n for n in range(15)]


def test_mqtt_4_6_0_2_pubacks_in_another_order_are_taken(mqtt):
    """A client that breaks the rule: each acknowledgement ends its own message."""
    sub = mqtt.subscriber((mqtt.topic(), 1), name="s", pairs=[mqtt.STAYS])
    got = sent(mqtt, sub, 1, 10)
    sub.send(*(wire.puback(message.packet_id) for message in reversed(got[2:])))
    sub.ping()
    sub.close()
    sub = mqtt.back("s")
    assert [sub.take().payload for _ in range(2)] == [b"0", b"1"]
    sub.send(wire.pingreq())
    sub.expect(wire.PINGRESP)


def test_mqtt_4_6_0_3_pubrecs_in_another_order_are_taken(mqtt):
    """A client that breaks the rule: each acknowledgement is answered for its own message."""
    sub = mqtt.subscriber((mqtt.topic(), 2), name="s", pairs=[mqtt.STAYS])
    ids = [message.packet_id for message in sent(mqtt, sub, 2, 10)]
    sub.send(*(wire.pubrec(packet_id) for packet_id in reversed(ids)))
    assert [sub.expect(wire.PUBREL).packet_id for _ in ids] == ids[::-1]
    sub.send(*(wire.pubcomp(packet_id) for packet_id in ids[2:]))
    sub.ping()
    sub.close()
    sub = mqtt.back("s")
    assert {sub.expect(wire.PUBREL).packet_id for _ in range(2)} == set(ids[:2])
    sub.send(wire.pingreq())
    sub.expect(wire.PINGRESP)


def test_mqtt_4_6_0_4_pubrels_are_in_the_order_of_the_pubrecs(mqtt):
    """Written for clients; here for what the server sends."""
    sub = mqtt.subscriber((mqtt.topic(), 2))
    ids = [message.packet_id for message in sent(mqtt, sub, 2, 10)]
    sub.send(*(wire.pubrec(packet_id) for packet_id in ids))
    assert [sub.expect(wire.PUBREL).packet_id for _ in ids] == ids


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_mqtt_4_6_0_5_the_order_of_each_publisher_is_kept(mqtt, qos):
    """Two publishers send in turns, with many messages under way at once."""
    sub = mqtt.subscriber((mqtt.topic("+"), qos))
    pubs = [mqtt.client(), mqtt.client()]
    for start in range(0, 200, 10):
        for who, pub in enumerate(pubs):
            pub.send(*(
                wire5.publish(
                    mqtt.topic("abc"[n % 3]), b"%d %d" % (who, n), qos=qos, packet_id=n + 1
                )
                for n in range(start, start + 10)
            ))
            if qos:
                acks = [pub.expect(wire.PUBACK if qos == 1 else wire.PUBREC) for _ in range(10)]
                assert [a.packet_id for a in acks] == list(range(start + 1, start + 11))
            if qos == 2:
                pub.send(*(wire.pubrel(ack.packet_id) for ack in acks))
                assert [pub.expect(wire.PUBCOMP).code for _ in acks] == [0] * 10
    seen = {}
    for _ in range(400):
        got = sub.take()
        who, n = map(int, got.payload.split())
        seen.setdefault((who, got.topic), []).append(n)
    for numbers in seen.values():
        assert numbers == sorted(set(numbers))
    assert sum(map(len, seen.values())) == 400


def test_mqtt_4_6_0_5_the_order_is_kept_from_the_queue_into_the_live_stream(mqtt):
    mqtt.away("s", (mqtt.topic(), 1))
    pub = mqtt.client()
    for n in range(100):
        pub.publish(mqtt.topic(), b"%d" % n)
    sub = mqtt.back("s")
    ids = range(100, 150)
    pub.send(*(wire5.publish(mqtt.topic(), b"%d" % n, qos=1, packet_id=n) for n in ids))
    assert [int(sub.take().payload) for _ in range(150)] == list(range(150))


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_mqtt_4_6_0_6_topics_are_ordered_by_default(mqtt, qos):
    sub, pub = mqtt.subscriber((mqtt.topic(), qos)), mqtt.client()
    for n in range(100):
        pub.publish(mqtt.topic(), b"%d" % n, qos=qos)
    assert [int(sub.take().payload) for _ in range(100)] == list(range(100))
