"""3.12 to 3.14: PINGREQ and DISCONNECT."""

import pytest
from both import connections
from conformance import wire, wire5
from conformance.marks import not_mosquitto

MALFORMED, PROTOCOL_ERROR, TOO_LARGE = 0x81, 0x82, 0x95
WITH_WILL = 4
# What a client may say (3.14.2.1); others are for servers, or reserved.
OF_CLIENTS = {0, 4, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99}


test_mqtt_3_12_4_1_pingreq_is_answered_with_pingresp = connections.pingreq_is_answered_with_pingresp


@not_mosquitto("takes it")
def test_mqtt_3_12_4_1_a_pingreq_with_a_body_closes(mqtt):
    mqtt.ends(wire.packet(wire.PINGREQ, 0, b"\0"), code=MALFORMED)


FIRST_WORDS = {
    "nothing-known": b"\xf0\x00",
    "reserved-type": b"\x00\x00",
    "publish": wire5.publish("open/a"),
    "disconnect": wire5.disconnect(),
    "reserved-connect-flag": lambda id: wire5.connect(id, set_flags=1),
    "cut-short": lambda id: wire.packet(wire.CONNECT, 0, wire5.connect(id)[2:-1]),
    "auth-method": lambda id: wire5.connect(id, (wire5.AUTH_METHOD, "none")),
    "property-twice": lambda id: wire5.connect(id, *[(wire5.SESSION_EXPIRY, 1)] * 2),
    "will-without-topic": lambda id: wire5.connect(id, set_flags=4),
}


@pytest.mark.parametrize("name", FIRST_WORDS)
def test_mqtt_3_14_0_1_no_disconnect_before_connack(mqtt, name):
    """One that is refused hears a CONNACK of at least 0x80, or nothing."""
    words = FIRST_WORDS[name]
    client = mqtt.open()
    client.send(words if isinstance(words, bytes) else words(mqtt.id("c")))
    said = [(packet.kind, packet.code >= 0x80) for packet in client.closed()]
    assert said in ([], [(wire.CONNACK, True)])


test_mqtt_3_14_1_1_disconnect_with_reserved_flags_is_malformed = (
    connections.disconnect_with_reserved_flags_ends_the_connection_as_an_error
)


def test_mqtt_3_14_2_1_short_forms_mean_0(mqtt):
    end = mqtt.topic("end")
    sub = mqtt.subscriber((mqtt.topic("+"), 1))
    for form in (b"\xe0\x00", b"\xe0\x01\x00", b"\xe0\x02\x00\x00"):
        client = mqtt.client(will=(mqtt.topic(), b"x", 1, []))
        client.send(form)
        assert client.closed() == []
    mqtt.client().publish(end)
    assert sub.until(end) == []


@pytest.mark.parametrize("code", [
    pytest.param(code, marks=not_mosquitto("keeps the will back") if code >= 0x80 else ())
    for code in sorted(OF_CLIENTS - {0})
])
def test_mqtt_3_14_2_1_every_code_of_a_client_is_taken(mqtt, code):
    """Not as an error, to which the server would answer."""
    sub = mqtt.subscriber((mqtt.topic(), 1))
    mqtt.client(will=(mqtt.topic(), b"will", 1, [])).leave(code)
    assert sub.take().payload == b"will"


@not_mosquitto("takes any code")
@pytest.mark.parametrize("code", [1, 2, 3, 0x10, 0x11, 0x18, 0x7F, 0x84, 0x91, 0x92, 0xA3, 0xFF])
def test_mqtt_3_14_2_1_a_code_that_is_not_in_the_table_is_an_error(mqtt, code):
    sub = mqtt.subscriber((mqtt.topic(), 1))
    will = (mqtt.topic(), b"will", 1, [])
    mqtt.ends(wire5.disconnect(code), code=PROTOCOL_ERROR, will=will)
    assert sub.take().payload == b"will"


@not_mosquitto("takes over without a word")
def test_mqtt_3_14_2_2_the_servers_disconnect_has_no_session_expiry(mqtt):
    """`wire5` reads none. Here are the ways to get a DISCONNECT with a session that has one."""
    first = mqtt.client("s", mqtt.STAYS)
    second = mqtt.client("s", mqtt.STAYS, clean=False)
    first.thrown_out(0x8E)
    second.send(wire5.publish("a/#"))
    second.thrown_out(0x90)
    third = mqtt.back("s")
    third.send(b"\xc1\x00")
    third.thrown_out(MALFORMED)


@not_mosquitto("sends no reason strings")
def test_mqtt_3_14_2_3_disconnect_leaves_out_the_reason_that_does_not_fit(mqtt):
    bad = wire.tampered(wire5.subscribe([(mqtt.topic(), 0)]), 0)
    long = mqtt.client()
    size = long.connect_answer.size
    short = mqtt.client(None, (wire5.MAXIMUM_PACKET, size))
    said = []
    for client in (long, short):
        client.send(bad)
        said += client.closed()
    assert [one.code for one in said] == [MALFORMED, MALFORMED]
    assert said[0].one(wire5.REASON_STRING) and said[0].size > size
    assert said[1].all(wire5.REASON_STRING) == [] and said[1].size <= size


@not_mosquitto("has no maximum unless it is configured")
def test_mqtt_3_14_2_4_a_disconnect_larger_than_the_servers_maximum_is_an_error(mqtt):
    """User Properties fill it: the sender has to leave them out."""
    sub = mqtt.subscriber((mqtt.topic(), 1))
    maximum = sub.connect_answer.one(wire5.MAXIMUM_PACKET)
    filler = [(wire5.USER, ("n", "x" * 60_000))] * (maximum // 60_000 + 1)
    client = mqtt.client(will=(mqtt.topic(), b"will", 1, []))
    client.send(wire5.disconnect(0, *filler))
    client.thrown_out(TOO_LARGE)
    assert sub.take().payload == b"will"


def test_mqtt_3_14_2_4_properties_of_a_clients_disconnect_are_taken(mqtt):
    end = mqtt.topic("end")
    sub = mqtt.subscriber((mqtt.topic("+"), 1))
    client = mqtt.client(will=(mqtt.topic(), b"x", 1, []))
    client.leave(0, (wire5.USER, ("a", "b")), (wire5.REASON_STRING, "done"), (wire5.USER, ("a", "b")))
    mqtt.client().publish(end)
    assert sub.until(end) == []


test_mqtt_3_14_4_1_nothing_behind_a_clients_disconnect_is_done = (
    connections.nothing_behind_disconnect_is_done
)


@not_mosquitto("takes over without a word")
def test_mqtt_3_14_4_1_nothing_follows_the_servers_disconnect(mqtt):
    """Though there is more to send to the one that is taken over."""
    first = mqtt.subscriber((mqtt.topic(), 0), name="s")
    pub = mqtt.client()
    pub.send(*(wire5.publish(mqtt.topic(), b"%d" % n) for n in range(200)))
    mqtt.client("s")
    pub.send(*(wire5.publish(mqtt.topic(), b"%d" % n) for n in range(200)))
    *before, last = first.closed()
    assert {said.kind for said in before} <= {wire.PUBLISH}
    assert (last.kind, last.code) == (wire5.DISCONNECT, 0x8E)


test_mqtt_3_14_4_2_the_server_closes_if_the_client_does_not = (
    connections.the_server_closes_if_the_client_does_not
)


@not_mosquitto("takes over without a word")
def test_mqtt_3_14_4_2_the_server_closes_behind_its_disconnect(mqtt):
    """Though the client goes on talking."""
    client = mqtt.client("s")
    mqtt.client("s")
    assert client.expect(wire5.DISCONNECT).code == 0x8E
    try:
        client.send(wire.pingreq())
    except OSError:
        pass
    assert client.closed() == []


@pytest.mark.parametrize("expiry", [0, 3600], ids=["clean", "stored"])
def test_mqtt_3_14_4_3_disconnect_throws_the_will_away(mqtt, expiry):
    end = mqtt.topic("end")
    sub = mqtt.subscriber((mqtt.topic("+"), 1))
    stays = (wire5.SESSION_EXPIRY, expiry)
    mqtt.client("c", stays, will=(mqtt.topic(), b"x", 1, [])).leave()
    # Nor does it come when the id is used again, nor with the end of the session.
    mqtt.client("c", stays, clean=False).leave(0, (wire5.SESSION_EXPIRY, 0))
    mqtt.client("c").publish(end)
    assert sub.until(end) == []


def test_mqtt_3_14_4_3_disconnect_with_will_publishes_it(mqtt):
    sub = mqtt.subscriber((mqtt.topic(), 1))
    mqtt.client(will=(mqtt.topic(), b"will", 1, [])).leave(WITH_WILL)
    assert sub.take().payload == b"will"
