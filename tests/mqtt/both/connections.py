"""CONNECT, CONNACK, PINGREQ and DISCONNECT (3.1, 3.2 and 3.12 to 3.14 in both), but for the will."""

import string

import pytest
from conformance import wire

MALFORMED, PROTOCOL_ERROR = 0x81, 0x82
# All that every server has to take, in as many bytes as it has to (3.1.3-5).
CLIENT_IDS = pytest.mark.parametrize(
    "client_id",
    [string.digits + "abcdefghijklm", "nopqrstuvwxyzABCDEFGHIJ", "KLMNOPQRSTUVWXYZ", "x", "0"],
)


def a_second_connect_closes(mqtt):
    mqtt.ends(mqtt.wire.connect(mqtt.id("second")), code=PROTOCOL_ERROR)
    # With the same id, too.
    mqtt.ends(mqtt.wire.connect(mqtt.id("same")), code=PROTOCOL_ERROR, name="same")


def the_reserved_connect_flag_closes(mqtt):
    mqtt.rejects(mqtt.wire.connect(mqtt.id("c"), set_flags=1), code=MALFORMED)


def a_clean_beginning_discards_the_session_before(mqtt):
    end = mqtt.topic("end")
    mqtt.away("s", (mqtt.topic(), 1))
    pub = mqtt.client()
    pub.publish(mqtt.topic(), b"queued")
    client = mqtt.client("s")
    assert not client.session_present
    client.subscribe((end, 1))
    pub.publish(mqtt.topic(), b"not subscribed any more")
    pub.publish(end)
    assert client.until(end) == []


def a_user_name_without_its_flag_closes(mqtt):
    mqtt.rejects(mqtt.wire.connect(mqtt.id("c"), user="u", clear_flags=0x80), code=MALFORMED)


def the_user_name_flag_without_a_user_name_closes(mqtt):
    mqtt.rejects(mqtt.wire.connect(mqtt.id("c"), set_flags=0x80), code=MALFORMED)


def the_session_is_found_by_the_client_id(mqtt):
    for name in ("a", "b"):
        mqtt.away(name, (mqtt.topic(name), 1))
    pub = mqtt.client()
    for name in ("b", "a"):
        pub.publish(mqtt.topic(name), name.encode())
    assert mqtt.back("a").take().payload == b"a"
    assert mqtt.back("b").take().payload == b"b"
    # Nearly the same is another.
    for name in ("A", "aa"):
        assert not mqtt.client(name, clean=False).session_present


def a_connect_without_client_id_closes(mqtt):
    body = wire.text("MQTT") + bytes([mqtt.level, 2]) + wire.two(60) + mqtt.no_properties
    mqtt.rejects(wire.packet(wire.CONNECT, 0, body), code=MALFORMED)


def a_client_id_that_is_not_utf_8_closes(mqtt):
    mqtt.rejects(mqtt.wire.connect(b"\xffclient"), code=MALFORMED)


def clients_without_id_get_one_each(mqtt, clean=True):
    sub, other = mqtt.open(), mqtt.open()
    for client in (sub, other):
        client.connect("", clean=clean)
        assert not client.session_present
    sub.subscribe((mqtt.topic(), 1))
    other.publish(mqtt.topic(), b"hello")
    assert sub.take().payload == b"hello"


def connack_comes_first(mqtt):
    """Of everything that is waiting: queued messages, answers, retained messages."""
    mqtt.client().publish(mqtt.topic("retained"), b"x", retain=True)
    mqtt.away("s", (mqtt.topic(), 1))
    mqtt.client().publish(mqtt.topic(), b"queued")
    client = mqtt.open()
    client.send(
        mqtt.wire.connect(mqtt.id("s"), clean=False),
        mqtt.wire.subscribe([(mqtt.topic("retained"), 1)], packet_id=9), wire.pingreq(),
    )
    kinds = [client.receive().kind for _ in range(5)]
    assert kinds[0] == wire.CONNACK
    assert sorted(kinds[1:]) == [wire.PUBLISH, wire.PUBLISH, wire.SUBACK, wire.PINGRESP]


def pingreq_is_answered_with_pingresp(mqtt):
    client = mqtt.client()
    client.send(wire.pingreq())
    answer = client.receive()
    assert (answer.kind, answer.flags, answer.body) == (wire.PINGRESP, 0, b"")
    client.send(wire.pingreq() * 10)
    assert [client.receive().kind for _ in range(10)] == [wire.PINGRESP] * 10


@pytest.mark.parametrize("flags", range(1, 16))
def disconnect_with_reserved_flags_ends_the_connection_as_an_error(mqtt, flags):
    """It is no DISCONNECT, so the will goes out."""
    sub = mqtt.subscriber((mqtt.topic(), 1))
    bad = wire.tampered(mqtt.wire.disconnect(), flags)
    mqtt.ends(bad, code=MALFORMED, **mqtt.will(mqtt.topic(), b"not a good end"))
    assert sub.take().payload == b"not a good end"


def the_server_closes_if_the_client_does_not(mqtt):
    mqtt.ends(mqtt.wire.disconnect(), code=None)


def nothing_behind_disconnect_is_done(mqtt):
    end = mqtt.topic("end")
    sub = mqtt.subscriber((mqtt.topic("+"), 1))
    behind = mqtt.wire.publish(mqtt.topic(), b"x", qos=1)
    mqtt.ends(mqtt.wire.disconnect(), behind, wire.pingreq(), code=None)
    mqtt.client().publish(end)
    assert sub.until(end) == []
