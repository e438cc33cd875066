"""6: MQTT over WebSocket."""

import pytest
from both import frames
from conformance import wire
from conformance.marks import not_mosquitto
from conformance.websocket import BINARY, CONTINUATION, PING

test_mqtt_6_0_0_1_packets_come_and_go_in_binary_frames = frames.packets_come_and_go_in_binary_frames
test_mqtt_6_0_0_1_a_text_frame_closes = frames.a_text_frame_closes
test_mqtt_6_0_0_2_a_frame_may_hold_several_packets = frames.a_frame_may_hold_several_packets


def test_mqtt_6_0_0_2_a_packet_may_be_spread_over_frames(mqtt):
    client = mqtt.upgraded()
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


def test_mqtt_6_0_0_2_a_message_of_fragments_is_put_together(mqtt):
    client = mqtt.upgraded("c")
    data = wire.publish(mqtt.topic(), b"payload", 1, 5)
    client.frame(data[:4], BINARY, final=False)
    client.frame(b"are you there", PING)
    client.frame(data[4:9], CONTINUATION, final=False)
    client.frame(data[9:], CONTINUATION)
    assert client.expect(wire.PUBACK).packet_id == 5


@pytest.mark.parametrize("offered", ["mqtt", "chat, mqtt", "mqtt, chat"])
def test_mqtt_6_0_0_4_the_server_chooses_the_subprotocol_mqtt(mqtt, offered):
    frames.the_server_chooses_the_subprotocol_mqtt(mqtt, offered)


@not_mosquitto("takes any")
@pytest.mark.parametrize("offered", ["chat", "mqttv3.1"])
def test_mqtt_6_0_0_4_without_mqtt_among_the_subprotocols_there_is_no_websocket(mqtt, offered):
    assert mqtt.upgraded(protocols=offered).status == 400
