"""4.1, 4.4 and 4.5: what a session remembers, and what a receiver owes."""

import pytest
from both import sessions
from conformance import wire


def test_mqtt_4_1_0_1_a_session_keeps_what_belongs_to_it(mqtt):
    """Subscriptions, what is queued, and what is not acknowledged; through several connections."""
    sub = mqtt.subscriber((mqtt.topic("a"), 1), (mqtt.topic("b/+"), 0), name="s", clean=False)
    pub = mqtt.client()
    pub.publish(mqtt.topic("a"), b"unacknowledged")
    sub.expect(wire.PUBLISH)
    sub.close()
    pub.publish(mqtt.topic("a"), b"queued")
    for _ in range(3):
        sub = mqtt.back("s")
        got = [sub.expect(wire.PUBLISH), sub.expect(wire.PUBLISH)]
        assert [message.payload for message in got] == [b"unacknowledged", b"queued"]
        sub.close()
    sub = mqtt.back("s")
    assert [sub.take().payload for _ in range(2)] == [b"unacknowledged", b"queued"]
    pub.publish(mqtt.topic("b/c"), b"subscribed", qos=1)
    got = sub.take()
    assert (got.payload, got.qos) == (b"subscribed", 0)


@pytest.mark.parametrize("clean", [True, False], ids=["clean", "stored"])
def test_mqtt_4_1_0_2_a_session_lasts_as_long_as_its_connection(mqtt, clean):
    sub = mqtt.subscriber((mqtt.topic(), 1), clean=clean)
    for n in range(20):
        # Others come and go meanwhile, with every kind of session.
        mqtt.client("other", clean=n % 2 == 0).publish(mqtt.topic(), b"%d" % n)
        assert sub.take().payload == b"%d" % n


def test_mqtt_4_4_0_1_unacknowledged_qos_1_is_sent_again_with_its_id(mqtt):
    sub = mqtt.subscriber((mqtt.topic(), 1), name="s", clean=False)
    pub = mqtt.client()
    for n in range(5):
        pub.publish(mqtt.topic(), b"%d" % n)
    first = [sub.expect(wire.PUBLISH) for _ in range(5)]
    sub.send(wire.puback(first[1].packet_id), wire.puback(first[3].packet_id))
    sub.ping()
    sub.close()
    sub = mqtt.back("s")
    again = [sub.take() for _ in range(3)]
    left = [first[0], first[2], first[4]]
    assert [(m.payload, m.packet_id) for m in again] == [(m.payload, m.packet_id) for m in left]
    sub.leave()
    sub = mqtt.back("s")
    sub.is_quiet()


def test_mqtt_4_4_0_1_unacknowledged_qos_2_is_sent_again_with_its_id(mqtt):
    sub = mqtt.subscriber((mqtt.topic(), 2), name="s", clean=False)
    mqtt.client().publish(mqtt.topic(), b"x", 2)
    first = sub.expect(wire.PUBLISH)
    sub.close()
    again = mqtt.back("s").take()
    assert (again.payload, again.packet_id, again.dup) == (b"x", first.packet_id, True)


test_mqtt_4_4_0_1_an_unfinished_pubrel_is_sent_again = sessions.an_unfinished_pubrel_is_sent_again
test_mqtt_4_5_0_1_every_matching_session_gets_the_message = (
    sessions.every_matching_session_gets_the_message
)
