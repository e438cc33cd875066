"""3.12 to 3.14: PINGREQ and DISCONNECT."""

import pytest
from both import connections

test_mqtt_3_12_4_1_pingreq_is_answered_with_pingresp = connections.pingreq_is_answered_with_pingresp
test_mqtt_3_14_1_1_disconnect_with_reserved_flags_ends_the_connection_as_an_error = (
    connections.disconnect_with_reserved_flags_ends_the_connection_as_an_error
)
test_mqtt_3_14_4_1_the_server_closes_if_the_client_does_not = (
    connections.the_server_closes_if_the_client_does_not
)
test_mqtt_3_14_4_2_nothing_behind_disconnect_is_done = connections.nothing_behind_disconnect_is_done


@pytest.mark.parametrize("clean", [True, False], ids=["clean", "stored"])
def test_mqtt_3_14_4_3_disconnect_throws_the_will_away(mqtt, clean):
    end = mqtt.topic("end")
    sub = mqtt.subscriber((mqtt.topic("+"), 1))
    mqtt.client("c", clean=clean, will=(mqtt.topic(), b"x", 1, True)).leave()
    # Nor does it come when the id is used again.
    mqtt.client("c", clean=clean).close()
    mqtt.client("c").publish(end)
    assert sub.until(end) == []
