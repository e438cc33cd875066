"""What one connection may do in a second."""

import time

from conformance import wire, wire5


def metric(paced, name, label):
    status, text = paced.broker.daemon.admin("/metrics")
    assert status == 200
    [line] = [one for one in text.splitlines() if one.startswith(f"iotedge_{name}{{{label}}}")]
    return int(line.split()[-1])


def test_a_connection_publishes_100_messages_a_second(paced):
    """The one more is discarded: told in version 5, passed over in silence in 3.1.1."""
    before = metric(paced, "dropped_total", 'reason="throttled"')
    client = paced.client()
    one = [
        wire.publish(paced.topic(), b"x", 1, n) if paced.version == 4
        else wire5.publish(paced.topic(), b"x", qos=1, packet_id=n)
        for n in range(1, 102)
    ]
    client.send(*one[:100])
    acks = [client.expect(wire.PUBACK) for _ in range(100)]
    assert [ack.packet_id for ack in acks] == list(range(1, 101))
    client.send(one[100], wire.pingreq())
    if paced.version == 5:
        assert {ack.code for ack in acks} == {0}
        over = client.expect(wire.PUBACK)
        assert (over.packet_id, over.code) == (101, 0x97) and over.one(wire5.REASON_STRING)
    client.expect(wire.PINGRESP)
    # The next second has room again.
    time.sleep(1.1)
    client.publish(paced.topic(), b"x")
    assert metric(paced, "dropped_total", 'reason="throttled"') == before + 1


def test_a_connection_is_sent_100_messages_a_second(paced):
    subscriber = paced.subscriber((paced.topic(), 0))
    publishers = [paced.client() for _ in range(2)]
    began = time.monotonic()
    for n in range(60):
        for publisher in publishers:
            publisher.publish(paced.topic(), qos=0)
    for _ in range(100):
        subscriber.take()
    # What is said beside them does not wait.
    subscriber.ping()
    subscriber.take()
    assert time.monotonic() - began > 0.99


def test_a_connection_moves_512_kib_a_second(paced):
    client = paced.client()
    began = time.monotonic()
    # 640 KiB, in ten messages.
    client.send(*[paced.publish(paced.topic(), b"x" * 65536, qos=0)] * 10)
    client.ping()
    assert time.monotonic() - began > 0.99
