"""3.1.2.5 to 3.1.2.7: the will."""

import pytest
from both import wills
from conformance import wire

test_mqtt_3_1_2_8_the_will_goes_out_when_the_connection_breaks = (
    wills.goes_out_when_the_connection_breaks
)
test_mqtt_3_1_2_8_the_will_goes_out_when_the_server_closes_for_an_error = (
    wills.goes_out_when_the_server_closes_for_an_error
)


def test_mqtt_3_1_2_8_the_will_goes_out_when_another_takes_the_client_id(mqtt):
    sub = mqtt.subscriber((mqtt.topic(), 1))
    mqtt.client("same", will=(mqtt.topic(), b"taken over", 1, False))
    mqtt.client("same")
    assert sub.take().payload == b"taken over"


test_mqtt_3_1_2_8_no_will_after_disconnect = wills.does_not_go_out_after_disconnect


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_mqtt_3_1_2_9_the_will_has_its_topic_message_and_qos(mqtt, qos):
    sub = mqtt.subscriber((mqtt.topic("#"), qos))
    payload = bytes(range(256))
    mqtt.client(will=(mqtt.topic("will"), payload, qos, False)).close()
    got = sub.take()
    assert (got.topic, got.payload, got.qos) == (mqtt.topic("will"), payload, qos)


def test_mqtt_3_1_2_9_an_empty_will_message_is_one(mqtt):
    sub = mqtt.subscriber((mqtt.topic(), 0))
    mqtt.client(will=(mqtt.topic(), b"", 0, False)).close()
    assert sub.take().payload == b""


test_mqtt_3_1_2_9_the_will_flag_without_a_will_closes = wills.the_will_flag_without_a_will_closes
test_mqtt_3_1_2_10_a_published_will_is_gone = wills.is_gone_when_it_is_published
test_mqtt_3_1_2_10_a_will_is_gone_after_disconnect = wills.is_gone_after_disconnect
test_mqtt_3_1_2_11_a_will_without_the_will_flag_closes = wills.a_will_without_the_will_flag_closes


def test_mqtt_3_1_2_12_no_will_flag_no_will(mqtt):
    end = mqtt.topic("end")
    sub = mqtt.subscriber((mqtt.topic("+"), 1))
    mqtt.client("c", will=(mqtt.topic(), b"of another connection", 1, False)).leave()
    mqtt.client("c").close()
    mqtt.ends(wire.publish("", b"no topic"))
    mqtt.client("c").publish(end)
    assert sub.until(end) == []


test_mqtt_3_1_2_13_will_qos_without_the_will_flag_closes = wills.will_qos_without_the_will_flag_closes
test_mqtt_3_1_2_14_will_qos_3_closes = wills.will_qos_3_closes


def test_mqtt_3_1_2_14_will_qos_2_is_taken(mqtt):
    mqtt.client(will=(mqtt.topic(), b"", 2, False)).leave()


test_mqtt_3_1_2_15_will_retain_without_the_will_flag_closes = (
    wills.will_retain_without_the_will_flag_closes
)
test_mqtt_3_1_2_16_a_will_without_retain_is_not_kept = wills.without_retain_is_not_kept


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_mqtt_3_1_2_17_a_will_with_retain_is_kept(mqtt, qos):
    sub = mqtt.subscriber((mqtt.topic(), qos))
    mqtt.client(will=(mqtt.topic(), b"kept", qos, True)).close()
    assert not sub.take().retain
    late = mqtt.subscriber((mqtt.topic(), qos))
    got = late.take()
    assert (got.payload, got.qos, got.retain) == (b"kept", qos, True)
