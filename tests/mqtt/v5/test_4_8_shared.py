"""4.8.2: shared subscriptions."""

import pytest
from conformance import wire5
from conformance.marks import not_mosquitto
from conformance.wire5 import PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL

lenient = not_mosquitto("throws out who asks for what is no filter, or grants it")


def shared(mqtt, name="g", topic="a"):
    return f"$share/{name}/{mqtt.topic(topic)}"


def group(mqtt, *options, stays=True):
    """Members of one group, which have these options."""
    pairs = [mqtt.STAYS] if stays else []
    return [mqtt.subscriber((shared(mqtt), one), name=f"m{n}", pairs=pairs)
            for n, one in enumerate(options)]


def received(*clients):
    """What each has got by now."""
    return [client.so_far() for client in clients]


def chosen(first, second):
    """The member that gets what was published, and the other one."""
    while True:
        match received(first, second):
            case [[_], []]:
                return first, second
            case [[], [_]]:
                return second, first


def test_mqtt_4_8_2_1_a_share_name_makes_one_subscription_of_many(mqtt):
    members = group(mqtt, 1, 1, stays=False)
    one = mqtt.subscriber((shared(mqtt, "h"), 1))
    plain = mqtt.subscriber((mqtt.topic(), 1))
    for n in range(6):
        mqtt.client().publish(mqtt.topic(), bytes([n]))
    got = received(*members, one, plain)
    assert [len(packets) for packets in got] == [3, 3, 6, 6]
    assert sorted(p.payload[0] for p in got[0] + got[1]) == list(range(6))


@lenient
@pytest.mark.parametrize("filter", ["$share/", "$share//a", "$share//", "$share///a"])
def test_mqtt_4_8_2_1_a_share_name_has_a_character(mqtt, filter):
    client = mqtt.client()
    assert client.subscribe((filter, 1), (mqtt.topic(), 1)) == [0x8F, 1]


@lenient
def test_mqtt_4_8_2_1_a_filter_that_begins_like_one_is_its_own(mqtt):
    client = mqtt.client()
    assert client.subscribe(("$share", 1), ("$shared/g/a", 1), ("x$share/g/a", 1)) == [1, 1, 1]


@lenient
@pytest.mark.parametrize("name", ["+", "#", "a+b", "a#"])
def test_mqtt_4_8_2_2_a_share_name_has_no_wildcard(mqtt, name):
    assert mqtt.client().subscribe((shared(mqtt, name), 1), (mqtt.topic(), 1)) == [0x8F, 1]


@lenient
@pytest.mark.parametrize("filter", ["$share/g", "$share/g/", "$share/g/a/#/b", "$share/g/a+"])
def test_mqtt_4_8_2_2_behind_the_share_name_is_a_filter(mqtt, filter):
    assert mqtt.client().subscribe((filter, 1), (mqtt.topic(), 1)) == [0x8F, 1]


def test_mqtt_4_8_2_2_what_is_behind_the_share_name_filters(mqtt):
    below = mqtt.subscriber((shared(mqtt, topic="a/#"), 1))
    for topic in ("a", "a/b", "ab", "b"):
        mqtt.client().publish(mqtt.topic(topic), topic.encode())
    [got] = received(below)
    assert [packet.payload for packet in got] == [b"a", b"a/b"]


@pytest.mark.parametrize("stays", [False, True])
def test_mqtt_4_8_2_3_the_qos_is_the_chosen_clients(mqtt, stays):
    members = group(mqtt, 0, 1, stays=stays)
    publisher = mqtt.client()
    for n in range(4):
        publisher.publish(mqtt.topic(), bytes([n]))
    zero, one = received(*members)
    assert [packet.qos for packet in zero] == [0, 0]
    assert [packet.qos for packet in one] == [1, 1]


def test_mqtt_4_8_2_4_what_was_begun_at_qos_2_is_ended_with_that_client(mqtt):
    first, second = group(mqtt, 2, 2)
    mqtt.client().publish(mqtt.topic(), b"x", qos=2)
    member, other = chosen(first, second)
    name = "m0" if member is first else "m1"
    member.close()
    assert other.so_far() == []
    member = mqtt.back(name)
    again = member.expect(PUBLISH)
    assert (again.qos, again.dup, again.payload) == (2, True, b"x")
    member.send(wire5.ack(PUBREC, again.packet_id))
    assert member.expect(PUBREL).packet_id == again.packet_id
    member.close()
    member = mqtt.back(name)
    assert member.expect(PUBREL).packet_id == again.packet_id
    member.send(wire5.ack(PUBCOMP, again.packet_id))
    assert received(member, other) == [[], []]


def test_mqtt_4_8_2_5_what_was_begun_at_qos_2_goes_to_nobody_else(mqtt):
    first, second = group(mqtt, 2, 2)
    mqtt.client().publish(mqtt.topic(), b"x", qos=2)
    member, other = chosen(first, second)
    member.leave(0, (wire5.SESSION_EXPIRY, 0))
    mqtt.client().publish(mqtt.topic(), b"next", qos=2)
    assert other.take().payload == b"next"


@pytest.mark.parametrize("stays", [False, True])
def test_mqtt_4_8_2_6_what_its_client_refuses_goes_to_nobody_else(mqtt, stays):
    first, second = group(mqtt, 1, 1, stays=stays)
    mqtt.client().publish(mqtt.topic(), b"x")
    [[got], []], member, other = received(first, second), first, second
    member.send(wire5.ack(PUBACK, got.packet_id, 0x97))
    member.leave(0, (wire5.SESSION_EXPIRY, 0))
    mqtt.client().publish(mqtt.topic(), b"next")
    assert other.take().payload == b"next"
