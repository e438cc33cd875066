"""3.3: PUBLISH and what travels with it."""

from conformance import wire, wire5


def test_mqtt_3_3_2_7_aliases_end_with_their_connection(mqtt):
    client = wire5.client(mqtt, "s")
    client.send(wire5.publish(mqtt.topic(), b"", (wire5.ALIAS, 1)))
    client.leave()
    client = wire5.client(mqtt, "s")
    client.send(wire5.publish("", b"", (wire5.ALIAS, 1)))
    [said] = client.closed()
    assert (said.kind, said.code) == (wire5.DISCONNECT, 0x82)


def test_mqtt_3_3_2_6_a_message_keeps_what_is_left_of_its_life(mqtt):
    client = wire5.client(mqtt, "s")
    client.subscribe((mqtt.topic(), 0))
    client.send(wire5.publish(mqtt.topic(), b"", (wire5.MESSAGE_EXPIRY, 1000)))
    assert client.take().one(wire5.MESSAGE_EXPIRY) in range(990, 1001)


def test_mqtt_3_3_2_17_user_properties_come_as_they_went(mqtt):
    client = wire5.client(mqtt, "s")
    client.subscribe((mqtt.topic(), 0))
    user = [("b", "1"), ("a", ""), ("b", "1")]
    client.send(wire5.publish(mqtt.topic(), b"x", *[(wire5.USER, pair) for pair in user]))
    assert client.take().all(wire5.USER) == user


def test_mqtt_3_3_2_20_the_content_type_comes_as_it_went(mqtt):
    client = wire5.client(mqtt, "s")
    client.subscribe((mqtt.topic(), 0))
    client.send(wire5.publish(mqtt.topic(), b"x", (wire5.CONTENT_TYPE, "text/plain")))
    assert client.take().one(wire5.CONTENT_TYPE) == "text/plain"


def test_mqtt_3_3_4_3_overlapping_subscriptions_all_give_their_identifier(mqtt):
    client = wire5.client(mqtt, "s")
    client.subscribe((mqtt.topic("#"), 0), pairs=[(wire5.SUBSCRIPTION_ID, 1)])
    client.subscribe((mqtt.topic("a"), 0), pairs=[(wire5.SUBSCRIPTION_ID, 268_435_455)])
    client.send(wire5.publish(mqtt.topic("a")))
    assert sorted(client.take().all(wire5.SUBSCRIPTION_ID)) == [1, 268_435_455]


def test_mqtt_3_3_4_9_no_more_in_flight_than_the_receive_maximum(mqtt):
    client = wire5.client(mqtt, "s", (wire5.RECEIVE_MAXIMUM, 2))
    client.subscribe((mqtt.topic(), 1))
    publisher = wire5.client(mqtt, "p")
    for n in b"123":
        assert publisher.publish(mqtt.topic(), bytes([n])) == 0
    first, _ = client.expect(wire.PUBLISH), client.expect(wire.PUBLISH)
    client.send(wire.pingreq())
    client.expect(wire.PINGRESP)
    client.send(wire.puback(first.packet_id))
    assert client.expect(wire.PUBLISH).payload == b"3"


def test_mqtt_3_3_4_10_a_full_window_holds_nothing_else_back(mqtt):
    client = wire5.client(mqtt, "s", (wire5.RECEIVE_MAXIMUM, 1))
    client.subscribe((mqtt.topic(), 1))
    publisher = wire5.client(mqtt, "p")
    for _ in range(2):
        publisher.publish(mqtt.topic())
    client.expect(wire.PUBLISH)
    assert client.subscribe((mqtt.topic("b"), 0)) == [0]
    publisher.send(wire5.publish(mqtt.topic("b"), b"QoS 0"))
    assert client.expect(wire.PUBLISH).payload == b"QoS 0"


def test_mqtt_4_13_1_1_a_malformed_packet_ends_the_connection_with_its_reason(mqtt):
    client = wire5.client(mqtt, "s")
    client.send(b"\xc1\0")
    [said] = client.closed()
    assert (said.kind, said.code) == (wire5.DISCONNECT, 0x81)
