"""4.7: topic names and topic filters."""

import pytest
from both import topics
from both.topics import BAD_HASH, BAD_PLUS
from conformance import wire, wire5

FILTER_INVALID, MALFORMED = 0x8F, 0x81


def refused(mqtt, filter):
    """A filter that is none is refused with its code, or ends the connection; in both packets."""
    for request, answer in ((wire5.subscribe([(filter, 0)]), wire.SUBACK),
                            (wire5.unsubscribe([filter]), wire.UNSUBACK)):
        client = mqtt.client()
        client.send(request)
        if mqtt.broker.tells_why:
            assert client.expect(answer).codes == [FILTER_INVALID]
            client.ping()
        else:
            client.thrown_out(MALFORMED)


test_mqtt_4_7_0_1_wildcards_in_a_topic_name_close = topics.wildcards_in_a_topic_name_close


@pytest.mark.parametrize("filter", BAD_HASH)
def test_mqtt_4_7_1_1_a_misplaced_multi_level_wildcard_is_refused(mqtt, filter):
    refused(mqtt, filter)


test_mqtt_4_7_1_1_the_multi_level_wildcard_matches_its_parent_and_all_below = (
    topics.the_multi_level_wildcard_matches_its_parent_and_all_below
)


@pytest.mark.parametrize("filter", BAD_PLUS)
def test_mqtt_4_7_1_2_a_misplaced_single_level_wildcard_is_refused(mqtt, filter):
    refused(mqtt, filter)


test_mqtt_4_7_1_2_the_single_level_wildcard_matches_one_level = (
    topics.the_single_level_wildcard_matches_one_level
)
test_mqtt_4_7_2_1_leading_wildcards_do_not_match_topics_with_a_dollar = (
    topics.leading_wildcards_do_not_match_topics_with_a_dollar
)
test_mqtt_4_7_3_1_an_empty_topic_or_filter_closes = topics.an_empty_topic_or_filter_closes
test_mqtt_4_7_3_1_a_single_character_is_enough = topics.a_single_character_is_enough
test_mqtt_4_7_3_2_nul_in_a_topic_or_filter_closes = topics.nul_in_a_topic_or_filter_closes
test_mqtt_4_7_3_3_a_topic_may_have_65535_bytes = topics.a_topic_may_have_65535_bytes
test_mqtt_4_7_3_4_topics_are_compared_as_they_are = topics.topics_are_compared_as_they_are
