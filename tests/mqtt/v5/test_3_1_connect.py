"""3.1: CONNECT, but for the will."""

import time

import pytest
from both import connections
from conformance import wire, wire5
from conformance.marks import not_mosquitto

NOT_CONNECT = {
    "connack": wire.packet(wire.CONNACK, 0, b"\0\0\0"),
    "publish": wire5.publish("a", b"x"),
    "publish-qos-1": wire5.publish("a", b"x", qos=1),
    "puback": wire.puback(1),
    "pubrec": wire.pubrec(1),
    "pubrel": wire.pubrel(1),
    "pubcomp": wire.pubcomp(1),
    "subscribe": wire5.subscribe([("a", 0)]),
    "unsubscribe": wire5.unsubscribe(["a"]),
    "pingreq": wire.pingreq(),
    "disconnect": wire5.disconnect(),
    "auth": wire5.auth(0x18, (wire5.AUTH_METHOD, "m")),
}


@pytest.mark.parametrize("name", NOT_CONNECT)
def test_mqtt_3_1_0_1_first_packet_must_be_connect(mqtt, name):
    client = mqtt.open()
    client.send(NOT_CONNECT[name], wire5.connect(mqtt.id("late")))
    client.thrown_out(None)


test_mqtt_3_1_0_2_a_second_connect_closes = connections.a_second_connect_closes


@pytest.mark.parametrize("name", ["MQTX", "mqtt", "MQTT ", "MQ", ""])
def test_mqtt_3_1_2_1_a_wrong_protocol_name_is_not_taken_for_mqtt(mqtt, name):
    client = mqtt.open()
    client.send(wire5.connect(mqtt.id("c"), name=name))
    assert {(said.kind, said.code) for said in client.closed()} <= {(wire.CONNACK, 0x84)}


@pytest.mark.parametrize("level", [0, 2, 6, 127])
def test_mqtt_3_1_2_2_an_unknown_version_is_refused(mqtt, level):
    """In the words of a version that the client may understand, or in none."""
    client = mqtt.open()
    client.send(wire5.connect(mqtt.id("c"), level=level), wire.pingreq())
    said = client.closed()
    assert {answer.kind for answer in said} <= {wire.CONNACK}
    assert {answer.code for answer in said} <= {1, 0x84}


test_mqtt_3_1_2_3_the_reserved_connect_flag_closes = connections.the_reserved_connect_flag_closes
test_mqtt_3_1_2_4_clean_start_discards_the_session_before = (
    connections.a_clean_beginning_discards_the_session_before
)


def test_mqtt_3_1_2_4_clean_start_discards_a_session_that_is_connected(mqtt):
    end = mqtt.topic("end")
    old = mqtt.subscriber((mqtt.topic(), 1), name="s", pairs=[mqtt.STAYS])
    pub = mqtt.client()
    pub.publish(mqtt.topic(), b"unacknowledged")
    old.expect(wire.PUBLISH)
    client = mqtt.client("s", mqtt.STAYS)
    assert not client.session_present
    client.subscribe((end, 1))
    pub.publish(mqtt.topic(), b"not subscribed any more")
    pub.publish(end)
    assert client.until(end) == []


def test_mqtt_3_1_2_5_without_clean_start_the_session_goes_on(mqtt):
    mqtt.away("s", (mqtt.topic(), 1))
    pub = mqtt.client()
    pub.publish(mqtt.topic(), b"queued")
    client = mqtt.back("s")
    pub.publish(mqtt.topic(), b"still subscribed")
    assert [client.take().payload for _ in range(2)] == [b"queued", b"still subscribed"]


def test_mqtt_3_1_2_5_a_session_goes_on_with_all_of_a_subscription(mqtt):
    """Its identifier, No Local and Retain As Published."""
    client = mqtt.client("s", mqtt.STAYS)
    identifier = (wire5.SUBSCRIPTION_ID, 77)
    assert client.subscribe((mqtt.topic(), 1 | 4 | 8), pairs=[identifier]) == [1]
    client.leave()
    client = mqtt.back("s")
    client.publish(mqtt.topic(), b"own")
    mqtt.client().publish(mqtt.topic(), b"of another", retain=True)
    got = client.take()
    assert (got.payload, got.retain, got.properties) == (b"of another", True, [identifier])


def test_mqtt_3_1_2_5_a_session_may_be_taken_on_by_another_version(mqtt):
    mqtt.away("s", (mqtt.topic(), 1))
    pub = mqtt.client()
    pub.publish(mqtt.topic(), b"x", (wire5.CONTENT_TYPE, "text/plain"))
    old = wire.Client(mqtt.broker.port)
    old.connect(mqtt.id("s"), clean=False)
    assert old.session_present and old.take().payload == b"x"
    old.leave()
    pub.publish(mqtt.topic(), b"y", (wire5.CONTENT_TYPE, "text/plain"))
    got = mqtt.back("s").take()
    assert (got.payload, got.one(wire5.CONTENT_TYPE)) == (b"y", "text/plain")


def test_mqtt_3_1_2_6_without_clean_start_and_session_there_is_a_new_one(mqtt):
    client = mqtt.client("s", mqtt.STAYS, clean=False)
    assert not client.session_present
    client.subscribe((mqtt.topic(), 1))
    client.leave()
    mqtt.client().publish(mqtt.topic(), b"kept for it")
    assert mqtt.back("s").take().payload == b"kept for it"


test_mqtt_3_1_2_16_a_user_name_without_its_flag_closes = connections.a_user_name_without_its_flag_closes
test_mqtt_3_1_2_17_the_user_name_flag_without_a_user_name_closes = (
    connections.the_user_name_flag_without_a_user_name_closes
)


def test_mqtt_3_1_2_18_a_password_without_its_flag_closes(mqtt):
    data = wire5.connect(mqtt.id("c"), user="u", password="p", clear_flags=0x40)
    mqtt.refused(data, code=0x81)


def test_mqtt_3_1_2_19_the_password_flag_without_a_password_closes(mqtt):
    mqtt.refused(wire5.connect(mqtt.id("c"), user="u", set_flags=0x40), code=0x81)
    mqtt.refused(wire5.connect(mqtt.id("c"), set_flags=0x40), code=0x81)


def test_mqtt_3_1_2_19_a_password_needs_no_user_name(mqtt):
    """Other than in 3.1.1. Its bytes are no string."""
    mqtt.client(password=b"\xff\0").ping()


def test_mqtt_3_1_2_20_a_client_that_says_anything_in_time_stays(mqtt):
    client = mqtt.client(keep_alive=1)
    for say in (client.ping, lambda: client.publish(mqtt.topic()), client.ping):
        with pytest.raises(TimeoutError):
            client.receive(0.8)
        say()


@not_mosquitto("looks at keep alives every five seconds only")
def test_mqtt_3_1_2_22_one_and_a_half_keep_alives_of_silence_close(mqtt):
    sub = mqtt.subscriber((mqtt.topic("will"), 0))
    client = mqtt.client(keep_alive=1, will=(mqtt.topic("will"), b"silent", 0, ()))
    start = time.monotonic()
    client.thrown_out(0x8D)
    assert 1.0 < time.monotonic() - start < 4.0
    # As if the network had failed.
    assert sub.take().payload == b"silent"


def test_mqtt_3_1_2_22_without_a_keep_alive_a_client_may_be_silent(mqtt):
    client = mqtt.client(keep_alive=0)
    with pytest.raises(TimeoutError):
        client.receive(2.5)
    client.ping()


def test_mqtt_3_1_2_23_a_session_with_an_expiry_is_kept(mqtt):
    mqtt.away("s", (mqtt.topic(), 1))
    mqtt.client().publish(mqtt.topic(), b"kept")
    client = mqtt.back("s")
    assert client.take().payload == b"kept"
    # Taken back by DISCONNECT.
    client.leave(0, (wire5.SESSION_EXPIRY, 0))
    assert not mqtt.client("s", clean=False).session_present


@pytest.mark.parametrize("how", ["disconnect", "disconnect-with-will", "broken", "taken-over"])
def test_mqtt_3_1_2_23_however_the_connection_ends(mqtt, how):
    client = mqtt.subscriber((mqtt.topic(), 1), name="s", pairs=[mqtt.STAYS])
    if how == "broken":
        client.close()
    elif how != "taken-over":
        client.leave(4 if how == "disconnect-with-will" else 0)
    client = mqtt.back("s")
    mqtt.client().publish(mqtt.topic(), b"kept")
    assert client.take().payload == b"kept"


@pytest.mark.parametrize("seconds", [None, 0])
def test_mqtt_3_1_2_23_without_an_expiry_the_session_ends_with_the_connection(mqtt, seconds):
    """Clean start or not."""
    pairs = [] if seconds is None else [(wire5.SESSION_EXPIRY, seconds)]
    for clean in (True, False):
        mqtt.subscriber((mqtt.topic(), 1), name="s", clean=clean, pairs=pairs).leave()
        client = mqtt.client("s", mqtt.STAYS, clean=False)
        assert not client.session_present
        client.leave(0, (wire5.SESSION_EXPIRY, 0))


def test_mqtt_3_1_2_23_a_session_is_over_when_its_time_is(mqtt):
    """A later CONNECT may give it another; the last one counts."""
    second, hour = (wire5.SESSION_EXPIRY, 1), mqtt.STAYS
    for name, pairs in (("shorter", (hour, second)), ("longer", (second, hour))):
        for expiry in pairs:
            client = mqtt.client(name, expiry, clean=False)
        client.leave()
    # DISCONNECT may, too.
    mqtt.client("later", second).leave(0, hour)
    mqtt.client("sooner", hour).leave(0, second)
    with pytest.raises(TimeoutError):
        mqtt.client().receive(2.5)
    present = {
        name: mqtt.client(name, clean=False).session_present
        for name in ("shorter", "longer", "later", "sooner")
    }
    assert present == {"shorter": False, "longer": True, "later": True, "sooner": False}


@not_mosquitto("does not count the first byte")
def test_mqtt_3_1_2_24_nothing_larger_than_the_maximum_packet_size(mqtt):
    """To the byte, of each QoS, live and retained."""
    publisher = mqtt.client()
    exact = b"x" * (60 - 2 - 2 - len(mqtt.topic()) - 1)
    publisher.publish(mqtt.topic(), exact + b"x", retain=True)
    client = mqtt.client("s", (wire5.MAXIMUM_PACKET, 60))
    client.subscribe((mqtt.topic(), 0))
    publisher.publish(mqtt.topic(), exact + b"x")
    publisher.publish(mqtt.topic(), exact)
    got = client.take()
    assert (got.payload, got.size) == (exact, 60)
    client.subscribe((mqtt.topic(), 1 | 0x20))
    publisher.publish(mqtt.topic(), exact[1:])
    publisher.publish(mqtt.topic(), exact[2:])
    got = client.take()
    assert (got.payload, got.size) == (exact[2:], 60)


def test_mqtt_3_1_2_24_properties_count_as_well(mqtt):
    client = mqtt.client("s", (wire5.MAXIMUM_PACKET, 60))
    client.subscribe((mqtt.topic(), 0))
    publisher = mqtt.client()
    publisher.publish(mqtt.topic(), b"", (wire5.CONTENT_TYPE, "x" * 60))
    publisher.publish(mqtt.topic(), b"", (wire5.CONTENT_TYPE, "x"))
    assert client.take().one(wire5.CONTENT_TYPE) == "x"


@not_mosquitto("keeps its place")
def test_mqtt_3_1_2_25_a_message_that_is_too_large_is_done_with(mqtt):
    """It takes no place among the unacknowledged, and does not come when it would fit."""
    client = mqtt.client("s", (wire5.MAXIMUM_PACKET, 60), (wire5.RECEIVE_MAXIMUM, 1), mqtt.STAYS)
    client.subscribe((mqtt.topic(), 1))
    client.leave()
    publisher = mqtt.client()
    for payload in (b"x" * 60, b"small", b"x" * 61, b"x" * 62, b"smaller"):
        publisher.publish(mqtt.topic(), payload)
    client = mqtt.back("s", (wire5.MAXIMUM_PACKET, 60), (wire5.RECEIVE_MAXIMUM, 1), mqtt.STAYS)
    assert [client.take().payload for _ in range(2)] == [b"small", b"smaller"]
    client.leave()
    publisher.publish(mqtt.topic(), b"end")
    assert mqtt.back("s").take().payload == b"end"


@not_mosquitto("keeps its place")
def test_mqtt_3_1_2_25_a_message_of_qos_2_that_is_too_large_is_done_with(mqtt):
    client = mqtt.client("s", (wire5.MAXIMUM_PACKET, 60), (wire5.RECEIVE_MAXIMUM, 1))
    client.subscribe((mqtt.topic(), 2))
    publisher = mqtt.client()
    for payload in (b"x" * 60, b"small"):
        publisher.publish(mqtt.topic(), payload, qos=2)
    got = client.take()
    assert (got.payload, got.qos) == (b"small", 2)


@not_mosquitto("gives no aliases")
def test_mqtt_3_1_2_26_no_alias_above_the_clients_maximum(mqtt):
    client = wire5.client(mqtt, "s", (wire5.ALIAS_MAXIMUM, 2))
    client.subscribe((mqtt.topic("#"), 0))
    topics = [mqtt.topic(name) for name in "abc"]
    for topic in topics:
        client.send(wire5.publish(topic))
    aliases = [client.take().all(wire5.ALIAS) for _ in topics]
    assert aliases == [[1], [2], []]


def test_mqtt_3_1_2_27_no_alias_for_a_client_that_takes_none(mqtt):
    for pairs in ([], [(wire5.ALIAS_MAXIMUM, 0)]):
        client = mqtt.subscriber((mqtt.topic(), 0), pairs=pairs)
        for _ in range(2):
            client.publish(mqtt.topic(), qos=0)
            got = client.take()
            assert got.topic == mqtt.topic() and got.all(wire5.ALIAS) == []


def test_mqtt_3_1_2_28_response_information_only_for_who_asks(mqtt):
    for pairs in ([], [(wire5.REQUEST_RESPONSE, 0)]):
        assert mqtt.client("c", *pairs).connect_answer.all(wire5.RESPONSE_INFORMATION) == []
    # One who asks may get some, or none.
    mqtt.client("c", (wire5.REQUEST_RESPONSE, 1))


@not_mosquitto("closes for a filter that is none")
def test_mqtt_3_1_2_29_no_problem_information_for_who_wants_none(mqtt):
    """Only PUBLISH, CONNACK and DISCONNECT have it all the same."""
    client = mqtt.client("c", (wire5.REQUEST_PROBLEM, 0), port=mqtt.broker.guarded_port)
    client.send(
        wire5.publish("shut", b"x", qos=1), wire5.subscribe([("shut/a", 0), ("a/#/b", 0)]),
        wire5.unsubscribe(["a/#/b"]), wire.pubrel(9), wire.pubrec(9), wire.pingreq(),
    )
    answers = [client.receive() for _ in range(5)]
    while answers[-1].kind != wire.PINGRESP:
        answers.append(client.receive())
    kinds = {wire.PUBACK, wire.SUBACK, wire.UNSUBACK, wire.PUBCOMP, wire.PINGRESP}
    assert kinds <= {answer.kind for answer in answers}
    assert [list(answer.properties) for answer in answers] == [[] for _ in answers]


def test_mqtt_3_1_2_30_nothing_sent_during_authentication_is_done(mqtt):
    end = mqtt.topic("end")
    sub = mqtt.subscriber((mqtt.topic("+"), 1))
    method = (wire5.AUTH_METHOD, "SCRAM-SHA-1")
    mqtt.refused(
        wire5.connect(mqtt.id("c"), method), wire5.publish(mqtt.topic(), b"x", qos=1),
        wire5.auth(0x18, method), wire.pingreq(), code=0x8C,
    )
    mqtt.client().publish(end)
    assert sub.until(end) == []


def test_mqtt_3_1_3_1_all_fields_of_the_payload_in_their_order(mqtt):
    topic = mqtt.topic("will")
    sub = mqtt.subscriber((topic, 1))
    will = (topic, b"the will", 1, [(wire5.CONTENT_TYPE, "text/plain")])
    client = mqtt.client(will=will, user="user", password="word")
    client.ping()
    client.close()
    got = sub.take()
    assert (got.topic, got.payload, got.one(wire5.CONTENT_TYPE)) == (topic, b"the will", "text/plain")


test_mqtt_3_1_3_2_the_session_is_found_by_the_client_id = (
    connections.the_session_is_found_by_the_client_id
)
test_mqtt_3_1_3_3_a_connect_without_client_id_closes = connections.a_connect_without_client_id_closes
test_mqtt_3_1_3_4_a_client_id_that_is_not_utf_8_closes = connections.a_client_id_that_is_not_utf_8_closes


@connections.CLIENT_IDS
def test_mqtt_3_1_3_5_ids_of_letters_and_digits_are_taken(mqtt, client_id):
    answer = mqtt.open().connect(client_id)
    assert answer.all(wire5.ASSIGNED_ID) == []


@pytest.mark.parametrize("clean", [True, False])
def test_mqtt_3_1_3_6_clients_without_id_get_one_each(mqtt, clean):
    connections.clients_without_id_get_one_each(mqtt, clean)


def test_mqtt_3_1_3_7_an_assigned_client_id_is_told(mqtt):
    _, answer = wire5.hello(mqtt, "")
    assert answer.one(wire5.ASSIGNED_ID)


def test_mqtt_3_1_3_7_an_assigned_client_id_is_the_clients_from_then_on(mqtt):
    client = mqtt.open()
    name = client.connect("", mqtt.STAYS).one(wire5.ASSIGNED_ID)
    client.subscribe((mqtt.topic(), 1))
    client.leave()
    mqtt.client().publish(mqtt.topic(), b"kept")
    client = mqtt.open()
    answer = client.connect(name, clean=False)
    assert answer.session_present and answer.all(wire5.ASSIGNED_ID) == []
    assert client.take().payload == b"kept"


def test_mqtt_3_1_3_8_a_client_id_that_is_refused_gets_its_reason(mqtt):
    for clean in (True, False):
        client = mqtt.open(mqtt.broker.narrow_port)
        client.send(wire5.connect(mqtt.broker.refused_id, clean=clean), wire.pingreq())
        client.thrown_out(0x85, wire.CONNACK)


def test_mqtt_3_1_3_11_a_will_topic_that_is_not_utf_8_closes(mqtt):
    mqtt.refused(wire5.connect(mqtt.id("c"), will=(b"\xff", b"", 0, ())), code=0x81)


def test_mqtt_3_1_3_12_a_user_name_that_is_not_utf_8_closes(mqtt):
    mqtt.refused(wire5.connect(mqtt.id("c"), user=b"\xff"), code=0x81)


HEAD = wire.text("MQTT") + b"\x05\x02" + wire.two(60)
MALFORMED = {
    "no-flags": wire.text("MQTT") + b"\x05",
    "no-keep-alive": wire.text("MQTT") + b"\x05\x02",
    "half-a-keep-alive": wire.text("MQTT") + b"\x05\x02\0",
    "client-id-longer-than-the-packet": HEAD + b"\0\0\x09abc",
    "more-than-the-payload": HEAD + b"\0" + wire.text("abc") + b"\0\0",
    "properties-longer-than-the-packet": HEAD + b"\x7f\x11\0\0",
    "half-a-property": HEAD + b"\3\x11\0\0" + wire.text("abc"),
}
UNKNOWN = {
    "nothing": b"",
    "half-a-name": b"\0\4MQ",
    "no-level": wire.text("MQTT"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_mqtt_3_1_4_1_a_malformed_connect_closes(mqtt, name):
    mqtt.refused(wire.packet(wire.CONNECT, 0, MALFORMED[name]), code=0x81)


@pytest.mark.parametrize("name", UNKNOWN)
def test_mqtt_3_1_4_1_a_connect_that_says_no_version_closes(mqtt, name):
    mqtt.refused(wire.packet(wire.CONNECT, 0, UNKNOWN[name]), code=None)


ONCE = [
    (wire5.SESSION_EXPIRY, 1), (wire5.RECEIVE_MAXIMUM, 1), (wire5.MAXIMUM_PACKET, 1000),
    (wire5.ALIAS_MAXIMUM, 1), (wire5.REQUEST_RESPONSE, 1), (wire5.REQUEST_PROBLEM, 1),
    (wire5.AUTH_METHOD, "m"),
]
ONCE_IN_A_WILL = [
    (wire5.WILL_DELAY, 1), (wire5.PAYLOAD_FORMAT, 1), (wire5.MESSAGE_EXPIRY, 1),
    (wire5.CONTENT_TYPE, "c"), (wire5.RESPONSE_TOPIC, "r"), (wire5.CORRELATION, b"c"),
]
NO_METHOD = "authentication-data-without-a-method"
# 3.1.2.11 and 3.1.3.2, which say so without a number.
BAD_PAIRS = {
    "receive-maximum-0": [(wire5.RECEIVE_MAXIMUM, 0)],
    "maximum-packet-size-0": [(wire5.MAXIMUM_PACKET, 0)],
    "request-response-information-2": [(wire5.REQUEST_RESPONSE, 2)],
    "request-problem-information-2": [(wire5.REQUEST_PROBLEM, 2)],
    NO_METHOD: [(wire5.AUTH_DATA, b"d")],
    **{f"twice-{id:#x}": [(id, value)] * 2 for id, value in ONCE},
}


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=not_mosquitto("takes it") if name == NO_METHOD else ())
    for name in BAD_PAIRS
])
def test_mqtt_3_1_4_1_properties_that_cannot_be_close(mqtt, name):
    mqtt.refused(wire5.connect(mqtt.id("c"), *BAD_PAIRS[name]), code=0x82)


@pytest.mark.parametrize("pair", [(wire5.ALIAS, 1), (wire5.WILL_DELAY, 1), (wire5.REASON_STRING, "")])
def test_mqtt_3_1_4_1_a_property_of_another_packet_closes(mqtt, pair):
    mqtt.refused(wire5.connect(mqtt.id("c"), pair), code=0x81)
    if pair[0] != wire5.WILL_DELAY:
        will = (mqtt.topic(), b"", 0, [pair])
        mqtt.refused(wire5.connect(mqtt.id("c"), will=will), code=0x81)


@pytest.mark.parametrize("pair", ONCE_IN_A_WILL, ids=lambda pair: f"{pair[0]:#x}")
def test_mqtt_3_1_4_1_a_property_of_the_will_twice_closes(mqtt, pair):
    mqtt.refused(wire5.connect(mqtt.id("c"), will=(mqtt.topic(), b"", 0, [pair, pair])), code=0x82)


@not_mosquitto("looks at the right when it is published")
@pytest.mark.parametrize("retain", [False, True])
def test_mqtt_3_1_4_2_a_will_without_right_is_refused(mqtt, retain):
    client = mqtt.open(mqtt.broker.guarded_port)
    will = ("shut/a", b"x", 0, ())
    client.send(wire5.connect(mqtt.id("c"), will=will, will_retain=retain), wire.pingreq())
    client.thrown_out(0x87, wire.CONNACK)


@pytest.mark.parametrize("stays", [False, True])
def test_mqtt_3_1_4_3_the_older_connection_is_told_that_it_is_taken_over(mqtt, stays):
    pairs = [mqtt.STAYS] if stays else []
    first = mqtt.client("s", *pairs)
    second = mqtt.client("s", *pairs, clean=not stays)
    first.thrown_out(0x8E)
    second.ping()


def test_mqtt_3_1_4_4_a_valid_connect_does_what_clean_start_says(mqtt):
    mqtt.away("s", (mqtt.topic(), 1))
    for clean, present in ((False, True), (True, False), (False, True)):
        client = mqtt.client("s", mqtt.STAYS, clean=clean)
        assert client.session_present == present
        client.leave()


def test_mqtt_3_1_4_5_a_valid_connect_is_answered_with_success(mqtt):
    client = mqtt.open()
    client.send(wire5.connect(mqtt.id("c")))
    answer = client.receive()
    assert (answer.kind, answer.flags, answer.code) == (wire.CONNACK, 0, 0)


REFUSED = {
    "malformed": ({"set_flags": 1}, [], 0x81),
    "protocol-error": ({}, [(wire5.RECEIVE_MAXIMUM, 0)], 0x82),
    "authentication": ({}, [(wire5.AUTH_METHOD, "m")], 0x8C),
}


@pytest.mark.parametrize("name", REFUSED)
def test_mqtt_3_1_4_6_nothing_behind_a_refused_connect_is_done(mqtt, name):
    how, pairs, code = REFUSED[name]
    end = mqtt.topic("end")
    sub = mqtt.subscriber((mqtt.topic("+"), 1))
    mqtt.refused(
        wire5.connect(mqtt.id("c"), *pairs, **how),
        wire5.publish(mqtt.topic(), b"x", qos=1, retain=True), wire.pingreq(), code=code,
    )
    mqtt.client().publish(end)
    assert sub.until(end) == []


def test_mqtt_4_12_0_1_an_authentication_method_is_refused(mqtt):
    client, answer = wire5.hello(mqtt, "s", (wire5.AUTH_METHOD, "SCRAM-SHA-1"))
    assert answer.code == 0x8C and client.closed() == []
