"""3.1.2.5 to 3.1.3.4: the will."""

import time

import pytest
from both import wills
from conformance import wire5
from conformance.marks import not_mosquitto


def test_mqtt_3_1_2_7_a_will_is_kept_with_the_session(mqtt):
    """Whatever else the connection does, with all that it had."""
    sub = mqtt.subscriber((mqtt.topic("will"), 1))
    pairs = [(wire5.CONTENT_TYPE, "text/plain"), (wire5.USER, ("a", "b"))]
    client = mqtt.subscriber((mqtt.topic(), 1), will=(mqtt.topic("will"), b"kept", 1, pairs))
    client.publish(mqtt.topic(), b"x")
    client.take()
    client.close()
    got = sub.take()
    assert (got.payload, got.qos, got.properties) == (b"kept", 1, pairs)


test_mqtt_3_1_2_8_the_will_goes_out_when_the_connection_breaks = (
    wills.goes_out_when_the_connection_breaks
)
test_mqtt_3_1_2_8_the_will_goes_out_when_the_server_closes_for_an_error = (
    wills.goes_out_when_the_server_closes_for_an_error
)


@pytest.mark.parametrize("stays", [
    False, pytest.param(True, marks=not_mosquitto("throws it away")),
])
def test_mqtt_3_1_2_8_the_will_goes_out_when_another_takes_the_client_id(mqtt, stays):
    """Without a delay: to wait means to be back in time (3.1.3-9)."""
    pairs = [mqtt.STAYS] if stays else []
    sub = mqtt.subscriber((mqtt.topic(), 1))
    mqtt.client("same", *pairs, will=(mqtt.topic(), b"taken over", 1, ()))
    mqtt.client("same", *pairs, clean=not stays)
    assert sub.take().payload == b"taken over"


@pytest.mark.parametrize("code", [0x04] + [
    pytest.param(code, marks=not_mosquitto("only after 0x04")) for code in (0x80, 0x81, 0x98)
])
def test_mqtt_3_1_2_8_the_will_goes_out_after_disconnect_for_another_reason(mqtt, code):
    sub = mqtt.subscriber((mqtt.topic(), 1))
    mqtt.client(will=(mqtt.topic(), b"told", 1, ())).leave(code)
    assert sub.take().payload == b"told"


test_mqtt_3_1_2_8_no_will_after_disconnect = wills.does_not_go_out_after_disconnect


def test_mqtt_3_1_2_8_the_will_waits_for_its_delay(mqtt):
    end = mqtt.topic("end")
    sub = mqtt.subscriber((mqtt.topic("+"), 1))
    will = (mqtt.topic(), b"late", 1, [(wire5.WILL_DELAY, 1)])
    mqtt.client("s", mqtt.STAYS, will=will).close()
    start = time.monotonic()
    mqtt.client().publish(end)
    assert sub.until(end) == []
    got = sub.take()
    assert (got.payload, got.properties) == (b"late", [])
    assert time.monotonic() - start > 0.9


@pytest.mark.parametrize("expiry", [pytest.param(0, marks=not_mosquitto("throws it away")), 1])
def test_mqtt_3_1_2_8_the_will_waits_no_longer_than_the_session(mqtt, expiry):
    sub = mqtt.subscriber((mqtt.topic("+"), 1))
    will = (mqtt.topic(), b"session over", 1, [(wire5.WILL_DELAY, 3600)])
    mqtt.client("s", (wire5.SESSION_EXPIRY, expiry), will=will).close()
    assert sub.take().payload == b"session over"


@not_mosquitto("throws it away")
def test_mqtt_3_1_2_8_the_will_goes_out_when_clean_start_ends_its_session(mqtt):
    sub = mqtt.subscriber((mqtt.topic("+"), 1))
    will = (mqtt.topic(), b"session over", 1, [(wire5.WILL_DELAY, 3600)])
    mqtt.client("s", mqtt.STAYS, will=will).close()
    mqtt.client("s", clean=True)
    assert sub.take().payload == b"session over"


def test_mqtt_3_1_2_9_the_will_has_its_topic_and_payload(mqtt):
    sub = mqtt.subscriber((mqtt.topic("#"), 1))
    for payload in (bytes(range(256)), b""):
        mqtt.client(will=(mqtt.topic("will"), payload, 1, ())).close()
        got = sub.take()
        assert (got.topic, got.payload, got.qos) == (mqtt.topic("will"), payload, 1)


test_mqtt_3_1_2_9_the_will_flag_without_a_will_closes = wills.the_will_flag_without_a_will_closes
test_mqtt_3_1_2_9_a_will_without_the_will_flag_closes = wills.a_will_without_the_will_flag_closes
test_mqtt_3_1_2_10_a_published_will_is_gone = wills.is_gone_when_it_is_published
test_mqtt_3_1_2_10_a_will_is_gone_after_disconnect = wills.is_gone_after_disconnect


def test_mqtt_3_1_2_10_a_will_is_gone_after_disconnect_though_its_client_is_back_at_once(mqtt):
    """Whatever it had said before it took its own place counts."""
    end = mqtt.topic("end")
    sub = mqtt.subscriber((mqtt.topic("+"), 1))
    for _ in range(100):
        client = mqtt.client("c", mqtt.STAYS, clean=False, will=(mqtt.topic(), b"never", 1, ()))
        assert not client.session_present
        client.send(wire5.disconnect(0, (wire5.SESSION_EXPIRY, 0)))
    mqtt.client().publish(end)
    assert sub.until(end) == []


test_mqtt_3_1_2_11_will_qos_without_the_will_flag_closes = wills.will_qos_without_the_will_flag_closes
test_mqtt_3_1_2_12_will_qos_3_closes = wills.will_qos_3_closes


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_mqtt_3_1_2_12_the_will_has_its_qos(mqtt, qos):
    sub = mqtt.subscriber((mqtt.topic(), qos))
    mqtt.client(will=(mqtt.topic(), b"x", qos, ())).close()
    assert sub.take().qos == qos


test_mqtt_3_1_2_13_will_retain_without_the_will_flag_closes = (
    wills.will_retain_without_the_will_flag_closes
)
test_mqtt_3_1_2_14_a_will_without_retain_is_not_kept = wills.without_retain_is_not_kept


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_mqtt_3_1_2_15_a_will_with_retain_is_kept(mqtt, qos):
    sub = mqtt.subscriber((mqtt.topic(), qos | 8))
    pairs = [(wire5.USER, ("a", "b"))]
    mqtt.client(will=(mqtt.topic(), b"kept", qos, pairs), will_retain=True).close()
    assert sub.take().retain
    got = mqtt.subscriber((mqtt.topic(), qos)).take()
    assert (got.payload, got.qos, got.retain, got.properties) == (b"kept", qos, True, pairs)


def test_mqtt_3_1_3_9_a_client_that_is_back_in_time_has_no_will(mqtt):
    """However its connection had ended."""
    end = mqtt.topic("end")
    watcher = mqtt.subscriber((mqtt.topic("+"), 1))
    backs = []
    for name in ("broken", "told", "taken-over"):
        will = (mqtt.topic(name), b"gone", 1, [(wire5.WILL_DELAY, 1)])
        client = mqtt.client(name, mqtt.STAYS, will=will)
        if name == "told":
            client.leave(4)
        elif name == "broken":
            client.close()
        backs.append(mqtt.back(name))
    # Longer than the delay.
    with pytest.raises(TimeoutError):
        backs[0].receive(2.5)
    backs[0].publish(end)
    assert watcher.until(end) == []


def test_mqtt_3_1_3_10_user_properties_of_a_will_keep_their_order(mqtt):
    watcher = mqtt.subscriber((mqtt.topic(), 0))
    user = [("b", "1"), ("a", "2"), ("b", "3"), ("b", "1")]
    will = (mqtt.topic(), b"gone", 0, [(wire5.USER, pair) for pair in user])
    mqtt.client("s", will=will).leave(4)
    assert watcher.take().all(wire5.USER) == user
