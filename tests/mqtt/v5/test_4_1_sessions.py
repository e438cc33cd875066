"""4.1, 4.2, 4.4 and 4.5: what a session remembers, and what a receiver owes."""

import pytest
from both import sessions
from conformance import wire, wire5

QOS = pytest.mark.parametrize("qos", [1, 2])


def test_mqtt_4_1_0_1_a_session_keeps_what_belongs_to_it(mqtt):
    """Subscriptions with their options, what is queued, and what is not acknowledged."""
    sub = mqtt.client("s", mqtt.STAYS)
    sub.subscribe((mqtt.topic("a"), 1), pairs=[(wire5.SUBSCRIPTION_ID, 7)])
    sub.subscribe((mqtt.topic("b/+"), 0 | 4 | 8))
    pub = mqtt.client()
    pub.publish(mqtt.topic("a"), b"unacknowledged")
    sub.expect(wire.PUBLISH)
    sub.close()
    pub.publish(mqtt.topic("a"), b"queued")
    for _ in range(3):
        sub = mqtt.back("s")
        got = [sub.expect(wire.PUBLISH), sub.expect(wire.PUBLISH)]
        assert [message.payload for message in got] == [b"unacknowledged", b"queued"]
        assert [message.one(wire5.SUBSCRIPTION_ID) for message in got] == [7, 7]
        sub.close()
    sub = mqtt.back("s")
    assert [sub.take().payload for _ in range(2)] == [b"unacknowledged", b"queued"]
    sub.publish(mqtt.topic("b/c"), b"own")
    pub.publish(mqtt.topic("b/c"), b"subscribed", retain=True)
    got = sub.take()
    assert (got.payload, got.qos, got.retain) == (b"subscribed", 0, True)


@pytest.mark.parametrize("expiry", [0, 3600], ids=["clean", "stored"])
def test_mqtt_4_1_0_1_a_session_lasts_as_long_as_its_connection(mqtt, expiry):
    stays = (wire5.SESSION_EXPIRY, expiry)
    sub = mqtt.subscriber((mqtt.topic(), 1), pairs=[stays])
    for n in range(20):
        # Others come and go meanwhile, with every kind of session.
        pairs = [mqtt.STAYS] * (n % 3 == 0)
        mqtt.client("other", *pairs, clean=n % 2 == 0).publish(mqtt.topic(), b"%d" % n)
        assert sub.take().payload == b"%d" % n


def test_mqtt_4_1_0_1_an_expiry_of_a_second_does_not_end_a_connected_session(mqtt):
    sub = mqtt.subscriber((mqtt.topic(), 1), name="s", pairs=[(wire5.SESSION_EXPIRY, 1)])
    ends_with(mqtt, "other", 1)
    mqtt.client().publish(mqtt.topic(), b"x")
    assert sub.take().payload == b"x"


def ends_with(mqtt, name, seconds, **how):
    """Waits until a session is over that has no connection: its will, delayed longer, says so."""
    watcher = mqtt.subscriber((mqtt.topic("over"), 0))
    will = (mqtt.topic("over"), b"", 0, [(wire5.WILL_DELAY, 3600)])
    mqtt.client(name, (wire5.SESSION_EXPIRY, seconds), will=will, **how).close()
    assert watcher.take().topic == mqtt.topic("over")


def test_mqtt_4_1_0_2_a_session_is_deleted_when_its_time_is_over(mqtt):
    mqtt.away("s", (mqtt.topic(), 1))
    mqtt.client().publish(mqtt.topic(), b"x")
    ends_with(mqtt, "s", 1, clean=False)
    client = mqtt.client("s", mqtt.STAYS, clean=False)
    assert not client.session_present
    mqtt.client().publish(mqtt.topic(), b"y")
    client.is_quiet()


def test_mqtt_4_1_0_2_an_expiry_of_0_ends_with_the_connection(mqtt):
    for pairs in ([], [(wire5.SESSION_EXPIRY, 0)]):
        mqtt.subscriber((mqtt.topic(), 1), name="s", pairs=pairs).close()
        mqtt.client().publish(mqtt.topic(), b"x")
        client = mqtt.client("s", clean=False)
        assert not client.session_present
        client.is_quiet()
        client.leave()


def test_mqtt_4_1_0_2_the_longest_expiry_is_taken(mqtt):
    mqtt.subscriber((mqtt.topic(), 1), name="s", pairs=[(wire5.SESSION_EXPIRY, 0xFFFFFFFF)]).leave()
    mqtt.client().publish(mqtt.topic(), b"x")
    assert mqtt.back("s").take().payload == b"x"


def test_mqtt_4_2_0_1_a_stream_of_bytes_without_borders(mqtt):
    client = mqtt.open()
    data = wire5.connect(mqtt.id("c")) + wire5.subscribe([(mqtt.topic(), 1)])
    for byte in data:
        client.send(bytes([byte]))
    client.expect(wire.CONNACK)
    client.expect(wire.SUBACK)
    client.send(*(wire5.publish(mqtt.topic(), b"%d" % n, qos=1, packet_id=n) for n in range(1, 100)))
    got = []
    # No more than the server's receive maximum.
    while len(got) < 99:
        said = client.receive()
        if said.kind == wire.PUBLISH:
            client.send(wire.puback(said.packet_id))
            got.append(int(said.payload))
    assert got == list(range(1, 100))


@QOS
def test_mqtt_4_4_0_1_what_is_pending_is_sent_again_with_its_id(mqtt, qos):
    sub = mqtt.subscriber((mqtt.topic(), qos), name="s", pairs=[mqtt.STAYS])
    pub = mqtt.client()
    for n in range(5):
        pub.publish(mqtt.topic(), b"%d" % n, qos=qos)
    first = [sub.expect(wire.PUBLISH) for _ in range(5)]
    for done in (first[1], first[3]):
        sub.acknowledge(done)
    sub.ping()
    sub.close()
    sub = mqtt.back("s")
    again = [sub.take() for _ in range(3)]
    left = [first[0], first[2], first[4]]
    assert [(m.payload, m.packet_id) for m in again] == [(m.payload, m.packet_id) for m in left]
    assert all(m.dup for m in again)
    sub.leave()
    mqtt.back("s").is_quiet()


test_mqtt_4_4_0_1_an_unfinished_pubrel_is_sent_again = sessions.an_unfinished_pubrel_is_sent_again


@QOS
def test_mqtt_4_4_0_1_nothing_is_sent_again_while_the_connection_lasts(mqtt, qos):
    sub = mqtt.subscriber((mqtt.topic(), qos), (mqtt.topic("b"), 0), pairs=[mqtt.STAYS])
    pub = mqtt.client()
    pub.publish(mqtt.topic(), b"x", qos=qos)
    sub.expect(wire.PUBLISH)
    # A new subscription, a message and pings: all that could give occasion.
    for n in range(20):
        assert sub.subscribe((mqtt.topic(f"{n}"), qos)) == [qos]
        pub.publish(mqtt.topic("b"), b"%d" % n)
        assert sub.expect(wire.PUBLISH).payload == b"%d" % n
    sub.is_quiet()


@QOS
def test_mqtt_4_4_0_1_nothing_is_sent_again_after_a_clean_start(mqtt, qos):
    sub = mqtt.subscriber((mqtt.topic(), qos), name="s", pairs=[mqtt.STAYS])
    mqtt.client().publish(mqtt.topic(), b"x", qos=qos)
    sub.expect(wire.PUBLISH)
    sub.close()
    client = mqtt.client("s", mqtt.STAYS)
    assert not client.session_present
    client.is_quiet()


@pytest.mark.parametrize("code", [0x80, 0x83, 0x87, 0x97])
def test_mqtt_4_4_0_2_a_refused_qos_1_message_is_not_sent_again(mqtt, code):
    sub = mqtt.subscriber((mqtt.topic(), 1), name="s", pairs=[mqtt.STAYS])
    mqtt.client().publish(mqtt.topic(), b"x")
    sub.send(wire5.ack(wire.PUBACK, sub.expect(wire.PUBLISH).packet_id, code))
    sub.ping()
    sub.close()
    mqtt.back("s").is_quiet()


@pytest.mark.parametrize("code", [0x80, 0x83, 0x87, 0x97])
def test_mqtt_4_4_0_2_a_refused_qos_2_message_is_over(mqtt, code):
    """No PUBREL, nothing again, and the id may be used for the next."""
    sub = mqtt.subscriber(
        (mqtt.topic(), 2), name="s", pairs=[mqtt.STAYS, (wire5.RECEIVE_MAXIMUM, 1)]
    )
    pub = mqtt.client()
    pub.publish(mqtt.topic(), b"refused", qos=2)
    pub.publish(mqtt.topic(), b"next", qos=2)
    message = sub.expect(wire.PUBLISH)
    assert message.payload == b"refused"
    sub.send(wire5.ack(wire.PUBREC, message.packet_id, code))
    assert sub.take().payload == b"next"
    sub.ping()
    sub.close()
    mqtt.back("s").is_quiet()


test_mqtt_4_5_0_1_every_matching_session_gets_the_message = (
    sessions.every_matching_session_gets_the_message
)
