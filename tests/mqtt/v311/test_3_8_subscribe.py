"""3.8 and 3.9: SUBSCRIBE and SUBACK."""

import pytest
from both import subscriptions
from conformance import wire
from conformance.marks import not_mosquitto


def codes(client, filters, packet_id=1):
    """The codes of the SUBACK, as they are."""
    client.send(wire.subscribe(filters, packet_id))
    answer = client.await_packet(wire.SUBACK)
    assert answer.packet_id == packet_id
    return list(answer.body[2:])


test_mqtt_3_8_1_1_other_flags_in_subscribe_close = subscriptions.other_flags_in_subscribe_close


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


test_mqtt_3_8_3_3_a_subscribe_without_a_filter_closes = subscriptions.a_subscribe_without_a_filter_closes


@pytest.mark.parametrize("options", [3, 4, 5, 8, 0x10, 0x20, 0x40, 0x80, 0x81, 0xFC, 0xFF])
def test_mqtt_3_8_3_4_reserved_bits_and_qos_3_close(mqtt, options):
    mqtt.ends(wire.subscribe([(mqtt.topic(), options)]))
    mqtt.ends(wire.subscribe([(mqtt.topic(), 0), (mqtt.topic("b"), options)]))


def test_mqtt_3_8_4_1_every_subscribe_is_answered(mqtt):
    client = mqtt.client()
    client.send(*(wire.subscribe([(mqtt.topic(f"{n}"), n % 2)], n + 1) for n in range(20)))
    answers = [client.expect(wire.SUBACK) for _ in range(20)]
    assert sorted(answer.packet_id for answer in answers) == list(range(1, 21))


test_mqtt_3_8_4_2_suback_has_the_packet_id_of_subscribe = (
    subscriptions.suback_has_the_packet_id_of_subscribe
)
test_mqtt_3_8_4_3_the_same_filter_again_replaces_the_subscription = (
    subscriptions.the_same_filter_again_replaces_the_qos
)
test_mqtt_3_8_4_3_the_same_filter_again_brings_the_retained_messages_again = (
    subscriptions.the_same_filter_again_brings_the_retained_messages_again
)


def test_mqtt_3_8_4_3_the_flow_of_messages_is_not_interrupted(mqtt):
    subscriptions.no_message_is_lost_to_a_replacement(mqtt, [1])


def test_mqtt_3_8_4_4_several_filters_are_like_several_subscribes(mqtt):
    subscriptions.several_filters_are_like_several_subscribes(mqtt)


test_mqtt_3_8_4_5_each_filter_has_a_code = subscriptions.each_filter_has_a_code


@not_mosquitto("an acl_file does not look at subscriptions")
def test_mqtt_3_8_4_5_a_filter_without_right_has_the_code_of_failure(mqtt):
    client = mqtt.client(port=mqtt.broker.guarded_port)
    assert codes(client, [("forbidden/a", 1)]) == [0x80]
    client.ping()


test_mqtt_3_8_4_6_the_qos_of_a_delivery_is_the_lower_one = (
    subscriptions.the_qos_of_a_delivery_is_the_lower_one
)


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
