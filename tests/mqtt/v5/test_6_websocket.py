"""6: MQTT over WebSocket."""

import pytest
from conformance import wire, wire5
from conformance.marks import not_mosquitto
from conformance.websocket import BINARY, CONTINUATION, PING, TEXT, Client5


@pytest.fixture
def ws(mqtt):
    """Opens upgraded connections; `ws("name")` connects that client too."""
    opened = []

    def dial(name=None, **how):
        client = Client5(mqtt.broker.ws_port, **how)
        client.tells_why = mqtt.broker.tells_why
        opened.append(client)
        if name:
            client.connect(mqtt.id(name))
        return client

    yield dial
    for client in opened:
        client.close()


def test_mqtt_6_0_0_1_packets_come_and_go_in_binary_frames(mqtt, ws):
    client = ws("c")
    client.subscribe((mqtt.topic(), 1))
    client.publish(mqtt.topic(), bytes(70_000))
    assert client.take().payload == bytes(70_000)


@not_mosquitto("takes it")
def test_mqtt_6_0_0_1_a_text_frame_closes(mqtt, ws):
    client = ws()
    client.frame(wire5.connect(mqtt.id("c")), TEXT)
    assert client.closed() == []
    assert client.close_code == 1003
    client = ws("d")
    client.frame(wire.pingreq(), TEXT)
    assert client.closed() == []
    assert client.close_code == 1003


def test_mqtt_6_0_0_2_a_frame_may_hold_several_packets(mqtt, ws):
    client = ws()
    client.send(wire5.connect(mqtt.id("c")), wire.pingreq(), wire.pingreq())
    assert [client.receive().kind for _ in range(3)] == [wire.CONNACK, wire.PINGRESP, wire.PINGRESP]


def test_mqtt_6_0_0_2_a_packet_may_be_spread_over_frames_and_fragments(mqtt, ws):
    client = ws("c")
    data = wire5.publish(mqtt.topic(), b"payload", (wire5.USER, ("a", "b")), qos=1, packet_id=5)
    client.frame(data[:3])
    client.frame(data[3:4], BINARY, final=False)
    client.frame(b"are you there", PING)
    client.frame(data[4:9], CONTINUATION, final=False)
    # The rest, and the beginning of another packet.
    client.frame(data[9:] + wire.pingreq()[:1], CONTINUATION)
    client.frame(wire.pingreq()[1:])
    answers = [client.receive().kind, client.receive().kind]
    assert sorted(answers) == [wire.PUBACK, wire.PINGRESP]


def test_mqtt_6_0_0_4_the_server_chooses_the_subprotocol_mqtt(ws):
    client = ws(protocols="chat, mqtt")
    assert client.status == 101
    assert client.headers["sec-websocket-protocol"] == "mqtt"
    assert client.headers["sec-websocket-accept"] == client.accept
