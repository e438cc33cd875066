"""Strings are UTF-8, and nothing less (1.5.3 of 3.1.1, 1.5.4 of 5)."""

NOT_UTF_8 = {
    "surrogate": b"a\xed\xa0\x80",
    "last-surrogate": b"\xed\xbf\xbf",
    "overlong": b"a\xc0\xaf",
    "lone-continuation": b"\x80",
    "cut-short": b"a\xe2\x82",
    "beyond-unicode": b"\xf4\x90\x80\x80",
    "latin-1": "é".encode("latin-1"),
}


def a_byte_order_mark_is_a_character_and_kept(mqtt, *pairs):
    """`pairs` are properties that the messages have; what has come."""
    end, mark = mqtt.topic("end"), "\ufeff"
    inside = mqtt.topic(f"{mark}b{mark}")
    sub = mqtt.subscriber((mark + mqtt.topic(), 0), (inside, 0), (end, 0))
    pub = mqtt.client()
    for topic in (mark + mqtt.topic(), inside, mqtt.topic(), mqtt.topic("b")):
        pub.publish(topic, b"", *pairs, qos=0)
    pub.publish(end, qos=0)
    got = sub.until(end)
    assert [message.topic for message in got] == [mark + mqtt.topic(), inside]
    return got
