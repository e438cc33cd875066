"""MQTT over WebSocket (6 in both)."""

from conformance import wire
from conformance.marks import not_mosquitto
from conformance.websocket import TEXT


def packets_come_and_go_in_binary_frames(mqtt):
    client = mqtt.upgraded("c")
    client.subscribe((mqtt.topic(), 1))
    for size in (1_000, 70_000):
        client.publish(mqtt.topic(), bytes(size))
        assert client.take().payload == bytes(size)


@not_mosquitto("takes it")
def a_text_frame_closes(mqtt):
    client = mqtt.upgraded()
    client.frame(mqtt.wire.connect(mqtt.id("c")), TEXT)
    assert client.closed() == []
    assert client.close_code == 1003
    client = mqtt.upgraded("d")
    client.frame(wire.pingreq(), TEXT)
    assert client.closed() == []
    assert client.close_code == 1003


def a_frame_may_hold_several_packets(mqtt):
    client = mqtt.upgraded()
    client.send(mqtt.wire.connect(mqtt.id("c")), wire.pingreq(), wire.pingreq())
    assert [client.receive().kind for _ in range(3)] == [wire.CONNACK, wire.PINGRESP, wire.PINGRESP]


def the_server_chooses_the_subprotocol_mqtt(mqtt, offered="chat, mqtt"):
    client = mqtt.upgraded(protocols=offered)
    assert client.status == 101
    assert client.headers["sec-websocket-protocol"] == "mqtt"
    assert client.headers["sec-websocket-accept"] == client.accept
