"""3.3 to 3.7: PUBLISH and its acknowledgements."""

import pytest
from both import publishing
from conformance import wire
from conformance.marks import not_mosquitto

test_mqtt_3_3_1_1_a_message_sent_again_has_dup = publishing.a_message_sent_again_has_dup
test_mqtt_3_3_1_2_qos_0_is_sent_without_dup = publishing.qos_0_is_sent_without_dup


@not_mosquitto("takes it")
def test_mqtt_3_3_1_2_qos_0_with_dup_closes(mqtt):
    mqtt.ends(wire.publish(mqtt.topic(), b"x", dup=True))


test_mqtt_3_3_1_3_dup_is_not_passed_on = publishing.dup_is_not_passed_on
test_mqtt_3_3_1_4_both_qos_bits_close = publishing.both_qos_bits_close
test_mqtt_3_3_1_5_retain_keeps_the_message_and_its_qos = publishing.retain_keeps_the_message_and_its_qos


def test_mqtt_3_3_1_6_a_new_subscription_gets_the_last_of_each_topic(mqtt):
    end = mqtt.topic("end")
    pub = mqtt.client()
    for name in ("a", "b", "a/b", "c"):
        for n in range(3):
            pub.publish(mqtt.topic(name), b"%s %d" % (name.encode(), n), retain=True)
    sub = mqtt.subscriber((mqtt.topic("+"), 1))
    pub.publish(end)
    got = sub.until(end)
    assert sorted(message.payload for message in got) == [b"a 2", b"b 2", b"c 2"]


def test_mqtt_3_3_1_7_qos_0_replaces_the_retained_message(mqtt):
    end = mqtt.topic("end")
    pub = mqtt.client()
    pub.publish(mqtt.topic(), b"old", 1, retain=True)
    pub.publish(mqtt.topic(), b"new", 0, retain=True)
    pub.ping()
    sub = mqtt.subscriber((mqtt.topic("+"), 1))
    pub.publish(end)
    # The server may forget the new one at any time; never may it remember the old.
    assert [message.payload for message in sub.until(end)] in ([b"new"], [])


def test_mqtt_3_3_1_8_what_a_new_subscription_gets_has_retain(mqtt):
    mqtt.client().publish(mqtt.topic(), b"kept", retain=True)
    sub = mqtt.subscriber((mqtt.topic(), 1))
    assert sub.take().retain
    # So has what the same subscription gets when it is made again.
    sub.subscribe((mqtt.topic(), 1))
    assert sub.take().retain


def test_mqtt_3_3_1_9_what_an_old_subscription_gets_has_no_retain(mqtt):
    sub = mqtt.subscriber((mqtt.topic(), 1))
    mqtt.away("away", (mqtt.topic(), 1))
    mqtt.client().publish(mqtt.topic(), b"news", retain=True)
    for client in (sub, mqtt.back("away")):
        got = client.take()
        assert (got.payload, got.retain) == (b"news", False)


@pytest.mark.parametrize("qos", [0, 1])
def test_mqtt_3_3_1_10_an_empty_retained_message_is_delivered_and_erases(mqtt, qos):
    end = mqtt.topic("end")
    pub = mqtt.client()
    pub.publish(mqtt.topic(), b"kept", retain=True)
    sub = mqtt.subscriber((mqtt.topic(), 1))
    assert sub.take().payload == b"kept"
    pub.publish(mqtt.topic(), b"", qos, retain=True)
    got = sub.take()
    assert (got.payload, got.retain) == (b"", False)
    late = mqtt.subscriber((mqtt.topic("+"), 1))
    pub.publish(end)
    assert late.until(end) == []


test_mqtt_3_3_1_11_an_empty_retained_message_is_not_kept = (
    publishing.an_empty_retained_message_is_not_kept
)
test_mqtt_3_3_1_12_a_message_without_retain_changes_nothing_kept = (
    publishing.a_message_without_retain_changes_nothing_kept
)
test_mqtt_3_3_2_1_a_publish_that_does_not_begin_with_a_topic_closes = (
    publishing.a_publish_that_does_not_begin_with_a_topic_closes
)


@pytest.mark.parametrize("topic", ["#", "+", "a/#", "a/+", "+/a", "a/+/b", "a#", "a+b"])
def test_mqtt_3_3_2_2_wildcards_in_a_topic_close(mqtt, topic):
    end = mqtt.topic("end")
    sub = mqtt.subscriber((mqtt.topic("#"), 1))
    mqtt.ends(wire.publish(mqtt.topic(topic), b"x", 1))
    mqtt.ends(wire.publish(topic, b"x"))
    mqtt.client().publish(end)
    assert sub.until(end) == []


test_mqtt_3_3_2_3_a_delivered_topic_matches_the_filter = publishing.a_delivered_topic_matches_the_filter
test_mqtt_3_3_4_1_qos_0_is_not_answered_qos_1_with_puback = (
    publishing.qos_0_is_not_answered_qos_1_with_puback
)
test_mqtt_3_3_4_1_qos_2_is_answered_with_pubrec = publishing.qos_2_is_answered_with_pubrec


@pytest.mark.parametrize("high_first", [True, False])
def test_mqtt_3_3_5_1_overlapping_subscriptions_deliver_with_the_highest_qos(mqtt, high_first):
    end = mqtt.topic("end")
    filters = [(mqtt.topic("+"), 1), (mqtt.topic("#"), 0)]
    sub = mqtt.subscriber(*(filters if high_first else filters[::-1]), (end, 0))
    pub = mqtt.client()
    pub.publish(mqtt.topic(), b"x")
    pub.publish(end)
    got = sub.until(end)
    assert max(message.qos for message in got) == 1
    # One copy, or one for each subscription.
    assert len(got) in (1, 2)


def test_mqtt_3_3_5_1_overlapping_subscriptions_deliver_with_qos_2(mqtt):
    sub = mqtt.subscriber((mqtt.topic("+"), 1), (mqtt.topic("#"), 2), (mqtt.topic(), 0))
    pub = mqtt.client()
    pub.publish(mqtt.topic(), b"x", 2)
    pub.publish(mqtt.topic("end"), b"", 2)
    got = sub.until(mqtt.topic("end"))
    assert max(message.qos for message in got) == 2


@pytest.mark.parametrize("qos", [0, 1])
def test_mqtt_3_3_5_2_a_publish_without_right_goes_nowhere(mqtt, qos):
    """Acknowledged as if it had, or the connection ends; an error cannot be told."""
    end = mqtt.topic("end")
    forbidden = mqtt.topic("").removeprefix("open/") + "a"
    sub = mqtt.subscriber((forbidden, 1), (end, 1))
    client = mqtt.client(port=mqtt.broker.guarded_port)
    client.publish(mqtt.topic(), b"may", 1)
    client.send(wire.publish(forbidden, b"x", qos, 9), wire.pingreq())
    said = []
    try:
        while not said or said[-1].kind != wire.PINGRESP:
            said.append(client.receive())
    except wire.Closed:
        pass
    kinds = [answer.kind for answer in said]
    assert kinds in ([], [wire.PUBACK] * qos, [wire.PUBACK] * qos + [wire.PINGRESP])
    mqtt.client().publish(end)
    assert sub.until(end) == []


@pytest.mark.parametrize("flags", [0, 1, 3, 6, 10, 15])
def test_mqtt_3_6_1_1_other_flags_in_pubrel_close(mqtt, flags):
    client = mqtt.client()
    client.send(wire.publish(mqtt.topic(), b"x", 2, 5))
    client.expect(wire.PUBREC)
    client.send(wire.tampered(wire.pubrel(5), flags))
    client.thrown_out()
