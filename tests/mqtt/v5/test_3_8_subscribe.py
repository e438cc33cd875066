"""3.8 and 3.9: SUBSCRIBE, SUBACK, and what a subscription is."""

import pytest
from both import subscriptions
from conformance import wire, wire5
from conformance.marks import not_mosquitto

MALFORMED, PROTOCOL_ERROR = 0x81, 0x82
NO_LOCAL, AS_PUBLISHED, IF_NEW, NEVER = 4, 8, 0x10, 0x20


def raw_subscribe(body):
    return wire.packet(wire.SUBSCRIBE, 2, wire.two(1) + b"\0" + body)


def marked(mqtt, client, topic):
    """Nothing came before what somebody else publishes now."""
    wire5.client(mqtt, "marker").send(wire5.publish(topic, b"marker"))
    return client.take().payload == b"marker"


test_mqtt_3_8_1_1_other_flags_in_subscribe_close = subscriptions.other_flags_in_subscribe_close


FILTERS = {
    "not-utf-8": wire.text(b"\xff/a") + b"\0",
    "surrogate": wire.text(b"a/\xed\xa0\x80") + b"\0",
    "longer-than-the-packet": b"\0\x0aabc\0",
    "half-a-length": b"\0",
    "second-without-options": wire.text("a") + b"\0" + wire.text("b"),
}


@pytest.mark.parametrize("name", FILTERS)
def test_mqtt_3_8_3_1_a_filter_that_is_no_string_closes(mqtt, name):
    mqtt.ends(raw_subscribe(FILTERS[name]), code=MALFORMED)


test_mqtt_3_8_3_2_a_subscribe_without_a_filter_closes = subscriptions.a_subscribe_without_a_filter_closes


def test_mqtt_3_8_3_3_no_local_brings_nothing_back(mqtt):
    client = wire5.client(mqtt, "s")
    client.subscribe((mqtt.topic(), NO_LOCAL))
    client.send(wire5.publish(mqtt.topic(), b"own"))
    assert marked(mqtt, client, mqtt.topic())


@pytest.mark.parametrize("qos", [0, 1])
def test_mqtt_3_8_3_3_no_local_looks_at_the_client_id(mqtt, qos):
    """Of a session too that was away, and not at the message's other takers."""
    end = mqtt.topic("end")
    sub = mqtt.subscriber((mqtt.topic(), qos | NO_LOCAL), (end, 0), name="s", pairs=[mqtt.STAYS])
    other = mqtt.subscriber((mqtt.topic(), 0))
    sub.publish(mqtt.topic(), b"own", qos=qos)
    assert other.take().payload == b"own"
    sub.leave()
    sub = mqtt.back("s")
    sub.publish(mqtt.topic(), b"own", qos=qos)
    other.publish(mqtt.topic(), b"other", qos=qos)
    other.publish(end)
    assert [m.payload for m in sub.until(end)] == [b"other"]


@not_mosquitto("waits for more")
def test_mqtt_3_8_3_4_no_local_with_a_shared_subscription_closes(mqtt):
    shared = f"$share/g/{mqtt.topic()}"
    mqtt.ends(wire5.subscribe([(shared, NO_LOCAL)]), code=PROTOCOL_ERROR)
    mqtt.ends(wire5.subscribe([(mqtt.topic(), 0), (shared, 1 | NO_LOCAL)]), code=PROTOCOL_ERROR)


@pytest.mark.parametrize("options", [0x40, 0x80, 0xC0, 0x41, 0xFC])
def test_mqtt_3_8_3_5_reserved_option_bits_close(mqtt, options):
    mqtt.ends(wire5.subscribe([(mqtt.topic(), options)]), code=MALFORMED)
    mqtt.ends(wire5.subscribe([(mqtt.topic(), 0), (mqtt.topic("b"), options)]), code=MALFORMED)


@pytest.mark.parametrize("options", [3, 3 | AS_PUBLISHED, 0x30, 0x31])
def test_mqtt_3_8_3_5_options_that_mean_nothing_close(mqtt, options):
    """QoS 3, Retain Handling 3 (3.8.3.1)."""
    mqtt.ends(wire5.subscribe([(mqtt.topic(), options)]), code=PROTOCOL_ERROR)


PROPERTIES = {
    "identifier-0": (PROTOCOL_ERROR, [(wire5.SUBSCRIPTION_ID, 0)]),
    "identifier-twice": (PROTOCOL_ERROR, [(wire5.SUBSCRIPTION_ID, 1), (wire5.SUBSCRIPTION_ID, 2)]),
    "alias": (MALFORMED, [(wire5.ALIAS, 1)]),
    "reason-string": (MALFORMED, [(wire5.REASON_STRING, "no")]),
}


@pytest.mark.parametrize("name", PROPERTIES)
def test_mqtt_3_8_3_5_properties_that_may_not_be_there_close(mqtt, name):
    """2.2.2.2, 3.8.2.1"""
    code, pairs = PROPERTIES[name]
    mqtt.ends(wire5.subscribe([(mqtt.topic(), 0)], *pairs), code=code)


def test_mqtt_3_8_4_1_every_subscribe_is_answered(mqtt):
    client = mqtt.client()
    client.send(*(
        wire5.subscribe([(mqtt.topic(f"{n}"), n % 2)], (wire5.USER, ("a", "b")), packet_id=n + 1)
        for n in range(20)
    ))
    answers = [client.expect(wire.SUBACK) for _ in range(20)]
    assert sorted(answer.packet_id for answer in answers) == list(range(1, 21))


test_mqtt_3_8_4_2_suback_has_the_packet_id_of_subscribe = (
    subscriptions.suback_has_the_packet_id_of_subscribe
)
test_mqtt_3_8_4_3_the_same_filter_again_replaces_the_qos = (
    subscriptions.the_same_filter_again_replaces_the_qos
)


@not_mosquitto("keeps the old options")
@pytest.mark.parametrize("first", [False, True], ids=["off-then-on", "on-then-off"])
def test_mqtt_3_8_4_3_the_same_filter_again_replaces_the_options(mqtt, first):
    sub = mqtt.client()
    for on in (first, not first):
        assert sub.subscribe((mqtt.topic(), (NO_LOCAL | AS_PUBLISHED) * on)) == [0]
        sub.publish(mqtt.topic(), b"own", qos=0)
        sub.ping()
        mqtt.client().publish(mqtt.topic(), b"other", qos=0, retain=True)
        got = [] if on else [sub.take()]
        got.append(sub.take())
        assert [m.payload for m in got] == ([] if on else [b"own"]) + [b"other"]
        assert got[-1].retain == on
        mqtt.client().publish(mqtt.topic(), b"", qos=0, retain=True)
        assert sub.take().payload == b""


def test_mqtt_3_8_4_3_the_same_filter_again_replaces_the_identifier(mqtt):
    sub, pub = mqtt.client(), mqtt.client()
    for pairs, ids in (([], []), ([(wire5.SUBSCRIPTION_ID, 5)], [5]), ([], [])):
        sub.subscribe((mqtt.topic(), 1), pairs=pairs)
        pub.publish(mqtt.topic())
        assert sub.take().all(wire5.SUBSCRIPTION_ID) == ids


test_mqtt_3_8_4_4_retain_handling_0_sends_the_retained_messages_again = (
    subscriptions.the_same_filter_again_brings_the_retained_messages_again
)


def test_mqtt_3_8_4_4_no_message_is_lost_to_a_replacement(mqtt):
    options = [1, 1 | IF_NEW, 1 | NEVER, 1 | AS_PUBLISHED]
    subscriptions.no_message_is_lost_to_a_replacement(mqtt, options)


def test_mqtt_3_8_4_5_several_filters_are_like_several_subscribes(mqtt):
    """The identifier is that of each of them."""
    identifier = (wire5.SUBSCRIPTION_ID, 9)
    got = subscriptions.several_filters_are_like_several_subscribes(mqtt, identifier)
    assert {id for message in got for id in message.all(wire5.SUBSCRIPTION_ID)} == {9}


test_mqtt_3_8_4_6_each_filter_has_a_code = subscriptions.each_filter_has_a_code


@not_mosquitto("an acl_file does not look at subscriptions")
def test_mqtt_3_8_4_7_a_code_is_the_granted_qos_or_a_failure(mqtt):
    """What is refused brings nothing, what is granted brings no more than that."""
    client = mqtt.client(port=mqtt.broker.guarded_port)
    assert client.subscribe(("forbidden/a", 1), (mqtt.topic(), 0)) == [0x87, 0]
    pub = mqtt.client()
    pub.publish("forbidden/a", b"x")
    pub.publish(mqtt.topic(), b"y")
    got = client.take()
    assert (got.payload, got.qos) == (b"y", 0)


test_mqtt_3_8_4_8_the_qos_of_a_delivery_is_the_lower_one = (
    subscriptions.the_qos_of_a_delivery_is_the_lower_one
)


def subacks(mqtt, filter, port):
    """SUBACK of a client without a limit, and of one with room for its CONNACK and no more."""
    long = mqtt.client(port=port)
    size = long.connect_answer.size
    short = mqtt.client(None, (wire5.MAXIMUM_PACKET, size), port=port)
    for client in (long, short):
        client.send(wire5.subscribe([(filter, 0)]))
    return long.expect(wire.SUBACK), short.expect(wire.SUBACK), size


@not_mosquitto("sends no reason strings")
def test_mqtt_3_9_2_1_suback_leaves_out_the_reason_that_does_not_fit(mqtt):
    long, short, size = subacks(mqtt, "forbidden/" + "x" * 50, mqtt.broker.guarded_port)
    assert long.codes == short.codes == [0x87]
    assert long.one(wire5.REASON_STRING) and long.size > size
    assert short.all(wire5.REASON_STRING) == [] and short.size <= size


def test_mqtt_3_9_2_2_suback_fits_into_the_maximum_packet_size(mqtt):
    for filter in (mqtt.topic(), mqtt.topic("x" * 200), "$share/g/" + mqtt.topic("x" * 50)):
        _, short, size = subacks(mqtt, filter, mqtt.broker.port)
        assert short.size <= size and short.all(wire5.USER) == []


@not_mosquitto("an acl_file does not look at subscriptions")
def test_mqtt_3_9_3_1_codes_of_suback_are_in_the_order_of_the_filters(mqtt):
    client = wire5.client(mqtt, "s", port=mqtt.broker.guarded_port)
    filters = [(mqtt.topic(), 0), ("shut/a", 0), ("a/#/b", 0), ("$share/g/shut/a", 0)]
    assert client.subscribe(*filters, (mqtt.topic("b"), 2)) == [0, 0x87, 0x8F, 0x87, 2]


def test_mqtt_3_9_3_2_only_codes_of_the_table_are_used(mqtt):
    """`wire5` reads no others; here are the ways to get many of them."""
    filters = [
        (mqtt.topic(), 0), (mqtt.topic("#"), 1), (mqtt.topic("+"), 2), ("$SYS/#", 0), ("#", 2),
        ("$aws/unknown/a", 1), ("$reserved/a", 0), (f"$share/g/{mqtt.topic()}", 1),
        ("/".join("a" * 130), 1),
    ]
    for port in (mqtt.broker.port, mqtt.broker.guarded_port):
        client = mqtt.client(port=port)
        for filter, asked in filters:
            [code] = client.subscribe((filter, asked))
            assert code >= 0x80 or code <= asked, filter
