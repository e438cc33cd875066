"""3.10 and 3.11: UNSUBSCRIBE and UNSUBACK."""

from both import subscriptions
from conformance import wire, wire5
from conformance.marks import not_mosquitto

GONE, WAS_NOT_THERE, INVALID = 0, 0x11, 0x8F


test_mqtt_3_10_1_1_other_flags_in_unsubscribe_close = subscriptions.other_flags_in_unsubscribe_close
test_mqtt_3_10_3_1_a_filter_that_is_no_string_closes = (
    subscriptions.a_filter_to_unsubscribe_that_is_no_string_closes
)
test_mqtt_3_10_3_2_an_unsubscribe_without_a_filter_closes = (
    subscriptions.an_unsubscribe_without_a_filter_closes
)
test_mqtt_3_10_4_1_filters_are_compared_by_their_characters = (
    subscriptions.filters_are_compared_by_their_characters
)
test_mqtt_3_10_4_1_the_same_filter_removes_the_subscription = (
    subscriptions.the_same_filter_removes_the_subscription
)
test_mqtt_3_10_4_2_nothing_new_is_queued_after_unsubscribe = (
    subscriptions.nothing_new_is_queued_after_unsubscribe
)
test_mqtt_3_10_4_3_a_delivery_that_has_begun_is_finished = (
    subscriptions.a_delivery_that_has_begun_is_finished
)
test_mqtt_3_10_4_3_the_handshake_of_qos_2_goes_on_after_unsubscribe = (
    subscriptions.the_handshake_of_qos_2_goes_on_after_unsubscribe
)


def test_mqtt_3_10_4_4_every_unsubscribe_is_answered(mqtt):
    client = mqtt.client()
    client.send(*(
        wire5.unsubscribe([mqtt.topic(f"{n}")], (wire5.USER, ("a", "b")), packet_id=n)
        for n in range(1, 21)
    ))
    answers = [client.expect(wire.UNSUBACK) for _ in range(20)]
    assert sorted(answer.packet_id for answer in answers) == list(range(1, 21))


test_mqtt_3_10_4_5_unsuback_has_the_packet_id_of_unsubscribe = (
    subscriptions.unsuback_has_the_packet_id_of_unsubscribe
)
test_mqtt_3_10_4_6_several_filters_are_like_several_unsubscribes = (
    subscriptions.several_filters_are_like_several_unsubscribes
)


def test_mqtt_3_11_2_1_unsuback_fits_into_the_maximum_packet_size(mqtt):
    """Whatever there is to explain: neither Reason String nor User Property makes it too long."""
    size = mqtt.client().connect_answer.size
    client = mqtt.client(None, (wire5.MAXIMUM_PACKET, size))
    for filter in (mqtt.topic(), mqtt.topic("x" * 500)):
        client.send(wire5.unsubscribe([filter]))
        answer = client.expect(wire.UNSUBACK)
        assert answer.codes == [WAS_NOT_THERE] and answer.size <= size


def test_mqtt_3_11_3_1_codes_of_unsuback_are_in_the_order_of_the_filters(mqtt):
    client = wire5.client(mqtt, "s")
    client.subscribe((mqtt.topic(), 0))
    client.send(wire5.unsubscribe([mqtt.topic("b"), mqtt.topic()]))
    assert client.expect(wire.UNSUBACK).codes == [0x11, 0]


@not_mosquitto("closes for a filter that is none")
def test_mqtt_3_11_3_2_codes_say_what_became_of_each_filter(mqtt):
    """`wire5` reads only codes of the table."""
    client = mqtt.subscriber((mqtt.topic(), 0))
    answer = client.unsubscribe(mqtt.topic("b"), "a/#/b", mqtt.topic(), mqtt.topic())
    assert answer == [WAS_NOT_THERE, INVALID, GONE, WAS_NOT_THERE]
