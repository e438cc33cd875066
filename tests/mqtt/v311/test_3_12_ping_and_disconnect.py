"""3.12 to 3.14: PINGREQ and DISCONNECT."""

import pytest
from conformance import wire


def test_mqtt_3_12_4_1_pingreq_is_answered_with_pingresp(mqtt):
    client = mqtt.client()
    client.send(wire.pingreq())
    answer = client.receive()
    assert (answer.kind, answer.flags, answer.body) == (wire.PINGRESP, 0, b"")
    client.send(wire.pingreq() * 10)
    assert [client.receive().kind for _ in range(10)] == [wire.PINGRESP] * 10


@pytest.mark.parametrize("flags", range(1, 16))
def test_mqtt_3_14_1_1_disconnect_with_reserved_flags_ends_the_connection_as_an_error(mqtt, flags):
    """It is no DISCONNECT, so the will goes out."""
    sub = mqtt.subscriber((mqtt.topic(), 1))
    bad = wire.tampered(wire.disconnect(), flags)
    mqtt.ends(bad, will=(mqtt.topic(), b"not a good end", 1, False))
    assert sub.take().payload == b"not a good end"


def test_mqtt_3_14_4_1_the_server_closes_if_the_client_does_not(mqtt):
    mqtt.ends(wire.disconnect())


def test_mqtt_3_14_4_2_nothing_behind_disconnect_is_done(mqtt):
    end = mqtt.topic("end")
    sub = mqtt.subscriber((mqtt.topic("+"), 1))
    mqtt.ends(wire.disconnect(), wire.publish(mqtt.topic(), b"x", 1), wire.pingreq())
    mqtt.client().publish(end)
    assert sub.until(end) == []


@pytest.mark.parametrize("clean", [True, False], ids=["clean", "stored"])
def test_mqtt_3_14_4_3_disconnect_throws_the_will_away(mqtt, clean):
    end = mqtt.topic("end")
    sub = mqtt.subscriber((mqtt.topic("+"), 1))
    mqtt.client("c", clean=clean, will=(mqtt.topic(), b"x", 1, True)).leave()
    # Nor does it come when the id is used again.
    mqtt.client("c", clean=clean).close()
    mqtt.client("c").publish(end)
    assert sub.until(end) == []
