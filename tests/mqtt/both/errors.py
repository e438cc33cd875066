"""An error ends the connection on which it was made, and no other (4.8 of 3.1.1, 4.13 of 5)."""

MALFORMED = 0x81


def closes_no_other_connection(mqtt, violations):
    """`violations`: by their names, what is said, and the code that version 5 is told."""
    sub, pub = mqtt.subscriber((mqtt.topic(), 1)), mqtt.client()
    for name, (data, code) in violations.items():
        mqtt.ends(data, code=code)
        pub.publish(mqtt.topic(), name.encode())
        assert sub.take().payload == name.encode()


def what_came_before_has_been_done(mqtt):
    sub = mqtt.subscriber((mqtt.topic(), 1))
    client = mqtt.client()
    client.publish(mqtt.topic(), b"before")
    client.send(b"\0\0", mqtt.wire.publish(mqtt.topic(), b"behind", qos=1, packet_id=2))
    client.thrown_out(MALFORMED)
    mqtt.client().publish(mqtt.topic(), b"of another")
    assert [sub.take().payload for _ in range(2)] == [b"before", b"of another"]
