"""3.1: CONNECT, but for the will."""

import time

import pytest
from both import connections
from conformance import wire
from conformance.marks import not_mosquitto

NOT_CONNECT = {
    "connack": wire.packet(wire.CONNACK, 0, b"\0\0"),
    "publish": wire.publish("a", b"x"),
    "publish-qos-1": wire.publish("a", b"x", 1),
    "puback": wire.puback(1),
    "pubrec": wire.pubrec(1),
    "pubrel": wire.pubrel(1),
    "pubcomp": wire.pubcomp(1),
    "subscribe": wire.subscribe([("a", 0)]),
    "unsubscribe": wire.unsubscribe(["a"]),
    "pingreq": wire.pingreq(),
    "disconnect": wire.disconnect(),
}


@pytest.mark.parametrize("name", NOT_CONNECT)
def test_mqtt_3_1_0_1_first_packet_must_be_connect(mqtt, name):
    assert mqtt.refused(NOT_CONNECT[name], wire.connect(mqtt.id("late"))) == []


test_mqtt_3_1_0_2_a_second_connect_closes = connections.a_second_connect_closes


@pytest.mark.parametrize("name", ["MQTX", "mqtt", "MQTT ", "MQ", ""])
def test_mqtt_3_1_2_1_a_wrong_protocol_name_is_not_taken_for_mqtt(mqtt, name):
    said = mqtt.refused(wire.connect(mqtt.id("c"), name=name))
    assert [answer for answer in said if answer.kind != wire.CONNACK or answer.code == 0] == []


@pytest.mark.parametrize("level", [0, 2, 6, 127])
def test_mqtt_3_1_2_2_an_unknown_level_gets_return_code_1_and_is_closed(mqtt, level):
    [answer] = mqtt.refused(wire.connect(mqtt.id("c"), level=level))
    assert (answer.kind, answer.body) == (wire.CONNACK, b"\0\1")


test_mqtt_3_1_2_3_the_reserved_connect_flag_closes = connections.the_reserved_connect_flag_closes


def test_mqtt_3_1_2_4_without_clean_session_the_session_goes_on(mqtt):
    assert not mqtt.client("s", clean=False).session_present
    mqtt.away("s", (mqtt.topic(), 1))
    client, pub = mqtt.back("s"), mqtt.client()
    pub.publish(mqtt.topic(), b"still subscribed")
    assert client.take().payload == b"still subscribed"


def test_mqtt_3_1_2_5_qos_1_is_kept_for_a_session_that_is_away(mqtt):
    mqtt.away("s", (mqtt.topic(), 1))
    pub = mqtt.client()
    for n in range(3):
        pub.publish(mqtt.topic(), b"%d" % n)
    client = mqtt.back("s")
    got = [client.take() for _ in range(3)]
    assert [(m.payload, m.qos) for m in got] == [(b"0", 1), (b"1", 1), (b"2", 1)]


def test_mqtt_3_1_2_5_qos_2_is_kept_for_a_session_that_is_away(mqtt):
    mqtt.away("s", (mqtt.topic(), 2))
    pub = mqtt.client()
    for n in range(3):
        pub.publish(mqtt.topic(), b"%d" % n, qos=2)
    client = mqtt.back("s")
    got = [client.take() for _ in range(3)]
    assert [(m.payload, m.qos) for m in got] == [(b"0", 2), (b"1", 2), (b"2", 2)]


test_mqtt_3_1_2_6_clean_session_discards_the_session_before = (
    connections.a_clean_beginning_discards_the_session_before
)


def test_mqtt_3_1_2_6_a_clean_session_is_used_by_no_later_one(mqtt):
    end = mqtt.topic("end")
    mqtt.subscriber((mqtt.topic(), 1), name="s").leave()
    pub = mqtt.client()
    pub.publish(mqtt.topic(), b"nobody is there")
    client = mqtt.client("s", clean=False)
    assert not client.session_present
    client.subscribe((end, 1))
    pub.publish(mqtt.topic(), b"nobody is subscribed")
    pub.publish(end)
    assert client.until(end) == []


def test_mqtt_3_1_2_7_retained_messages_outlive_the_session(mqtt):
    for name, clean in (("a", True), ("b", False)):
        pub = mqtt.client(name, clean=clean)
        pub.publish(mqtt.topic(name), name.encode(), retain=True)
        pub.leave()
    mqtt.client("b", clean=True).leave()
    sub = mqtt.subscriber((mqtt.topic("+"), 1))
    assert sorted(sub.take().payload for _ in range(2)) == [b"a", b"b"]


test_mqtt_3_1_2_18_a_user_name_without_its_flag_closes = connections.a_user_name_without_its_flag_closes
test_mqtt_3_1_2_19_the_user_name_flag_without_a_user_name_closes = (
    connections.the_user_name_flag_without_a_user_name_closes
)


def test_mqtt_3_1_2_20_a_password_without_its_flag_closes(mqtt):
    data = wire.connect(mqtt.id("c"), user="u", password="p", clear_flags=0x40)
    assert mqtt.refused(data) == []


def test_mqtt_3_1_2_21_the_password_flag_without_a_password_closes(mqtt):
    assert mqtt.refused(wire.connect(mqtt.id("c"), user="u", set_flags=0x40)) == []


def test_mqtt_3_1_2_22_a_password_without_a_user_name_closes(mqtt):
    assert mqtt.refused(wire.connect(mqtt.id("c"), password="p")) == []


def test_mqtt_3_1_2_23_a_client_that_pings_in_time_stays(mqtt):
    client = mqtt.client(keep_alive=1)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            client.receive(0.8)
        client.ping()


@not_mosquitto("looks at keep alives every five seconds only")
def test_mqtt_3_1_2_24_one_and_a_half_keep_alives_of_silence_close(mqtt):
    sub = mqtt.subscriber((mqtt.topic("will"), 0))
    client = mqtt.client(keep_alive=1, will=(mqtt.topic("will"), b"silent", 0, False))
    start = time.monotonic()
    assert client.closed() == []
    assert 1.0 < time.monotonic() - start < 4.0
    # As if the network had failed.
    assert sub.take().payload == b"silent"


def test_mqtt_3_1_3_1_all_fields_of_the_payload_in_their_order(mqtt):
    sub = mqtt.subscriber((mqtt.topic("will"), 1))
    client = mqtt.client(will=(mqtt.topic("will"), b"the will", 1, False), user="user", password="word")
    client.ping()
    client.close()
    got = sub.take()
    assert (got.topic, got.payload) == (mqtt.topic("will"), b"the will")


test_mqtt_3_1_3_2_the_session_is_found_by_the_client_id = (
    connections.the_session_is_found_by_the_client_id
)
test_mqtt_3_1_3_3_a_connect_without_client_id_closes = connections.a_connect_without_client_id_closes
test_mqtt_3_1_3_4_a_client_id_that_is_not_utf_8_closes = connections.a_client_id_that_is_not_utf_8_closes


@connections.CLIENT_IDS
def test_mqtt_3_1_3_5_ids_of_letters_and_digits_are_taken(mqtt, client_id):
    mqtt.open().connect(client_id)


test_mqtt_3_1_3_6_clients_without_id_get_one_each = connections.clients_without_id_get_one_each


def test_mqtt_3_1_3_8_an_empty_id_without_clean_session_gets_return_code_2(mqtt):
    [answer] = mqtt.refused(wire.connect("", clean=False))
    assert (answer.kind, answer.body) == (wire.CONNACK, b"\0\2")


def test_mqtt_3_1_3_10_a_will_topic_that_is_not_utf_8_closes(mqtt):
    assert mqtt.refused(wire.connect(mqtt.id("c"), will=(b"\xff", b"", 0, False))) == []


def test_mqtt_3_1_3_11_a_user_name_that_is_not_utf_8_closes(mqtt):
    assert mqtt.refused(wire.connect(mqtt.id("c"), user=b"\xff")) == []


HEAD = wire.text("MQTT") + b"\x04\x02" + wire.two(60)
MALFORMED = {
    "nothing": b"",
    "half-a-name": b"\0\4MQ",
    "no-level": wire.text("MQTT"),
    "no-flags": wire.text("MQTT") + b"\x04",
    "no-keep-alive": wire.text("MQTT") + b"\x04\x02",
    "half-a-keep-alive": wire.text("MQTT") + b"\x04\x02\0",
    "client-id-longer-than-the-packet": HEAD + b"\0\x09abc",
    "more-than-the-payload": HEAD + wire.text("abc") + b"\0\0",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_mqtt_3_1_4_1_a_malformed_connect_closes_without_connack(mqtt, name):
    assert mqtt.refused(wire.packet(wire.CONNECT, 0, MALFORMED[name])) == []


@pytest.mark.parametrize("clean", [True, False], ids=["clean", "stored"])
def test_mqtt_3_1_4_2_the_older_client_of_the_same_id_is_thrown_out(mqtt, clean):
    old = mqtt.client("same", clean=clean)
    new = mqtt.client("same", clean=clean)
    old.thrown_out()
    new.ping()


def test_mqtt_3_1_4_3_a_valid_connect_does_what_clean_session_says(mqtt):
    mqtt.away("s", (mqtt.topic(), 1))
    assert mqtt.client("s", clean=False).session_present
    assert not mqtt.client("s", clean=True).session_present
    assert not mqtt.client("s", clean=False).session_present


def test_mqtt_3_1_4_4_a_valid_connect_is_answered_with_return_code_0(mqtt):
    client = mqtt.open()
    client.send(wire.connect(mqtt.id("c")))
    answer = client.receive()
    assert (answer.kind, answer.flags, answer.body) == (wire.CONNACK, 0, b"\0\0")


REFUSED = {"level": {"level": 6}, "empty-id": {"clean": False}, "malformed": {"set_flags": 1}}


@pytest.mark.parametrize("how", REFUSED.values(), ids=REFUSED)
def test_mqtt_3_1_4_5_nothing_behind_a_refused_connect_is_done(mqtt, how):
    end = mqtt.topic("end")
    sub = mqtt.subscriber((mqtt.topic("+"), 1))
    said = mqtt.refused(
        wire.connect("", **how), wire.publish(mqtt.topic(), b"x", 1, 1, retain=True), wire.pingreq()
    )
    assert {answer.kind for answer in said} <= {wire.CONNACK}
    mqtt.client().publish(end)
    assert sub.until(end) == []
