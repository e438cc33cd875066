"""3.15 and 4.12: AUTH and enhanced authentication, of which the daemon has no method."""

import pytest
from conformance import wire, wire5
from conformance.marks import not_mosquitto

MALFORMED, PROTOCOL_ERROR, BAD_METHOD, TOO_LARGE = 0x81, 0x82, 0x8C, 0x95
CONTINUE, AGAIN = 0x18, 0x19
METHOD = (wire5.AUTH_METHOD, "SCRAM-SHA-1")


@pytest.mark.parametrize("flags", range(1, 16))
def test_mqtt_3_15_1_1_auth_with_reserved_flags_is_malformed(mqtt, flags):
    mqtt.ends(wire.tampered(wire5.auth(AGAIN, METHOD), flags), code=MALFORMED)


@pytest.mark.parametrize("code", [1, 4, 0x10, 0x17, 0x1A, 0x80, 0x8C, 0xFF])
def test_mqtt_3_15_2_1_a_code_that_is_not_in_the_table_closes(mqtt, code):
    mqtt.ends(wire5.auth(code, METHOD), code=PROTOCOL_ERROR)


@not_mosquitto("has no maximum unless it is configured")
def test_mqtt_3_15_2_3_an_auth_larger_than_the_servers_maximum_closes(mqtt):
    client = mqtt.client()
    maximum = client.connect_answer.one(wire5.MAXIMUM_PACKET)
    filler = [(wire5.USER, ("n", "x" * 60_000))] * (maximum // 60_000 + 1)
    client.send(wire5.auth(CONTINUE, METHOD, *filler))
    client.thrown_out(TOO_LARGE)


@pytest.mark.parametrize("data", [[], [(wire5.AUTH_DATA, b"\0\xff")]], ids=["bare", "with-data"])
@pytest.mark.parametrize("clean", [True, False])
def test_mqtt_4_12_0_4_a_method_that_is_not_known_is_refused(mqtt, data, clean):
    """No AUTH, no session, no will; and what follows is not looked at."""
    end = mqtt.topic("end")
    sub = mqtt.subscriber((mqtt.topic("+"), 1))
    will = (mqtt.topic(), b"x", 1, [])
    client = mqtt.open()
    client.send(
        wire5.connect(mqtt.id("c"), METHOD, *data, mqtt.STAYS, clean=clean, will=will),
        wire5.publish(mqtt.topic(), b"x", qos=1),
    )
    client.thrown_out(BAD_METHOD, wire.CONNACK)
    assert not mqtt.client("c", clean=False).session_present
    mqtt.client().publish(end)
    assert sub.until(end) == []


def test_mqtt_4_12_0_6_without_a_method_there_is_no_auth_and_none_in_connack(mqtt):
    client = mqtt.open()
    client.send(wire5.connect(mqtt.id("c")), wire.pingreq())
    answer = client.receive()
    assert (answer.kind, answer.code) == (wire.CONNACK, 0)
    assert answer.all(wire5.AUTH_METHOD) == answer.all(wire5.AUTH_DATA) == []
    assert client.receive().kind == wire.PINGRESP


@not_mosquitto("takes it")
def test_mqtt_4_12_0_6_data_without_a_method_is_refused(mqtt):
    """3.1.2.11.10"""
    data = (wire5.AUTH_DATA, b"data")
    mqtt.refused(wire5.connect(mqtt.id("c"), data), code=PROTOCOL_ERROR)


AUTHS = {
    "short": b"\xf0\x00", "success": wire5.auth(0, METHOD), "continue": wire5.auth(CONTINUE, METHOD),
    "without-method": wire5.auth(CONTINUE), "again": wire5.auth(AGAIN, METHOD),
}


@pytest.mark.parametrize("name", AUTHS)
def test_mqtt_4_12_0_7_auth_without_a_method_in_connect_closes(mqtt, name):
    mqtt.ends(AUTHS[name], code=PROTOCOL_ERROR)


def test_mqtt_4_12_0_7_auth_before_connect_closes(mqtt):
    client = mqtt.open()
    client.send(wire5.auth(CONTINUE, METHOD), wire5.connect(mqtt.id("c")))
    assert client.closed() == []


def test_mqtt_4_12_1_1_a_method_that_connect_did_not_name_closes(mqtt):
    """The will goes out: it is no good end."""
    sub = mqtt.subscriber((mqtt.topic(), 1))
    will = (mqtt.topic(), b"will", 1, [])
    mqtt.ends(wire5.auth(AGAIN, METHOD), code=PROTOCOL_ERROR, will=will)
    assert sub.take().payload == b"will"


def test_mqtt_4_12_1_2_a_failed_reauthentication_ends_the_connection(mqtt):
    """With a DISCONNECT that says so; what comes behind it is not done."""
    end = mqtt.topic("end")
    sub = mqtt.subscriber((mqtt.topic("+"), 1))
    client = mqtt.client()
    client.send(wire5.auth(AGAIN, METHOD), wire5.publish(mqtt.topic(), b"x", qos=1))
    client.thrown_out(PROTOCOL_ERROR)
    mqtt.client().publish(end)
    assert sub.until(end) == []
