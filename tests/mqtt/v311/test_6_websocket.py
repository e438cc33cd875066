"""6: MQTT over WebSocket."""

import pytest
from conformance import wire
from conformance.marks import not_mosquitto
from conformance.websocket import BINARY, CONTINUATION, PING, TEXT, Client


@pytest.fixture
def ws(mqtt):
    """Opens upgraded connections; `ws("name")` connects that client too."""
    opened = []

    def dial(name=None, **how):
        client = Client(mqtt.broker.ws_port, **how)
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
    client.publish(mqtt.topic(), bytes(1000))
    assert client.take().payload == bytes(1000)


@not_mosquitto("takes it")
def test_mqtt_6_0_0_1_a_text_frame_closes(mqtt, ws):
    client = ws()
    client.frame(wire.connect(mqtt.id("c")), TEXT)
    assert client.closed() == []
    assert client.close_code == 1003
    client = ws("d")
    client.frame(wire.pingreq(), TEXT)
    client.thrown_out()


def test_mqtt_6_0_0_2_a_frame_may_hold_several_packets(mqtt, ws):
    client = ws()
    client.send(wire.connect(mqtt.id("c")), wire.pingreq(), wire.pingreq())
    assert [client.receive().kind for _ in range(3)] == [wire.CONNACK, wire.PINGRESP, wire.PINGRESP]


def test_mqtt_6_0_0_2_a_packet_may_be_spread_over_frames(mqtt, ws):
    client = ws()
    for byte in wire.connect(mqtt.id("c")):
        client.frame(bytes([byte]))
    assert client.expect(wire.CONNACK).code == 0
    # The end of one packet with the beginning of the next.
    data = wire.publish(mqtt.topic(), b"payload", 1, 5) + wire.pingreq()
    client.frame(data[:9])
    client.frame(data[9:-1])
    client.frame(data[-1:])
    answers = [client.receive().kind, client.receive().kind]
    assert sorted(answers) == [wire.PUBACK, wire.PINGRESP]


def test_mqtt_6_0_0_2_a_message_of_fragments_is_put_together(mqtt, ws):
    client = ws("c")
    data = wire.publish(mqtt.topic(), b"payload", 1, 5)
    client.frame(data[:4], BINARY, final=False)
    client.frame(b"are you there", PING)
    client.frame(data[4:9], CONTINUATION, final=False)
    client.frame(data[9:], CONTINUATION)
    assert client.expect(wire.PUBACK).packet_id == 5


@pytest.mark.parametrize("offered", ["mqtt", "chat, mqtt", "mqtt, chat"])
def test_mqtt_6_0_0_4_the_server_chooses_the_subprotocol_mqtt(ws, offered):
    client = ws(protocols=offered)
    assert client.status == 101
    assert client.headers["sec-websocket-protocol"] == "mqtt"
    assert client.headers["sec-websocket-accept"] == client.accept


@not_mosquitto("takes any")
@pytest.mark.parametrize("offered", ["chat", "mqttv3.1"])
def test_mqtt_6_0_0_4_without_mqtt_among_the_subprotocols_there_is_no_websocket(ws, offered):
    assert ws(protocols=offered).status == 400
