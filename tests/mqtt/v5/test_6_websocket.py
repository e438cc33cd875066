"""6: MQTT over WebSocket."""

from both import frames
from conformance import wire, wire5
from conformance.websocket import BINARY, CONTINUATION, PING

test_mqtt_6_0_0_1_packets_come_and_go_in_binary_frames = frames.packets_come_and_go_in_binary_frames
test_mqtt_6_0_0_1_a_text_frame_closes = frames.a_text_frame_closes
test_mqtt_6_0_0_2_a_frame_may_hold_several_packets = frames.a_frame_may_hold_several_packets


def test_mqtt_6_0_0_2_a_packet_may_be_spread_over_frames_and_fragments(mqtt):
    client = mqtt.upgraded("c")
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


test_mqtt_6_0_0_4_the_server_chooses_the_subprotocol_mqtt = (
    frames.the_server_chooses_the_subprotocol_mqtt
)
