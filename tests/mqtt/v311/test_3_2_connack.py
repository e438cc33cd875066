"""3.2: CONNACK."""

import pytest
from both import connections
from conformance import wire

test_mqtt_3_2_0_1_connack_comes_first = connections.connack_comes_first


def test_mqtt_3_2_2_1_clean_session_has_no_session_present(mqtt):
    mqtt.away("s", (mqtt.topic(), 1))
    assert mqtt.client("s", clean=True).connect_answer == b"\0\0"
    assert mqtt.client("new", clean=True).connect_answer == b"\0\0"


def test_mqtt_3_2_2_2_a_stored_session_is_present(mqtt):
    mqtt.away("s", (mqtt.topic(), 1))
    assert mqtt.client("s", clean=False).connect_answer == b"\1\0"
    # One without a single subscription is one too.
    mqtt.client("empty", clean=False).leave()
    assert mqtt.client("empty", clean=False).connect_answer == b"\1\0"


def test_mqtt_3_2_2_3_a_session_that_was_not_stored_is_not_present(mqtt):
    assert mqtt.client("new", clean=False).connect_answer == b"\0\0"
    mqtt.client("clean", clean=True).leave()
    assert mqtt.client("clean", clean=False).connect_answer == b"\0\0"


def test_mqtt_3_2_2_4_a_refusal_has_no_session_present(mqtt):
    mqtt.away("s", (mqtt.topic(), 1))
    [answer] = mqtt.refused(wire.connect(mqtt.id("s"), clean=False, level=6))
    assert answer.body == b"\0\1"


@pytest.mark.parametrize("how", [{"level": 6}, {"clean": False}], ids=["level", "empty-id"])
def test_mqtt_3_2_2_5_a_refusal_is_the_last_that_is_said(mqtt, how):
    [answer] = mqtt.refused(wire.connect("", **how), wire.pingreq())
    assert answer.kind == wire.CONNACK and answer.code != 0


def test_mqtt_3_2_2_6_where_no_return_code_fits_there_is_no_connack(mqtt):
    """Return codes 1 to 5 speak of level, id, availability, user and right; not of bad packets."""
    assert mqtt.refused(wire.connect(mqtt.id("c"), set_flags=1)) == []
    assert mqtt.refused(wire.connect(mqtt.id("c"), tail=b"more")) == []
    assert mqtt.refused(wire.connect(mqtt.id("c"), will=("a/#", b"", 0, False))) == []
