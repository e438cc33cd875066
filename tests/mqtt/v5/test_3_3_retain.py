"""3.3.1.3: RETAIN, and Retain Handling and Retain As Published, which say what comes of it."""

import pytest
from both import publishing
from conformance import wire5

AS_PUBLISHED, IF_NEW, NEVER = 8, 0x10, 0x20


def marked(mqtt, client, topic):
    """Nothing came before what somebody else publishes now."""
    wire5.client(mqtt, "marker").send(wire5.publish(topic, b"marker"))
    return client.take().payload == b"marker"


test_mqtt_3_3_1_5_retain_keeps_the_message_and_its_qos = publishing.retain_keeps_the_message_and_its_qos


@pytest.mark.parametrize("qos", [0, 1])
def test_mqtt_3_3_1_5_the_last_message_replaces_what_was_kept(mqtt, qos):
    """With all that belonged to it."""
    end = mqtt.topic("end")
    pub = mqtt.client()
    pub.publish(mqtt.topic(), b"old", (wire5.CONTENT_TYPE, "old"), (wire5.USER, ("a", "b")), retain=True)
    new = [(wire5.CORRELATION, b"new")]
    pub.publish(mqtt.topic(), b"new", *new, qos=qos, retain=True)
    pub.ping()
    sub = mqtt.subscriber((mqtt.topic("+"), 1))
    pub.publish(end)
    assert [(m.payload, m.properties) for m in sub.until(end)] == [(b"new", new)]


@pytest.mark.parametrize("qos", [0, 1])
def test_mqtt_3_3_1_6_an_empty_retained_message_is_delivered_and_erases(mqtt, qos):
    end = mqtt.topic("end")
    pub = mqtt.client()
    pub.publish(mqtt.topic(), b"kept", retain=True)
    sub = mqtt.subscriber((mqtt.topic(), 1 | AS_PUBLISHED))
    assert sub.take().payload == b"kept"
    # Properties do not make it less empty.
    pub.publish(mqtt.topic(), b"", (wire5.CONTENT_TYPE, "t"), qos=qos, retain=True)
    got = sub.take()
    assert (got.payload, got.retain, got.one(wire5.CONTENT_TYPE)) == (b"", True, "t")
    late = mqtt.subscriber((mqtt.topic("+"), 1))
    pub.publish(end)
    assert late.until(end) == []


def test_mqtt_3_3_1_7_an_empty_retained_message_is_not_kept(mqtt):
    publishing.an_empty_retained_message_is_not_kept(mqtt, (wire5.USER, ("a", "b")))


test_mqtt_3_3_1_8_a_message_without_retain_changes_nothing_kept = (
    publishing.a_message_without_retain_changes_nothing_kept
)


def test_mqtt_3_3_1_9_retain_handling_0_brings_the_last_of_each_topic(mqtt):
    end = mqtt.topic("end")
    pub = mqtt.client()
    for name in ("a", "b", "a/b", "c"):
        for n in range(3):
            pub.publish(mqtt.topic(name), b"%s %d" % (name.encode(), n), retain=True)
    sub = mqtt.client()
    # Each time, and whatever Retain As Published says: RETAIN is what marks them.
    for options in (1, 1, 1 | AS_PUBLISHED):
        sub.subscribe((mqtt.topic("+"), options))
        pub.publish(end)
        got = sub.until(end)
        assert sorted(m.payload for m in got) == [b"a 2", b"b 2", b"c 2"]
        assert all(m.retain for m in got)


def test_mqtt_3_3_1_10_retain_handling_1_counts_what_is_there_now(mqtt):
    """New again after UNSUBSCRIBE; not new in a session that came back; each filter by itself."""
    mqtt.client().publish(mqtt.topic(), b"kept", retain=True)
    client = mqtt.client("s", mqtt.STAYS)
    client.subscribe((mqtt.topic(), 1 | IF_NEW))
    assert client.take().payload == b"kept"
    client.unsubscribe(mqtt.topic())
    client.subscribe((mqtt.topic(), 1 | IF_NEW))
    assert client.take().payload == b"kept"
    client.leave()
    client = mqtt.back("s")
    client.subscribe((mqtt.topic(), 1 | IF_NEW))
    mqtt.client().publish(mqtt.topic(), b"next")
    assert client.take().payload == b"next"
    client.subscribe((mqtt.topic(), 1 | IF_NEW), (mqtt.topic("+"), 1 | IF_NEW))
    assert client.take().payload == b"kept"


def test_mqtt_3_3_1_11_retain_handling_2_brings_nothing_ever(mqtt):
    client, pub = mqtt.client(), mqtt.client()
    pub.publish(mqtt.topic(), b"kept", retain=True)
    for options in (NEVER, 1 | NEVER | AS_PUBLISHED, NEVER):
        client.subscribe((mqtt.topic(), options))
        # What is published from now on comes as ever.
        pub.publish(mqtt.topic(), b"next", retain=True)
        assert client.take().payload == b"next"


@pytest.mark.parametrize("way", ["live", "queued"])
def test_mqtt_3_3_1_12_the_flag_is_0_on_every_way(mqtt, way):
    client = mqtt.subscriber((mqtt.topic(), 1), name="s", pairs=[mqtt.STAYS])
    if way == "queued":
        client.leave()
    mqtt.client().publish(mqtt.topic(), b"x", retain=True)
    if way == "queued":
        client = mqtt.back("s")
    assert not client.take().retain


@pytest.mark.parametrize("way", ["live", "queued"])
def test_mqtt_3_3_1_13_the_flag_stays_on_every_way(mqtt, way):
    client = mqtt.subscriber((mqtt.topic(), 1 | AS_PUBLISHED), name="s", pairs=[mqtt.STAYS])
    if way == "queued":
        client.leave()
    for retain in (True, False):
        mqtt.client().publish(mqtt.topic(), b"x", retain=retain)
    if way == "queued":
        client = mqtt.back("s")
    assert [client.take().retain for _ in range(2)] == [True, False]


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
