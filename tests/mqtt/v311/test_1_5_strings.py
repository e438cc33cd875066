"""1.5.3: strings are UTF-8, and nothing less."""

import pytest
from both import strings
from both.strings import NOT_UTF_8
from conformance import wire

IN_CONNECT = {
    "client-id": lambda bad: wire.connect(bad),
    "will-topic": lambda bad: wire.connect("w", will=(bad, b"", 0, False)),
    "user-name": lambda bad: wire.connect("u", user=bad),
    "protocol-name": lambda bad: wire.connect("p", name=bad),
}

IN_LATER_PACKETS = {
    "topic": lambda bad: wire.publish(bad, b"x"),
    "topic-qos-1": lambda bad: wire.publish(bad, b"x", qos=1),
    "filter": lambda bad: wire.subscribe([(bad, 0)]),
    "second-filter": lambda bad: wire.subscribe([("a", 0), (bad, 0)]),
    "filter-to-unsubscribe": lambda bad: wire.unsubscribe([bad]),
}


@pytest.mark.parametrize("bad", NOT_UTF_8.values(), ids=NOT_UTF_8)
@pytest.mark.parametrize("where", IN_CONNECT)
def test_mqtt_1_5_3_1_ill_formed_utf_8_in_connect_closes(mqtt, where, bad):
    assert mqtt.refused(IN_CONNECT[where](bad)) == []


@pytest.mark.parametrize("bad", NOT_UTF_8.values(), ids=NOT_UTF_8)
@pytest.mark.parametrize("where", IN_LATER_PACKETS)
def test_mqtt_1_5_3_1_ill_formed_utf_8_in_later_packets_closes(mqtt, where, bad):
    mqtt.ends(IN_LATER_PACKETS[where](bad))


@pytest.mark.parametrize("bad", [b"\0", b"a\0b"], ids=["alone", "inside"])
@pytest.mark.parametrize("where", IN_CONNECT)
def test_mqtt_1_5_3_2_nul_in_connect_closes(mqtt, where, bad):
    assert mqtt.refused(IN_CONNECT[where](bad)) == []


@pytest.mark.parametrize("bad", [b"\0", b"a\0b"], ids=["alone", "inside"])
@pytest.mark.parametrize("where", IN_LATER_PACKETS)
def test_mqtt_1_5_3_2_nul_in_later_packets_closes(mqtt, where, bad):
    mqtt.ends(IN_LATER_PACKETS[where](bad))


def test_mqtt_1_5_3_3_a_byte_order_mark_is_a_character_and_kept(mqtt):
    strings.a_byte_order_mark_is_a_character_and_kept(mqtt)
