"""PUBLISH: sizes, topics, QoS and what travels with it."""

import pytest
from conformance import wire, wire5

KB128 = 128 * 1024


@pytest.mark.parametrize("qos", [0, 1])
def test_a_payload_has_128_kb(aws, qos):
    client = aws.subscriber((aws.topic(), 0))
    client.publish(aws.topic(), b"x" * KB128, qos=qos)
    assert len(client.take().payload) == KB128
    over = aws.publish(aws.topic(), b"x" * (KB128 + 1), qos)
    aws.is_thrown_out(client, over, code=0x97)


def test_a_packet_has_146_kib(aws5):
    def publish(size):
        data = (wire5.CORRELATION, b"c" * size)
        return wire5.publish(aws5.topic(), b"x" * KB128, data, qos=1)

    # Lengths from 16 KiB on have three bytes.
    room = 149_504 - len(publish(17_000)) + 17_000
    client = aws5.client()
    assert len(publish(room)) == 149_504
    client.send(publish(room))
    assert client.await_packet(wire.PUBACK).code == 0
    aws5.is_thrown_out(client, publish(room + 1), code=0x95)


@pytest.mark.parametrize("qos", [0, 1])
def test_a_topic_has_256_bytes(aws, qos):
    client = aws.client()
    for just in ("x" * 256, "é" * 128):
        client.publish(just, qos=qos)
        client.ping()
    for over in ("x" * 257, "é" * 128 + "x"):
        aws.is_thrown_out(aws.client(), aws.publish(over, qos=qos), code=0x90)


@pytest.mark.parametrize("qos", [0, 1])
def test_a_topic_has_seven_slashes(aws, qos):
    client = aws.client()
    for just in ("/" * 7, "a/b/c/d/e/f/g/h"):
        client.publish(just, qos=qos)
        client.ping()
    aws.is_thrown_out(aws.client(), aws.publish("a/b/c/d/e/f/g/h/i", qos=qos), code=0x90)


def test_the_levels_before_a_basic_ingest_topic_do_not_count(aws):
    rule = "$aws/rules/" + "r" * 128
    client = aws.client()
    for just in (f"{rule}/a/b/c/d/e/f/g/h", f"{rule}/{'x' * 256}"):
        client.publish(just)
    for over in (f"{rule}/a/b/c/d/e/f/g/h/i", f"{rule}/{'x' * 257}"):
        aws.is_thrown_out(aws.client(), aws.publish(over), code=0x90)


def test_qos_2_is_not_there(aws):
    aws.is_thrown_out(aws.client(), aws.publish(aws.topic(), qos=2), code=0x9B)


@pytest.mark.parametrize("kind", [wire.PUBREC, wire.PUBREL, wire.PUBCOMP])
def test_the_packets_of_qos_2_are_not_there(aws, kind):
    packet = wire.packet(kind, 2 if kind == wire.PUBREL else 0, b"\0\1")
    aws.is_thrown_out(aws.client(), packet, code=0x82)


@pytest.mark.parametrize("topic", ["$mine", "$SYS/broker", "$aws/nothing/of/the/kind"])
@pytest.mark.parametrize("qos", [0, 1])
def test_topics_that_begin_with_a_dollar_are_reserved(aws, topic, qos):
    aws.is_thrown_out(aws.client(), aws.publish(topic, qos=qos), code=0x90)


def test_nothing_is_retained_on_a_reserved_topic(aws):
    topic = "$aws/things/t/shadow/update"
    aws.client().publish(topic, b"{}")
    aws.is_thrown_out(aws.client(), aws.publish(topic, b"{}", retain=True), code=0x90)


def test_a_retained_message_comes_to_its_own_topic_only(aws):
    publisher = aws.client()
    publisher.publish(aws.topic("kept"), b"kept", retain=True)
    client = aws.subscriber((aws.topic("+"), 0), (aws.topic("#"), 0))
    publisher.publish(aws.topic("end"), b"", qos=0)
    assert client.until(aws.topic("end")) == []
    assert client.subscribe((aws.topic("kept"), 0)) == [0]
    got = client.take()
    assert (got.payload, got.retain) == (b"kept", True)
    # To an established subscription it comes like any other.
    publisher.publish(aws.topic("kept"), b"new", retain=True)
    assert not client.take().retain
    # Nothing takes it away, and comes too.
    publisher.publish(aws.topic("kept"), b"", retain=True)
    assert client.take().payload == b""
    later = aws.subscriber((aws.topic("kept"), 0))
    publisher.publish(aws.topic("kept"), b"last", qos=0)
    assert later.take().payload == b"last"


def test_an_alias_is_8_at_most(aws5):
    client = aws5.client()
    client.send(wire5.publish(aws5.topic(), b"", (wire5.ALIAS, 8)))
    client.ping()
    over = wire5.publish(aws5.topic(), b"", (wire5.ALIAS, 9))
    aws5.is_thrown_out(client, over, code=0x94)


def test_a_client_is_given_8_aliases_at_most(aws5):
    client = aws5.client("s", (wire5.ALIAS_MAXIMUM, 100))
    client.subscribe((aws5.topic("#"), 0))
    for n in range(9):
        client.publish(aws5.topic(str(n)), qos=0)
    aliases = [client.take().all(wire5.ALIAS) for _ in range(9)]
    assert aliases == [[n] for n in range(1, 9)] + [[]]


@pytest.mark.parametrize(
    "asked, left", [(0, {0, 1}), (1, {0, 1}), (604_800, {604_799, 604_800}),
                    (604_801, {604_799, 604_800})],
)
def test_a_message_lives_1_second_to_7_days(aws5, asked, left):
    client = aws5.subscriber((aws5.topic(), 0))
    client.publish(aws5.topic(), b"x", (wire5.MESSAGE_EXPIRY, asked), qos=0)
    assert client.take().one(wire5.MESSAGE_EXPIRY) in left


def test_user_properties_have_8_kb(aws5):
    def publish(size):
        pairs = [(wire5.USER, ("k", "x" * 1023))] * 7 + [(wire5.USER, ("k", "x" * (size - 7169)))]
        return wire5.publish(aws5.topic(), b"x", *pairs, qos=1)

    client = aws5.client()
    client.send(publish(8192))
    assert client.await_packet(wire.PUBACK).code == 0
    aws5.is_thrown_out(client, publish(8193), code=0x97)


def test_a_subscriber_has_100_in_flight(aws):
    subscriber = aws.subscriber((aws.topic(), 1))
    publisher = aws.client()
    for n in range(101):
        publisher.publish(aws.topic(), str(n).encode())
    got = [subscriber.expect(wire.PUBLISH) for _ in range(100)]
    assert [int(one.payload) for one in got] == list(range(100))
    # What comes next is the answer to this, and not the message behind the hundred.
    subscriber.send(wire.pingreq())
    subscriber.expect(wire.PINGRESP)
    subscriber.send(wire.puback(got[0].packet_id))
    assert subscriber.expect(wire.PUBLISH).payload == b"100"
