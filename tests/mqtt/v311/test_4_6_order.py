"""4.6: messages arrive in the order in which they were sent."""

import pytest
from both import order

test_mqtt_4_6_0_1_messages_are_sent_again_in_their_order = order.messages_are_sent_again_in_their_order
test_mqtt_4_6_0_4_pubrels_are_in_the_order_of_the_pubrecs = order.pubrels_are_in_the_order_of_the_pubrecs
test_mqtt_4_6_0_5_topics_are_ordered_by_default = order.topics_are_ordered_by_default


@pytest.mark.parametrize("qos", [0, 1])
def test_mqtt_4_6_0_6_the_order_of_each_publisher_is_kept(mqtt, qos):
    order.the_order_of_each_publisher_is_kept(mqtt, qos)


def test_mqtt_4_6_0_6_the_order_is_kept_from_the_queue_into_the_live_stream(mqtt):
    order.the_order_is_kept_from_the_queue_into_the_live_stream(mqtt, 100)
