"""4.6: messages arrive in the order in which they were sent."""

import pytest
from conformance import wire


@pytest.mark.parametrize("qos", [1, 2])
def test_mqtt_4_6_0_1_messages_are_sent_again_in_their_order(mqtt, qos):
    """Written for clients; 4.6.0-6 makes it a rule for what the server delivers."""
    sub = mqtt.subscriber((mqtt.topic(), qos), name="s", clean=False)
    pub = mqtt.client()
    for n in range(15):
        pub.publish(mqtt.topic(), b"%d" % n, qos)
    first = [sub.expect(wire.PUBLISH) for _ in range(15)]
    sub.close()
    sub = mqtt.back("s")
    again = [sub.expect(wire.PUBLISH) for _ in range(15)]
    assert [m.payload for m in again] == [m.payload for m in first] == [b"%d" % n for n in range(15)]


def test_mqtt_4_6_0_4_pubrels_are_in_the_order_of_the_pubrecs(mqtt):
    """Written for clients; 4.6.0-6 makes it a rule for what the server delivers."""
    sub, pub = mqtt.subscriber((mqtt.topic(), 2)), mqtt.client()
    for n in range(10):
        pub.publish(mqtt.topic(), b"%d" % n, 2)
    ids = [sub.expect(wire.PUBLISH).packet_id for _ in range(10)]
    sub.send(*(wire.pubrec(packet_id) for packet_id in ids))
    assert [sub.expect(wire.PUBREL).packet_id for _ in ids] == ids


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_mqtt_4_6_0_5_topics_are_ordered_by_default(mqtt, qos):
    sub, pub = mqtt.subscriber((mqtt.topic(), qos)), mqtt.client()
    for n in range(100):
        pub.publish(mqtt.topic(), b"%d" % n, qos)
    assert [int(sub.take().payload) for _ in range(100)] == list(range(100))


@pytest.mark.parametrize("qos", [0, 1])
def test_mqtt_4_6_0_6_the_order_of_each_publisher_is_kept(mqtt, qos):
    """Two publishers send in turns, with many messages under way at once."""
    sub = mqtt.subscriber((mqtt.topic("+"), qos))
    pubs = [mqtt.client(), mqtt.client()]
    for start in range(0, 200, 10):
        for who, pub in enumerate(pubs):
            pub.send(*(
                wire.publish(mqtt.topic("abc"[n % 3]), b"%d %d" % (who, n), qos, n + 1)
                for n in range(start, start + 10)
            ))
    seen = {}
    for _ in range(400):
        got = sub.take()
        who, n = map(int, got.payload.split())
        seen.setdefault((who, got.topic), []).append(n)
    for numbers in seen.values():
        assert numbers == sorted(numbers)
    assert sum(map(len, seen.values())) == 400


def test_mqtt_4_6_0_6_the_order_is_kept_from_the_queue_into_the_live_stream(mqtt):
    mqtt.away("s", (mqtt.topic(), 1))
    pub = mqtt.client()
    for n in range(100):
        pub.publish(mqtt.topic(), b"%d" % n)
    sub = mqtt.back("s")
    pub.send(*(wire.publish(mqtt.topic(), b"%d" % n, 1, n) for n in range(100, 200)))
    assert [int(sub.take().payload) for _ in range(200)] == list(range(200))
