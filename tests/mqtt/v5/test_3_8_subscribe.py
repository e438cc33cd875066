"""3.8 to 3.11: SUBSCRIBE, UNSUBSCRIBE and their options."""

from conformance import wire, wire5

NO_LOCAL, AS_PUBLISHED, IF_NEW, NEVER = 4, 8, 0x10, 0x20


def marked(mqtt, client, topic):
    """Nothing came before what somebody else publishes now."""
    wire5.client(mqtt, "marker").send(wire5.publish(topic, b"marker"))
    return client.take().payload == b"marker"


def test_mqtt_3_8_3_3_no_local_brings_nothing_back(mqtt):
    client = wire5.client(mqtt, "s")
    client.subscribe((mqtt.topic(), NO_LOCAL))
    client.send(wire5.publish(mqtt.topic(), b"own"))
    assert marked(mqtt, client, mqtt.topic())


def test_mqtt_3_3_1_10_retain_handling_1_asks_whether_the_filter_is_new(mqtt):
    client = wire5.client(mqtt, "s")
    client.publish(mqtt.topic(), b"kept", retain=True)
    client.subscribe((mqtt.topic(), IF_NEW))
    assert client.take().payload == b"kept"
    client.subscribe((mqtt.topic(), IF_NEW))
    assert marked(mqtt, client, mqtt.topic())


def test_mqtt_3_3_1_11_retain_handling_2_brings_nothing(mqtt):
    client = wire5.client(mqtt, "s")
    client.publish(mqtt.topic(), b"kept", retain=True)
    client.subscribe((mqtt.topic(), NEVER))
    assert marked(mqtt, client, mqtt.topic())


def test_mqtt_3_3_1_12_without_retain_as_published_the_flag_is_0(mqtt):
    client = wire5.client(mqtt, "s")
    client.subscribe((mqtt.topic(), 0))
    client.send(wire5.publish(mqtt.topic(), b"x", retain=True))
    assert not client.take().retain


def test_mqtt_3_3_1_13_with_retain_as_published_the_flag_stays(mqtt):
    client = wire5.client(mqtt, "s")
    client.subscribe((mqtt.topic(), AS_PUBLISHED))
    for retain in (True, False):
        client.send(wire5.publish(mqtt.topic(), b"x", retain=retain))
        assert client.take().retain == retain


def test_mqtt_3_9_3_1_codes_of_suback_are_in_the_order_of_the_filters(mqtt):
    client = wire5.client(mqtt, "s", port=mqtt.broker.guarded_port)
    filters = [(mqtt.topic(), 0), ("shut/a", 0), ("a/#/b", 0), ("$share/g/shut/a", 0)]
    assert client.subscribe(*filters, (mqtt.topic("b"), 2)) == [0, 0x87, 0x8F, 0x87, 2]


def test_mqtt_3_11_3_1_codes_of_unsuback_are_in_the_order_of_the_filters(mqtt):
    client = wire5.client(mqtt, "s")
    client.subscribe((mqtt.topic(), 0))
    client.send(wire5.unsubscribe([mqtt.topic("b"), mqtt.topic()]))
    assert client.expect(wire.UNSUBACK).codes == [0x11, 0]
