"""4.9: how much may be under way. The server's own maximum is 3.3.4's."""

import pytest
from conformance import wire, wire5
from conformance.marks import not_mosquitto

QOS = pytest.mark.parametrize("qos", [1, 2])


def flood(mqtt, qos, count):
    pub = mqtt.client()
    for n in range(count):
        pub.publish(mqtt.topic(), b"%d" % n, qos=qos)


def comes_before_a_ping(client):
    """All PUBLISHes that are sent before this PINGREQ is answered."""
    client.send(wire.pingreq())
    out = []
    while (said := client.receive()).kind != wire.PINGRESP:
        assert said.kind == wire.PUBLISH
        out.append(said)
    return out


def windowed(mqtt, qos, maximum):
    return mqtt.subscriber(
        (mqtt.topic(), qos), name="s", pairs=[mqtt.STAYS, (wire5.RECEIVE_MAXIMUM, maximum)]
    )


@QOS
@pytest.mark.parametrize("maximum", [1, 2, 10])
def test_mqtt_4_9_0_1_no_more_than_the_receive_maximum_is_under_way(mqtt, qos, maximum):
    sub = windowed(mqtt, qos, maximum)
    flood(mqtt, qos, maximum + 5)
    got = comes_before_a_ping(sub)
    assert 1 <= len(got) <= maximum


@not_mosquitto("sends all again at once")
@QOS
def test_mqtt_4_9_0_1_a_new_connection_begins_with_its_own_maximum(mqtt, qos):
    """What is sent again counts like what is new, and the quota of before is gone."""
    sub = windowed(mqtt, qos, 10)
    flood(mqtt, qos, 12)
    assert len(comes_before_a_ping(sub)) <= 10
    sub.close()
    sub = mqtt.back("s", mqtt.STAYS, (wire5.RECEIVE_MAXIMUM, 3))
    got = comes_before_a_ping(sub)
    assert 1 <= len(got) <= 3
    seen = [message.payload for message in got]
    for message in got:
        sub.acknowledge(message)
    while len(seen) < 12:
        seen.append(sub.take().payload)
    assert seen == [b"%d" % n for n in range(12)]


def test_mqtt_4_9_0_2_at_0_nothing_of_qos_1_is_sent(mqtt):
    sub = windowed(mqtt, 1, 2)
    flood(mqtt, 1, 4)
    got = [sub.expect(wire.PUBLISH), sub.expect(wire.PUBLISH)]
    assert comes_before_a_ping(sub) == []
    # Each PUBACK makes room for one, with an error too.
    sub.send(wire.puback(got[1].packet_id))
    assert sub.expect(wire.PUBLISH).payload == b"2"
    sub.send(wire5.ack(wire.PUBACK, got[0].packet_id, 0x80))
    assert sub.expect(wire.PUBLISH).payload == b"3"
    # One that answers nothing makes none.
    flood(mqtt, 1, 1)
    sub.send(wire.puback(got[0].packet_id))
    assert comes_before_a_ping(sub) == []


def test_mqtt_4_9_0_2_at_0_nothing_of_qos_2_is_sent(mqtt):
    sub = windowed(mqtt, 2, 1)
    flood(mqtt, 2, 4)
    message = sub.expect(wire.PUBLISH)
    # PUBREC makes no room, PUBCOMP does; and PUBREC with an error.
    sub.send(wire.pubrec(message.packet_id))
    assert sub.expect(wire.PUBREL).packet_id == message.packet_id
    assert comes_before_a_ping(sub) == []
    sub.send(wire.pubcomp(message.packet_id))
    message = sub.expect(wire.PUBLISH)
    assert message.payload == b"1"
    assert comes_before_a_ping(sub) == []
    sub.send(wire5.ack(wire.PUBREC, message.packet_id, 0x80))
    assert sub.take().payload == b"2"


@QOS
def test_mqtt_4_9_0_3_at_0_everything_else_goes_on(mqtt, qos):
    sub = windowed(mqtt, qos, 1)
    flood(mqtt, qos, 3)
    sub.expect(wire.PUBLISH)
    assert sub.subscribe((mqtt.topic("b"), 0)) == [0]
    assert sub.publish(mqtt.topic("b"), b"own") == 0
    assert sub.expect(wire.PUBLISH).payload == b"own"
    sub.ping()
    mqtt.client().publish(mqtt.topic("b"), b"QoS 0", qos=0)
    assert sub.expect(wire.PUBLISH).payload == b"QoS 0"
    assert sub.unsubscribe(mqtt.topic("b")) == [0]
    sub.send(wire.pubrel(77))
    assert sub.expect(wire.PUBCOMP).packet_id == 77
