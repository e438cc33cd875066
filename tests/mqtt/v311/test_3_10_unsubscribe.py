"""3.10 and 3.11: UNSUBSCRIBE and UNSUBACK."""

from both import subscriptions
from conformance import wire

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
test_mqtt_3_10_4_4_unsuback_has_the_packet_id_of_unsubscribe = (
    subscriptions.unsuback_has_the_packet_id_of_unsubscribe
)


def test_mqtt_3_10_4_5_unsuback_comes_even_if_there_was_no_subscription(mqtt):
    client = mqtt.client()
    for packet_id in (7, 8):
        client.send(wire.unsubscribe([mqtt.topic("never")], packet_id))
        assert client.expect(wire.UNSUBACK).body == wire.two(packet_id)


test_mqtt_3_10_4_6_several_filters_are_like_several_unsubscribes = (
    subscriptions.several_filters_are_like_several_unsubscribes
)
