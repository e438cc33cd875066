"""SUBSCRIBE and UNSUBSCRIBE."""

import pytest
from conformance import wire, wire5


def filters(aws, count, first=0):
    return [(aws.topic(str(n)), 1) for n in range(first, first + count)]


def test_a_subscribe_has_8_filters(aws):
    client = aws.subscriber(*filters(aws, 8))
    aws.is_thrown_out(client, aws.subscribe(*filters(aws, 9)), code=0x97)


def test_an_unsubscribe_has_8_filters(aws):
    client = aws.subscriber(*filters(aws, 8))
    names = [name for name, _ in filters(aws, 9)]
    client.unsubscribe(*names[:8])
    aws.is_thrown_out(client, aws.unsubscribe(*names), code=0x97)


def test_a_connection_has_50_subscriptions(aws):
    client = aws.client()
    for first in range(0, 48, 8):
        assert client.subscribe(*filters(aws, 8, first)) == [1] * 8
    assert client.subscribe(*filters(aws, 2, 48)) == [1, 1]
    # One that is there already is none more.
    assert client.subscribe(*filters(aws, 1, 49)) == [1]
    client.send(aws.subscribe(*filters(aws, 2, 49)))
    answer = client.expect(wire.SUBACK)
    codes = list(answer.body[2:]) if aws.version == 4 else answer.codes
    assert codes == [1, 0x80 if aws.version == 4 else 0x97]
    if aws.version == 4:
        client.thrown_out()
    else:
        [said] = client.closed()
        assert (said.kind, said.code) == (wire.DISCONNECT, 0x97)


def test_a_filter_has_256_bytes(aws):
    client = aws.subscriber(("x" * 256, 1), ("é" * 127 + "/#", 1))
    for over in ("x" * 257, "é" * 127 + "x/#"):
        aws.is_thrown_out(client, aws.subscribe((over, 1)), code=0x8F)
        client = aws.client()


def test_a_filter_has_seven_slashes(aws):
    client = aws.subscriber(("a/b/c/d/e/f/g/#", 1), ("/+" * 7, 1))
    for over in ("a/b/c/d/e/f/g/h/#", "/+" * 8):
        aws.is_thrown_out(client, aws.subscribe((over, 1)), code=0x8F)
        client = aws.client()


def test_the_levels_that_make_a_filter_shared_do_not_count(aws):
    name = "n" * 128
    client = aws.subscriber((f"$share/{name}/a/b/c/d/e/f/g/#", 1), (f"$share/{name}/{'x' * 256}", 1))
    for over in ("$share/n/a/b/c/d/e/f/g/h/#", f"$share/n/{'x' * 257}", f"$share/{name}n/a"):
        aws.is_thrown_out(client, aws.subscribe((over, 1)), code=0x8F)
        client = aws.client()


@pytest.mark.parametrize("filter", ["$SYS/#", "$mine/a", "$aws/nothing/#"])
def test_filters_that_begin_with_a_dollar_are_reserved(aws, filter):
    client = aws.subscriber(("$aws/things/t/shadow/#", 1), ("$aws/events/presence/+/+", 1))
    aws.is_thrown_out(client, aws.subscribe((filter, 1)), code=0x8F)


def test_qos_2_is_answered_with_nothing(aws):
    subscribe = aws.subscribe((aws.topic("a"), 1), (aws.topic("b"), 2))
    aws.is_thrown_out(aws.client(), subscribe, code=0x9B)


def test_subscription_identifiers_are_not_there(aws5):
    subscribe = wire5.subscribe([(aws5.topic(), 1)], (wire5.SUBSCRIPTION_ID, 1))
    aws5.is_thrown_out(aws5.client(), subscribe, code=0xA1)


def test_a_filter_that_was_not_there_is_unsubscribed_like_any_other(aws5):
    client = aws5.subscriber((aws5.topic("a"), 1))
    assert client.unsubscribe(aws5.topic("a"), aws5.topic("b")) == [0, 0]


def test_a_wildcard_does_not_match_the_parent(aws):
    client = aws.subscriber((aws.topic("sensor/#"), 0))
    publisher = aws.client()
    topics = [aws.topic(name) for name in ("sensor", "sensor/", "sensor/temperature/room1")]
    for topic in topics:
        publisher.publish(topic, qos=0)
    assert [client.take().topic for _ in topics[1:]] == topics[1:]


@pytest.mark.parametrize("filter", ["a/#/b", "a+", "#x"])
def test_a_filter_that_is_none_is_refused(aws, filter):
    client = aws.client()
    if aws.version == 4:
        aws.is_thrown_out(client, aws.subscribe((filter, 1)))
    else:
        assert client.subscribe((filter, 1)) == [0x8F]
