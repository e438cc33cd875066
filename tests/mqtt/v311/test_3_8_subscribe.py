"""3.8 and 3.9: SUBSCRIBE and SUBACK."""

import pytest
from conformance import wire
from conformance.marks import not_mosquitto


def codes(client, filters, packet_id=1):
    """The codes of the SUBACK, as they are."""
    client.send(wire.subscribe(filters, packet_id))
    answer = client.await_packet(wire.SUBACK)
    assert answer.packet_id == packet_id
    return list(answer.body[2:])


@pytest.mark.parametrize("flags", [0, 1, 3, 6, 10, 15])
def test_mqtt_3_8_1_1_other_flags_in_subscribe_close(mqtt, flags):
    mqtt.ends(wire.tampered(wire.subscribe([(mqtt.topic(), 0)]), flags))


FILTERS = {
    "not-utf-8": wire.text(b"\xff/a") + b"\0",
    "longer-than-the-packet": b"\0\x0aabc\0",
    "half-a-length": b"\0",
    "second-without-qos": wire.text("a") + b"\0" + wire.text("b"),
}


@pytest.mark.parametrize("name", FILTERS)
def test_mqtt_3_8_3_1_a_filter_that_is_no_string_closes(mqtt, name):
    mqtt.ends(wire.packet(wire.SUBSCRIBE, 2, wire.two(1) + FILTERS[name]))


def test_mqtt_3_8_3_2_filters_with_wildcards_are_taken(mqtt):
    client = mqtt.client()
    filters = [(f, 0) for f in ("#", "+", "+/+", "/#", "a/#", "a/+/b/#")]
    assert codes(client, filters) == [0] * 6


def test_mqtt_3_8_3_3_a_subscribe_without_a_filter_closes(mqtt):
    mqtt.ends(wire.packet(wire.SUBSCRIBE, 2, wire.two(1)))


@pytest.mark.parametrize("options", [3, 4, 5, 8, 0x10, 0x20, 0x40, 0x80, 0x81, 0xFC, 0xFF])
def test_mqtt_3_8_3_4_reserved_bits_and_qos_3_close(mqtt, options):
    mqtt.ends(wire.subscribe([(mqtt.topic(), options)]))
    mqtt.ends(wire.subscribe([(mqtt.topic(), 0), (mqtt.topic("b"), options)]))


def test_mqtt_3_8_4_1_every_subscribe_is_answered(mqtt):
    client = mqtt.client()
    client.send(*(wire.subscribe([(mqtt.topic(f"{n}"), n % 2)], n + 1) for n in range(20)))
    answers = [client.expect(wire.SUBACK) for _ in range(20)]
    assert sorted(answer.packet_id for answer in answers) == list(range(1, 21))


@pytest.mark.parametrize("packet_id", [1, 255, 256, 65535])
def test_mqtt_3_8_4_2_suback_has_the_packet_id_of_subscribe(mqtt, packet_id):
    client = mqtt.client()
    client.send(wire.subscribe([(mqtt.topic(), 0)], packet_id))
    assert client.expect(wire.SUBACK).body == wire.two(packet_id) + b"\0"


@pytest.mark.parametrize("old, new", [(0, 1), (1, 0)])
def test_mqtt_3_8_4_3_the_same_filter_again_replaces_the_subscription(mqtt, old, new):
    end = mqtt.topic("end")
    sub = mqtt.subscriber((mqtt.topic(), old), (end, 1))
    assert sub.subscribe((mqtt.topic(), new)) == [new]
    pub = mqtt.client()
    pub.publish(mqtt.topic(), b"x")
    pub.publish(end)
    assert [message.qos for message in sub.until(end)] == [new]


def test_mqtt_3_8_4_3_the_same_filter_again_brings_the_retained_messages_again(mqtt):
    pub = mqtt.client()
    pub.publish(mqtt.topic("b"), b"kept", retain=True)
    sub = mqtt.subscriber((mqtt.topic("+"), 0))
    assert sub.take().qos == 0
    sub.subscribe((mqtt.topic("+"), 1))
    got = sub.take()
    assert (got.payload, got.qos, got.retain) == (b"kept", 1, True)


def test_mqtt_3_8_4_3_the_flow_of_messages_is_not_interrupted(mqtt):
    """Messages pour in while the subscription is made again and again."""
    sub, pub = mqtt.subscriber((mqtt.topic(), 1)), mqtt.client()
    for n in range(1, 101):
        pub.send(wire.publish(mqtt.topic(), b"%d" % n, 1, n))
        if n % 5 == 0:
            sub.send(wire.subscribe([(mqtt.topic(), 1)], n))
    got, subacks = [], 0
    while len(got) < 100 or subacks < 20:
        packet = sub.receive()
        if packet.kind == wire.PUBLISH:
            got.append(int(packet.payload))
            sub.send(wire.puback(packet.packet_id))
        else:
            assert packet.kind == wire.SUBACK
            subacks += 1
    assert got == list(range(1, 101))


def test_mqtt_3_8_4_4_several_filters_are_like_several_subscribes(mqtt):
    pub = mqtt.client()
    names = [f"f{n}" for n in range(30)]
    for name in names:
        pub.publish(mqtt.topic(name), b"kept", retain=True)
    sub = mqtt.client()
    sub.send(wire.subscribe([(mqtt.topic(name), 1) for name in names], 5), wire.pingreq())
    assert list(sub.await_packet(wire.SUBACK).body) == [0, 5] + [1] * 30
    # One SUBACK: what is answered next is the PINGREQ.
    sub.await_packet(wire.PINGRESP)
    kept = [sub.take() for _ in names]
    assert sorted(m.topic for m in kept) == sorted(mqtt.topic(name) for name in names)
    for name in names:
        pub.publish(mqtt.topic(name), b"news")
    assert [sub.take().topic for _ in names] == [mqtt.topic(name) for name in names]


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_mqtt_3_8_4_5_each_filter_has_a_code(mqtt, qos):
    client = mqtt.client()
    filters = [(mqtt.topic(f"{n}"), qos) for n in range(4)]
    for count in range(1, 5):
        answer = codes(client, filters[:count], count)
        assert answer == [qos] * count


@not_mosquitto("an acl_file does not look at subscriptions")
def test_mqtt_3_8_4_5_a_filter_without_right_has_the_code_of_failure(mqtt):
    client = mqtt.client(port=mqtt.broker.guarded_port)
    assert codes(client, [("forbidden/a", 1)]) == [0x80]
    client.ping()


@pytest.mark.parametrize("published", [0, 1, 2])
@pytest.mark.parametrize("granted", [0, 1, 2])
def test_mqtt_3_8_4_6_the_qos_of_a_delivery_is_the_lower_one(mqtt, published, granted):
    sub = mqtt.subscriber((mqtt.topic(), granted))
    mqtt.client().publish(mqtt.topic(), b"x", published)
    assert sub.take().qos == min(published, granted)


def test_mqtt_3_9_3_1_the_codes_are_in_the_order_of_the_filters(mqtt):
    client = mqtt.client()
    asked = [0, 1, 1, 0, 1, 0, 0, 1]
    # Names whose order is another.
    filters = [(mqtt.topic(name), qos) for name, qos in zip("hbgaecfd", asked)]
    assert codes(client, filters) == asked


@not_mosquitto("an acl_file does not look at subscriptions")
def test_mqtt_3_9_3_1_a_failure_stands_in_its_place(mqtt):
    client = mqtt.client(port=mqtt.broker.guarded_port)
    filters = [(mqtt.topic("a"), 1), ("forbidden/b", 1), (mqtt.topic("c"), 0), ("forbidden/#", 0)]
    assert codes(client, filters) == [1, 0x80, 0, 0x80]


def test_mqtt_3_9_3_2_only_the_four_codes_are_used(mqtt):
    filters = [(mqtt.topic(), 0), (mqtt.topic("#"), 1), (mqtt.topic("+"), 2), ("$SYS/#", 0), ("#", 2)]
    for port in (mqtt.broker.port, mqtt.broker.guarded_port):
        client = mqtt.client(port=port)
        got = codes(client, filters)
        assert len(got) == 5
        for code, (_, asked) in zip(got, filters):
            assert code == 0x80 or code <= asked
