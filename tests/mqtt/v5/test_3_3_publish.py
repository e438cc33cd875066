"""3.3: PUBLISH and what travels with it."""

import contextlib

import pytest
from both import publishing
from conformance import wire, wire5
from conformance.marks import not_mosquitto

test_mqtt_3_3_1_1_a_message_sent_again_has_dup = publishing.a_message_sent_again_has_dup
test_mqtt_3_3_1_2_qos_0_is_sent_without_dup = publishing.qos_0_is_sent_without_dup


@not_mosquitto("takes it")
def test_mqtt_3_3_1_2_qos_0_with_dup_closes(mqtt):
    mqtt.ends(wire5.publish(mqtt.topic(), b"x", dup=True), code=0x81)


test_mqtt_3_3_1_3_dup_is_not_passed_on = publishing.dup_is_not_passed_on
test_mqtt_3_3_1_4_both_qos_bits_close = publishing.both_qos_bits_close
test_mqtt_3_3_2_1_a_publish_that_does_not_begin_with_a_topic_closes = (
    publishing.a_publish_that_does_not_begin_with_a_topic_closes
)


def test_mqtt_3_3_2_1_an_empty_topic_without_alias_closes(mqtt):
    for qos in (0, 1):
        mqtt.ends(wire5.publish("", b"x", qos=qos), code=0x82)
    mqtt.ends(wire5.publish("", b"x", (wire5.CONTENT_TYPE, "text/plain")), code=0x82)


@pytest.mark.parametrize("topic", ["#", "+", "a/#", "a/+", "+/a", "a/+/b", "a#", "a+b"])
def test_mqtt_3_3_2_2_wildcards_in_a_topic_close(mqtt, topic):
    end = mqtt.topic("end")
    sub = mqtt.subscriber((mqtt.topic("#"), 1))
    mqtt.ends(wire5.publish(mqtt.topic(topic), b"x", qos=1), code=0x90)
    mqtt.ends(wire5.publish(topic, b"x"), code=0x90)
    mqtt.ends(wire5.publish(topic, b"x", (wire5.ALIAS, 1)), code=0x90)
    mqtt.client().publish(end)
    assert sub.until(end) == []


test_mqtt_3_3_2_3_a_delivered_topic_matches_the_filter = publishing.a_delivered_topic_matches_the_filter


# The ways of a message to a client.
WAYS = ["live", "queued", "retained", "sent-again"]


def travel(mqtt, way, *pairs, payload=b"x"):
    """The properties of a message that was published with `pairs`, as they come."""
    topic, pub = mqtt.topic(), mqtt.client()
    if way == "retained":
        pub.publish(topic, payload, *pairs, retain=True)
        sub = mqtt.subscriber((topic, 1))
    elif way == "queued":
        mqtt.away("s", (topic, 1))
        pub.publish(topic, payload, *pairs)
        sub = mqtt.back("s")
    else:
        sub = mqtt.subscriber((topic, 1), name="s", pairs=[mqtt.STAYS])
        pub.publish(topic, payload, *pairs)
    if way == "sent-again":
        sub.expect(wire.PUBLISH)
        sub.close()
        sub = mqtt.back("s")
    got = sub.take()
    assert (got.topic, got.payload) == (topic, payload)
    return got.properties


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("pairs", [[], [(wire5.PAYLOAD_FORMAT, 0)], [(wire5.PAYLOAD_FORMAT, 1)]])
def test_mqtt_3_3_2_4_the_payload_format_comes_as_it_went(mqtt, way, pairs):
    """Not even 0, which is what none means, is left away or put there."""
    assert travel(mqtt, way, *pairs, payload="Grüße".encode()) == pairs


@not_mosquitto("delivers nothing more behind one that is over")
def test_mqtt_3_3_2_5_a_message_whose_life_is_over_is_not_delivered(mqtt):
    """Where it waits for its client, for room in the window, or for a subscription."""
    short, long = (wire5.MESSAGE_EXPIRY, 1), (wire5.MESSAGE_EXPIRY, 100)
    pub = mqtt.client()
    mqtt.away("s", (mqtt.topic("queued"), 1))
    busy = mqtt.subscriber((mqtt.topic("window"), 1), pairs=[(wire5.RECEIVE_MAXIMUM, 1)])
    pub.publish(mqtt.topic("window"), b"first")
    first = busy.expect(wire.PUBLISH)
    for name in ("queued", "window"):
        for payload, pairs in ((b"short", [short]), (b"long", [long]), (b"for ever", [])):
            pub.publish(mqtt.topic(name), payload, *pairs)
    pub.publish(mqtt.topic("kept/short"), b"short", short, retain=True)
    pub.publish(mqtt.topic("kept/long"), b"long", long, retain=True)
    with pytest.raises(TimeoutError):
        pub.receive(2.1)
    busy.send(wire.puback(first.packet_id))
    queued, late = mqtt.back("s"), mqtt.subscriber((mqtt.topic("kept/#"), 1))
    got = {"queued": [], "window": [], "kept": []}
    for client, name, end in ((queued, "queued", b"for ever"), (busy, "window", b"for ever"),
                              (late, "kept", b"long")):
        while not got[name] or got[name][-1].payload != end:
            got[name].append(client.take())
    payloads = {name: [message.payload for message in all] for name, all in got.items()}
    waiting = [b"long", b"for ever"]
    assert payloads == {"queued": waiting, "window": waiting, "kept": [b"long"]}
    # 3.3.2-6: what is left is what it was less the time that it waited.
    for all in got.values():
        assert all[0].one(wire5.MESSAGE_EXPIRY) in (97, 98)
        assert [message.all(wire5.MESSAGE_EXPIRY) for message in all[1:]] in ([], [[]])


@pytest.mark.parametrize("way", WAYS)
def test_mqtt_3_3_2_6_a_message_keeps_what_is_left_of_its_life(mqtt, way):
    [(id, left)] = travel(mqtt, way, (wire5.MESSAGE_EXPIRY, 1000))
    assert id == wire5.MESSAGE_EXPIRY and left in range(990, 1001)


def test_mqtt_3_3_2_7_aliases_end_with_their_connection(mqtt):
    client = mqtt.client("s", mqtt.STAYS)
    assert client.publish(mqtt.topic(), b"", (wire5.ALIAS, 1)) == 0x10
    client.leave()
    client = mqtt.back("s")
    client.send(wire5.publish("", b"", (wire5.ALIAS, 1)))
    client.thrown_out(0x82)


def test_mqtt_3_3_2_7_the_servers_aliases_end_with_their_connection(mqtt):
    """What is sent again on the next one has its name again."""
    aliases = (wire5.ALIAS_MAXIMUM, 10)
    sub = mqtt.subscriber((mqtt.topic(), 1), name="s", pairs=[mqtt.STAYS, aliases])
    pub = mqtt.client()
    for n in range(2):
        pub.publish(mqtt.topic(), b"%d" % n)
        sub.expect(wire.PUBLISH)
    sub.close()
    sub = mqtt.back("s", mqtt.STAYS, aliases)
    topics, known = [], {}
    for _ in range(2):
        got = sub.take()
        for alias in got.all(wire5.ALIAS):
            known.setdefault(alias, got.topic)
        topics.append(got.topic or known[got.one(wire5.ALIAS)])
    assert topics == [mqtt.topic()] * 2
    # One that takes no aliases gets none.
    sub.close()
    pub.publish(mqtt.topic(), b"2")
    got = mqtt.back("s").take()
    assert (got.topic, got.all(wire5.ALIAS)) == (mqtt.topic(), [])


@pytest.mark.parametrize("topic", ["a", ""])
@pytest.mark.parametrize("qos", [0, 1])
def test_mqtt_3_3_2_8_alias_0_closes(mqtt, topic, qos):
    mqtt.ends(wire5.publish(topic, b"x", (wire5.ALIAS, 0), qos=qos), code=0x94)


@pytest.mark.parametrize("beyond", [1, 1000])
def test_mqtt_3_3_2_9_an_alias_above_the_maximum_closes(mqtt, beyond):
    client = mqtt.client()
    maximum = client.connect_answer.one(wire5.ALIAS_MAXIMUM)
    client.send(wire5.publish(mqtt.topic(), b"x", (wire5.ALIAS, maximum + beyond)))
    client.thrown_out(0x94)


@not_mosquitto("gives no aliases")
@pytest.mark.parametrize("maximum", [1, 3, 65535])
def test_mqtt_3_3_2_11_an_alias_of_the_server_stands_for_its_topic(mqtt, maximum):
    """Up to the client's maximum, and never for another topic."""
    sub = mqtt.subscriber((mqtt.topic("#"), 0), pairs=[(wire5.ALIAS_MAXIMUM, maximum)])
    pub, known = mqtt.client(), {}
    for n in range(200):
        topic = mqtt.topic(f"{n % 5 if n < 20 else n}")
        pub.publish(topic, b"%d" % n, qos=0)
        got = sub.take()
        for alias in got.all(wire5.ALIAS):
            assert 1 <= alias <= maximum
            known[alias] = got.topic or known[alias]
        assert (got.topic or known[got.one(wire5.ALIAS)]) == topic
    assert known


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_mqtt_3_3_2_12_each_alias_up_to_the_maximum_is_taken(mqtt, qos):
    sub, pub = mqtt.subscriber((mqtt.topic("#"), qos)), mqtt.client()
    maximum = pub.connect_answer.one(wire5.ALIAS_MAXIMUM)
    for alias in range(1, maximum + 1):
        pub.publish(mqtt.topic(f"{alias}"), b"named", (wire5.ALIAS, alias), qos=qos)
        got = sub.take()
        assert (got.topic, got.all(wire5.ALIAS)) == (mqtt.topic(f"{alias}"), [])
    for alias in (maximum, 1):
        pub.publish("", b"by its alias", (wire5.ALIAS, alias), qos=qos)
        got = sub.take()
        assert (got.topic, got.payload) == (mqtt.topic(f"{alias}"), b"by its alias")
    # It may be given to another topic; each connection has its own.
    pub.publish(mqtt.topic("other"), b"", (wire5.ALIAS, 1), qos=qos)
    mqtt.client().publish(mqtt.topic("another's"), b"", (wire5.ALIAS, 1), qos=qos)
    pub.publish("", b"", (wire5.ALIAS, 1), qos=qos)
    assert sorted(sub.take().topic for _ in range(3)) == sorted(
        mqtt.topic(name) for name in ("another's", "other", "other")
    )


def test_mqtt_3_3_2_12_an_alias_that_stands_for_nothing_closes(mqtt):
    client = mqtt.client()
    client.publish(mqtt.topic(), b"", (wire5.ALIAS, 1))
    client.send(wire5.publish("", b"", (wire5.ALIAS, 2)))
    client.thrown_out(0x82)


@not_mosquitto("forgets the alias")
def test_mqtt_3_3_2_12_an_alias_holds_though_its_message_is_refused(mqtt):
    """3.3.2.3.4: the mapping is set by the packet, whatever becomes of the message."""
    client = mqtt.client(port=mqtt.broker.guarded_port)
    client.publish("shut/a", b"", (wire5.ALIAS, 1))
    client.publish("", b"", (wire5.ALIAS, 1))
    client.ping()


@pytest.mark.parametrize("bad", [b"\xff", b"a\0"])
def test_mqtt_3_3_2_13_a_response_topic_that_is_no_string_closes(mqtt, bad):
    mqtt.ends(wire5.publish(mqtt.topic(), b"x", (wire5.RESPONSE_TOPIC, bad)), code=0x81)


@not_mosquitto("takes it")
@pytest.mark.parametrize("topic", ["#", "a/+", "+/a", "a#", ""])
def test_mqtt_3_3_2_14_a_response_topic_that_is_no_topic_closes(mqtt, topic):
    pair = (wire5.RESPONSE_TOPIC, topic)
    for qos in (0, 1):
        mqtt.ends(wire5.publish(mqtt.topic(), b"x", pair, qos=qos), code=0x82)
    mqtt.refused(wire5.connect(mqtt.id("c"), will=(mqtt.topic(), b"", 0, [pair])), code=0x82)


@pytest.mark.parametrize("way", WAYS)
def test_mqtt_3_3_2_15_the_response_topic_comes_as_it_went(mqtt, way):
    """It need not be one that the client may use."""
    for topic in ("a/b", "/", "$SYS/x", "Grüße/\ufeff"):
        pair = (wire5.RESPONSE_TOPIC, topic)
        assert travel(mqtt, way, pair) == [pair]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("data", [b"", b"\0\xff\x80", bytes(range(256)) * 255])
def test_mqtt_3_3_2_16_the_correlation_data_comes_as_it_went(mqtt, way, data):
    pair = (wire5.CORRELATION, data)
    assert travel(mqtt, way, pair) == [pair]


@pytest.mark.parametrize("way", WAYS)
def test_mqtt_3_3_2_17_user_properties_come_as_they_went(mqtt, way):
    user = [(wire5.USER, pair) for pair in (("n", "v"), ("", ""), ("é", "\ufeff"), ("a" * 1000, "b"))]
    assert travel(mqtt, way, *user) == user


@pytest.mark.parametrize("way", WAYS)
def test_mqtt_3_3_2_18_user_properties_keep_their_order(mqtt, way):
    """And their number, when one is there more than once."""
    user = [(wire5.USER, pair) for pair in (("b", "1"), ("a", "2"), ("b", "0"), ("b", "1"), ("a", ""))]
    assert travel(mqtt, way, *user) == user
    # Others between them change nothing.
    between = [user[0], (wire5.CONTENT_TYPE, "t"), *user[1:3], (wire5.CORRELATION, b"c"), *user[3:]]
    assert [pair for pair in travel(mqtt, way, *between) if pair[0] == wire5.USER] == user


@pytest.mark.parametrize("bad", [b"\xff", b"a\0"])
def test_mqtt_3_3_2_19_a_content_type_that_is_no_string_closes(mqtt, bad):
    mqtt.ends(wire5.publish(mqtt.topic(), b"x", (wire5.CONTENT_TYPE, bad)), code=0x81)


@pytest.mark.parametrize("way", WAYS)
def test_mqtt_3_3_2_20_the_content_type_comes_as_it_went(mqtt, way):
    for text in ("application/json; charset=utf-8", "", "\ufeffé"):
        pair = (wire5.CONTENT_TYPE, text)
        assert travel(mqtt, way, pair) == [pair]


test_mqtt_3_3_4_1_qos_0_is_not_answered_qos_1_with_puback = (
    publishing.qos_0_is_not_answered_qos_1_with_puback
)
test_mqtt_3_3_4_1_qos_2_is_answered_with_pubrec = publishing.qos_2_is_answered_with_pubrec


@pytest.mark.parametrize("granted", [
    (1, 0), (0, 1), (0, 2, 1), (2, 1, 0),
])
def test_mqtt_3_3_4_2_overlapping_subscriptions_deliver_with_the_highest_qos(mqtt, granted):
    end = mqtt.topic("end")
    filters = zip((mqtt.topic("+"), mqtt.topic("#"), mqtt.topic()), granted)
    sub, pub = mqtt.subscriber(*filters), mqtt.client()
    pub.publish(mqtt.topic(), b"x", qos=2 if 2 in granted else 1)
    pub.publish(end)
    got = [message for message in sub.until(end) if message.topic == mqtt.topic()]
    assert max(message.qos for message in got) == max(granted)
    # One copy, or one for each subscription.
    assert len(got) in (1, len(granted))


def overlapping(mqtt, **how):
    """What comes of one message through three subscriptions, two of them with an identifier."""
    end = mqtt.topic("a/end")
    sub, pub = mqtt.client("s"), mqtt.client()
    for name, identifier in (("#", 1), ("a/+", 268_435_455), ("a/b", None)):
        pairs = [(wire5.SUBSCRIPTION_ID, identifier)] if identifier else []
        sub.subscribe((mqtt.topic(name), 1), pairs=pairs)
    pub.publish(mqtt.topic("a/b"), b"x", **how)
    pub.publish(end)
    got = sub.until(end)
    return [sorted(message.all(wire5.SUBSCRIPTION_ID)) for message in got if message.payload == b"x"]


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_mqtt_3_3_4_3_overlapping_subscriptions_all_give_their_identifier(mqtt, qos):
    assert sorted(sum(overlapping(mqtt, qos=qos), [])) == [1, 268_435_455]


def test_mqtt_3_3_4_3_the_identifier_is_the_last_that_was_given(mqtt):
    """Each SUBSCRIBE brings its own, or takes it away; UNSUBSCRIBE ends it."""
    client = mqtt.client()
    for identifier in (5, 6, None, 7):
        pairs = [(wire5.SUBSCRIPTION_ID, identifier)] if identifier else []
        client.subscribe((mqtt.topic(), 0), pairs=pairs)
        client.publish(mqtt.topic(), qos=0)
        assert client.take().properties == pairs
    client.unsubscribe(mqtt.topic())
    client.subscribe((mqtt.topic(), 0))
    client.publish(mqtt.topic(), qos=0)
    assert client.take().properties == []


def test_mqtt_3_3_4_3_a_retained_message_comes_with_the_identifier(mqtt):
    mqtt.client().publish(mqtt.topic(), b"kept", retain=True)
    client = mqtt.client()
    client.subscribe((mqtt.topic(), 1), pairs=[(wire5.SUBSCRIPTION_ID, 9)])
    assert client.take().all(wire5.SUBSCRIPTION_ID) == [9]


def test_mqtt_3_3_4_3_a_queued_message_comes_with_the_identifier(mqtt):
    client = mqtt.client("s", mqtt.STAYS)
    client.subscribe((mqtt.topic(), 1), pairs=[(wire5.SUBSCRIPTION_ID, 9)])
    client.leave()
    mqtt.client().publish(mqtt.topic(), b"queued")
    assert mqtt.back("s").take().all(wire5.SUBSCRIPTION_ID) == [9]


@not_mosquitto("sends a copy for each subscription")
def test_mqtt_3_3_4_4_a_single_copy_has_all_identifiers(mqtt):
    assert overlapping(mqtt) == [[1, 268_435_455]]


def test_mqtt_3_3_4_5_a_copy_for_each_subscription_has_its_identifier(mqtt):
    """Our daemon sends a single copy (3.3.4-4); a server that sends more has to do this."""
    got = overlapping(mqtt)
    assert len(got) == 1 or sorted(got) == [[], [1], [268_435_455]]


@not_mosquitto("takes it")
@pytest.mark.parametrize("qos", [0, 1])
def test_mqtt_3_3_4_6_a_publish_with_a_subscription_identifier_closes(mqtt, qos):
    data = wire5.publish(mqtt.topic(), b"x", (wire5.SUBSCRIPTION_ID, 1), qos=qos)
    mqtt.ends(data, code=0x82)


@not_mosquitto("says it in PUBREC")
def test_mqtt_3_3_4_7_more_than_the_servers_receive_maximum_closes(mqtt):
    """As many are taken; QoS 2 without a PUBREL stays unfinished."""
    client = mqtt.client()
    maximum = client.connect_answer.one(wire5.RECEIVE_MAXIMUM)
    data = [
        wire5.publish(mqtt.topic(), b"", qos=2, packet_id=n) for n in range(1, maximum + 2)
    ]
    client.send(*data[:maximum])
    for n in range(1, maximum + 1):
        assert client.expect(wire.PUBREC).packet_id == n
    client.ping()
    client.send(data[maximum])
    client.thrown_out(0x93)


@not_mosquitto("says it in PUBREC")
def test_mqtt_3_3_4_7_who_answers_all_that_came_before_is_told_all_the_same(mqtt):
    """The server does not reset the connection before it has been heard."""
    client = mqtt.client()
    maximum = client.connect_answer.one(wire5.RECEIVE_MAXIMUM)
    for n in range(1, maximum + 2):
        client.send(wire5.publish(mqtt.topic(), b"", qos=2, packet_id=n))
    said = client.receive()
    while said.kind == wire.PUBREC:
        # In WebSocket frames both ends may have said goodbye while there is still something to read.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            client.send(wire.pubrel(said.packet_id))
        said = client.receive()
    assert (said.kind, said.code) == (wire.DISCONNECT, 0x93)


def window(mqtt, qos, maximum):
    """A client that takes `maximum` messages at once, for which there are two more; the first."""
    client = mqtt.subscriber((mqtt.topic(), qos), pairs=[(wire5.RECEIVE_MAXIMUM, maximum)])
    publisher = mqtt.client()
    for n in range(maximum + 2):
        publisher.publish(mqtt.topic(), b"%d" % n, qos=qos)
    got = [client.expect(wire.PUBLISH) for _ in range(maximum)]
    # Nothing but the answer comes.
    client.is_quiet()
    return client, got[0].packet_id


@pytest.mark.parametrize("maximum", [
    1, *(pytest.param(n, marks=not_mosquitto("sends one too many")) for n in (2, 10)),
])
def test_mqtt_3_3_4_9_no_more_in_flight_than_the_receive_maximum(mqtt, maximum):
    client, first = window(mqtt, 1, maximum)
    client.send(wire.puback(first))
    assert client.expect(wire.PUBLISH).payload == b"%d" % maximum
    client.is_quiet()


def test_mqtt_3_3_4_9_a_message_of_qos_2_is_in_flight_until_its_pubcomp(mqtt):
    client, first = window(mqtt, 2, 2)
    client.send(wire.pubrec(first), wire.pingreq())
    assert [client.receive().kind for _ in range(2)] == [wire.PUBREL, wire.PINGRESP]
    client.send(wire.pubcomp(first))
    assert client.expect(wire.PUBLISH).payload == b"2"


def test_mqtt_3_3_4_9_a_message_of_qos_2_that_is_refused_is_in_flight_no_more(mqtt):
    client, first = window(mqtt, 2, 2)
    client.send(wire5.ack(wire.PUBREC, first, 0x97))
    assert client.expect(wire.PUBLISH).payload == b"2"


@not_mosquitto("looks at new messages only")
def test_mqtt_3_3_4_9_the_maximum_holds_for_a_session_that_comes_back(mqtt):
    """Its new one, which may be smaller than what was in flight."""
    sub = mqtt.subscriber((mqtt.topic(), 1), name="s", pairs=[mqtt.STAYS])
    publisher = mqtt.client()
    for n in range(4):
        publisher.publish(mqtt.topic(), b"%d" % n)
        sub.expect(wire.PUBLISH)
    sub.close()
    sub = mqtt.back("s", mqtt.STAYS, (wire5.RECEIVE_MAXIMUM, 2))
    for n in range(4):
        got = sub.expect(wire.PUBLISH)
        assert got.payload == b"%d" % n
        if n > 0:
            sub.is_quiet()
            sub.send(wire.puback(first))
        first = got.packet_id


def test_mqtt_3_3_4_10_a_full_window_holds_nothing_else_back(mqtt):
    client = mqtt.subscriber((mqtt.topic(), 1), pairs=[(wire5.RECEIVE_MAXIMUM, 1)])
    publisher = mqtt.client()
    for _ in range(2):
        publisher.publish(mqtt.topic())
    client.expect(wire.PUBLISH)
    assert client.subscribe((mqtt.topic("b"), 0)) == [0]
    publisher.publish(mqtt.topic("b"), b"QoS 0", qos=0)
    assert client.expect(wire.PUBLISH).payload == b"QoS 0"
    assert client.publish(mqtt.topic("c"), b"", qos=1) == 0x10
    assert client.unsubscribe(mqtt.topic("b")) == [0]
    client.ping()


def test_mqtt_4_13_1_1_a_malformed_packet_ends_the_connection_with_its_reason(mqtt):
    mqtt.ends(b"\x82\0", code=0x81)
