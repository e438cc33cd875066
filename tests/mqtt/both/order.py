"""Messages arrive in the order in which they were sent (4.6 in both)."""

import pytest
from conformance import wire


@pytest.mark.parametrize("qos", [1, 2])
def messages_are_sent_again_in_their_order(mqtt, qos):
    """Written for clients; a server that did not could not keep the order of its deliveries."""
    sub = mqtt.stored("s", (mqtt.topic(), qos))
    first = mqtt.sent_to(sub, qos, 15)
    sub.close()
    sub = mqtt.back("s")
    again = [sub.expect(wire.PUBLISH) for _ in range(15)]
    assert [m.payload for m in again] == [m.payload for m in first] == [b"%d" % n for n in range(15)]


def pubrels_are_in_the_order_of_the_pubrecs(mqtt):
    """Written for clients; here for what the server sends."""
    sub = mqtt.subscriber((mqtt.topic(), 2))
    ids = [message.packet_id for message in mqtt.sent_to(sub, 2, 10)]
    sub.send(*(wire.pubrec(packet_id) for packet_id in ids))
    assert [sub.expect(wire.PUBREL).packet_id for _ in ids] == ids


@pytest.mark.parametrize("qos", [0, 1, 2])
def topics_are_ordered_by_default(mqtt, qos):
    sub, pub = mqtt.subscriber((mqtt.topic(), qos)), mqtt.client()
    for n in range(100):
        pub.publish(mqtt.topic(), b"%d" % n, qos=qos)
    assert [int(sub.take().payload) for _ in range(100)] == list(range(100))


def the_order_of_each_publisher_is_kept(mqtt, qos, acknowledged=lambda pub, ids: None):
    """Two publishers send in turns, with many messages under way at once; `acknowledged` sees to
    the ids of some of them."""
    sub = mqtt.subscriber((mqtt.topic("+"), qos))
    pubs = [mqtt.client(), mqtt.client()]
    for start in range(0, 200, 10):
        for who, pub in enumerate(pubs):
            pub.send(*(
                mqtt.wire.publish(
                    mqtt.topic("abc"[n % 3]), b"%d %d" % (who, n), qos=qos, packet_id=n + 1
                )
                for n in range(start, start + 10)
            ))
            acknowledged(pub, range(start + 1, start + 11))
    seen = {}
    for _ in range(400):
        got = sub.take()
        who, n = map(int, got.payload.split())
        seen.setdefault((who, got.topic), []).append(n)
    for numbers in seen.values():
        assert numbers == sorted(set(numbers))
    assert sum(map(len, seen.values())) == 400


def the_order_is_kept_from_the_queue_into_the_live_stream(mqtt, count):
    """`count` from the queue, and as many as go without an acknowledgement behind them."""
    mqtt.away("s", (mqtt.topic(), 1))
    pub = mqtt.client()
    for n in range(100):
        pub.publish(mqtt.topic(), b"%d" % n)
    sub = mqtt.back("s")
    ids = range(100, 100 + count)
    pub.send(*(mqtt.wire.publish(mqtt.topic(), b"%d" % n, qos=1, packet_id=n) for n in ids))
    assert [int(sub.take().payload) for _ in range(100 + count)] == list(range(100 + count))
