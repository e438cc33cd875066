"""1.5.3: strings are UTF-8, and nothing less."""

import pytest
from conformance import wire

NOT_UTF_8 = {
    "surrogate": b"a\xed\xa0\x80",
    "last-surrogate": b"\xed\xbf\xbf",
    "overlong": b"a\xc0\xaf",
    "lone-continuation": b"\x80",
    "cut-short": b"a\xe2\x82",
    "beyond-unicode": b"\xf4\x90\x80\x80",
    "latin-1": "é".encode("latin-1"),
}

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
    end = mqtt.topic("end")
    sub = mqtt.subscriber(("\ufeff" + mqtt.topic(), 0), (mqtt.topic("\ufeffb\ufeff"), 0), (end, 0))
    pub = mqtt.client()
    for topic in ("\ufeff" + mqtt.topic(), mqtt.topic("\ufeffb\ufeff"), mqtt.topic(), mqtt.topic("b")):
        pub.publish(topic, qos=0)
    pub.publish(end, qos=0)
    got = [message.topic for message in sub.until(end)]
    assert got == ["\ufeff" + mqtt.topic(), mqtt.topic("\ufeffb\ufeff")]
