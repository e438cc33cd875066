"""7: what a conforming server offers."""

from conformance import wire


def test_mqtt_7_1_1_1_a_stream_of_bytes_without_borders(mqtt):
    """TCP: packets cut into single bytes, and many packets in one piece."""
    client = mqtt.open()
    for byte in wire.connect(mqtt.id("c")) + wire.subscribe([(mqtt.topic(), 1)], 1):
        client.send(bytes([byte]))
    assert client.expect(wire.CONNACK).code == 0
    assert client.expect(wire.SUBACK).packet_id == 1
    client.send(b"".join(wire.publish(mqtt.topic(), b"%d" % n, 1, n) for n in range(1, 16)))
    got = [client.receive() for _ in range(30)]
    messages = [int(p.payload) for p in got if p.kind == wire.PUBLISH]
    acks = [p.packet_id for p in got if p.kind == wire.PUBACK]
    assert messages == acks == list(range(1, 16))
