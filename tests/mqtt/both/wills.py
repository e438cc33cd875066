"""The will (3.1.2.5 to 3.1.2.7 in both)."""

import pytest
from conformance import wire

MALFORMED, PROTOCOL_ERROR = 0x81, 0x82


def goes_out_when_the_connection_breaks(mqtt):
    sub = mqtt.subscriber((mqtt.topic(), 1))
    mqtt.client(**mqtt.will(mqtt.topic(), b"broken")).close()
    assert sub.take().payload == b"broken"


def goes_out_when_the_server_closes_for_an_error(mqtt):
    sub = mqtt.subscriber((mqtt.topic(), 1))
    bad = mqtt.wire.publish("", b"no topic")
    mqtt.ends(bad, code=PROTOCOL_ERROR, **mqtt.will(mqtt.topic(), b"thrown out"))
    assert sub.take().payload == b"thrown out"


def does_not_go_out_after_disconnect(mqtt):
    end = mqtt.topic("end")
    sub = mqtt.subscriber((mqtt.topic("+"), 1))
    mqtt.client(**mqtt.will(mqtt.topic(), b"no")).leave()
    mqtt.client().publish(end)
    assert sub.until(end) == []


def is_gone_when_it_is_published(mqtt):
    end = mqtt.topic("end")
    sub = mqtt.subscriber((mqtt.topic("+"), 1))
    mqtt.stored("c", **mqtt.will(mqtt.topic(), b"once")).close()
    assert sub.take().payload == b"once"
    mqtt.back("c").close()
    # The third connection shows that the end of the second has been seen.
    mqtt.back("c").publish(end)
    assert sub.until(end) == []


def is_gone_after_disconnect(mqtt):
    end = mqtt.topic("end")
    sub = mqtt.subscriber((mqtt.topic("+"), 1))
    mqtt.stored("c", **mqtt.will(mqtt.topic(), b"never")).leave()
    mqtt.back("c").close()
    mqtt.back("c").publish(end)
    assert sub.until(end) == []


def the_will_flag_without_a_will_closes(mqtt):
    """With nothing in its place, or with half of it."""
    section = mqtt.no_properties
    for tail in {b"", section, section + wire.text("topic")}:
        mqtt.rejects(mqtt.wire.connect(mqtt.id("c"), set_flags=4, tail=tail), code=MALFORMED)


def a_will_without_the_will_flag_closes(mqtt):
    will = mqtt.will("topic", b"message", 0)
    mqtt.rejects(mqtt.wire.connect(mqtt.id("c"), clear_flags=4, **will), code=MALFORMED)


@pytest.mark.parametrize("qos", [1, 2, 3])
def will_qos_without_the_will_flag_closes(mqtt, qos):
    mqtt.rejects(mqtt.wire.connect(mqtt.id("c"), set_flags=qos << 3), code=MALFORMED)


def will_qos_3_closes(mqtt):
    mqtt.rejects(mqtt.wire.connect(mqtt.id("c"), **mqtt.will("topic", b"", 3)), code=MALFORMED)


def will_retain_without_the_will_flag_closes(mqtt):
    mqtt.rejects(mqtt.wire.connect(mqtt.id("c"), set_flags=0x20), code=MALFORMED)


def without_retain_is_not_kept(mqtt):
    end = mqtt.topic("end")
    # Retain As Published shows what it was published with, where there is such an option.
    sub = mqtt.subscriber((mqtt.topic("+"), 1 | mqtt.as_published))
    mqtt.client(**mqtt.will(mqtt.topic(), b"passing")).close()
    got = sub.take()
    assert (got.payload, got.retain) == (b"passing", False)
    late = mqtt.subscriber((mqtt.topic("+"), 1))
    mqtt.client().publish(end)
    assert late.until(end) == []
