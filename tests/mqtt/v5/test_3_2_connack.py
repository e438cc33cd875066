"""3.2: CONNACK, and the limits that it tells."""

import pytest
from both import connections
from conformance import wire, wire5
from conformance.marks import not_mosquitto

test_mqtt_3_2_0_1_connack_comes_first = connections.connack_comes_first


def test_mqtt_3_2_0_2_there_is_one_connack(mqtt):
    """Not even a second CONNECT gets one."""
    client = mqtt.client("c")
    client.send(wire5.connect(mqtt.id("c")), wire5.connect(mqtt.id("c")))
    assert wire.CONNACK not in [said.kind for said in client.closed()]


def test_mqtt_3_2_2_1_the_flags_of_connack_are_session_present_alone(mqtt):
    for present in (0, 1):
        answer = mqtt.client("s", mqtt.STAYS, clean=False).connect_answer
        assert answer.body[0] == present


def test_mqtt_3_2_2_2_clean_start_has_no_session_present(mqtt):
    mqtt.away("s", (mqtt.topic(), 1))
    for name in ("s", "new"):
        answer = mqtt.client(name, clean=True).connect_answer
        assert answer.body[:2] == b"\0\0"


def test_mqtt_3_2_2_3_session_present_is_whether_there_was_one(mqtt):
    mqtt.away("s", (mqtt.topic(), 1))
    assert mqtt.client("s", clean=False).connect_answer.body[:2] == b"\1\0"
    # One without a single subscription is one too.
    mqtt.client("empty", mqtt.STAYS).leave()
    assert mqtt.client("empty", clean=False).connect_answer.body[:2] == b"\1\0"
    assert mqtt.client("new", clean=False).connect_answer.body[:2] == b"\0\0"
    mqtt.client("short").leave()
    assert mqtt.client("short", clean=False).connect_answer.body[:2] == b"\0\0"


# What makes the server say no to a client that has a session.
RIGHT = "will-without-right"
REFUSALS = {
    "version": ([], {"level": 6}),
    "malformed": ([], {"set_flags": 1}),
    "protocol-error": ([(wire5.RECEIVE_MAXIMUM, 0)], {}),
    "authentication-method": ([(wire5.AUTH_METHOD, "m")], {}),
    "will-topic": ([], {"will": ("a/#", b"", 0, ())}),
    RIGHT: ([], {"will": ("shut/a", b"", 0, ())}),
}


EACH = [
    pytest.param(name, marks=not_mosquitto("looks at the right later") if name == RIGHT else ())
    for name in REFUSALS
]


def refusal(mqtt, name):
    """All that is said."""
    pairs, how = REFUSALS[name]
    client = mqtt.open(mqtt.broker.guarded_port)
    client.send(wire5.connect(mqtt.id("s"), *pairs, clean=False, **how), wire.pingreq())
    return client.closed()


@pytest.mark.parametrize("name", EACH)
def test_mqtt_3_2_2_6_a_refusal_has_no_session_present(mqtt, name):
    mqtt.away("s", (mqtt.topic(), 1), port=mqtt.broker.guarded_port)
    for answer in refusal(mqtt, name):
        assert answer.code != 0 and not answer.session_present
    # It is still there.
    mqtt.back("s", port=mqtt.broker.guarded_port)


@pytest.mark.parametrize("name", EACH)
def test_mqtt_3_2_2_7_a_refusal_is_the_last_that_is_said(mqtt, name):
    said = refusal(mqtt, name)
    assert [answer.kind for answer in said] in ([], [wire.CONNACK])
    assert len(said) == 1 or not mqtt.broker.tells_why


CODES = {
    "version": {1, 0x84},
    "malformed": {0x81},
    "protocol-error": {0x82},
    "authentication-method": {0x8C},
    "will-topic": {0x90},
    RIGHT: {0x87},
}


@not_mosquitto("does not always say the code that fits best")
@pytest.mark.parametrize("name", CODES)
def test_mqtt_3_2_2_8_the_code_is_the_tables_for_this_reason(mqtt, name):
    [answer] = refusal(mqtt, name)
    assert answer.code in CODES[name]


def maximum_qos(answer):
    """What a CONNACK says, or does not (3.2.2.3.4)."""
    return (answer.all(wire5.MAXIMUM_QOS) + [2])[0]


def test_mqtt_3_2_2_9_what_connack_says_of_qos_is_true(mqtt):
    client = mqtt.client("c")
    maximum = maximum_qos(client.connect_answer)
    for qos in range(maximum + 1):
        assert client.publish(mqtt.topic(), b"x", qos=qos) in (0, 0x10)
    if maximum < 2:
        client.send(wire5.publish(mqtt.topic(), b"x", qos=maximum + 1))
        client.thrown_out(0x9B)


def test_mqtt_3_2_2_9_a_server_without_qos_2_says_so(mqtt):
    client = mqtt.client("c", port=mqtt.broker.narrow_port)
    assert client.connect_answer.one(wire5.MAXIMUM_QOS) == 1


def test_mqtt_3_2_2_10_a_subscription_may_ask_for_more_than_the_maximum(mqtt):
    client = mqtt.client("c", port=mqtt.broker.narrow_port)
    filters = [(mqtt.topic(f"{qos}"), qos) for qos in range(3)]
    assert client.subscribe(*filters) == [0, 1, 1]
    client.publish(mqtt.topic("2"), b"x")
    assert client.take().qos == 1


def test_mqtt_3_2_2_10_each_qos_may_be_asked_for(mqtt):
    client = mqtt.client("c")
    maximum = maximum_qos(client.connect_answer)
    filters = [(mqtt.topic(f"{qos}"), qos) for qos in range(3)]
    assert client.subscribe(*filters) == [min(qos, maximum) for qos in range(3)]


def test_mqtt_3_2_2_11_a_publish_above_the_maximum_qos_closes(mqtt):
    client = mqtt.client("c", port=mqtt.broker.narrow_port)
    client.send(wire5.publish(mqtt.topic(), b"x", qos=2))
    client.thrown_out(0x9B)


def test_mqtt_3_2_2_12_a_will_of_more_than_the_maximum_qos_is_refused(mqtt):
    client = mqtt.open(mqtt.broker.narrow_port)
    client.send(wire5.connect(mqtt.id("c"), will=(mqtt.topic(), b"x", 2, ())), wire.pingreq())
    client.thrown_out(0x9B, wire.CONNACK)


def test_mqtt_3_2_2_13_a_will_to_be_retained_is_refused_where_nothing_is(mqtt):
    client = mqtt.open(mqtt.broker.narrow_port)
    data = wire5.connect(mqtt.id("c"), will=(mqtt.topic(), b"x", 0, ()), will_retain=True)
    client.send(data, wire.pingreq())
    client.thrown_out(0x9A, wire.CONNACK)


@pytest.mark.parametrize("qos", [0, 1])
def test_mqtt_3_2_2_14_a_publish_to_be_retained_closes_where_nothing_is(mqtt, qos):
    client = mqtt.client("c", port=mqtt.broker.narrow_port)
    assert client.connect_answer.one(wire5.RETAIN_AVAILABLE) == 0
    client.send(wire5.publish(mqtt.topic(), b"x", qos=qos, retain=True))
    client.thrown_out(0x9A)


@not_mosquitto("does not count the header")
def test_mqtt_3_2_2_15_a_packet_larger_than_the_servers_maximum_closes(mqtt):
    client = mqtt.client("c", port=mqtt.broker.narrow_port)
    maximum = client.connect_answer.one(wire5.MAXIMUM_PACKET)
    # A header of three bytes, the topic with its length, and no properties.
    payload = bytes(maximum - 3 - 2 - len(mqtt.topic()) - 1)
    client.subscribe((mqtt.topic(), 0))
    client.publish(mqtt.topic(), payload, qos=0)
    assert client.take().size == maximum
    client.send(wire5.publish(mqtt.topic(), payload + b"x"))
    client.thrown_out(0x95)


def test_mqtt_3_2_2_16_an_assigned_client_id_is_nobody_elses(mqtt):
    clients = [mqtt.open() for _ in range(5)]
    names = [client.connect("").one(wire5.ASSIGNED_ID) for client in clients]
    assert len(set(names)) == 5
    for client in clients:
        client.ping()


def test_mqtt_3_2_2_17_an_alias_above_the_servers_maximum_closes(mqtt):
    client = mqtt.client()
    maximum = client.connect_answer.one(wire5.ALIAS_MAXIMUM)
    client.send(wire5.publish(mqtt.topic(), b"x", (wire5.ALIAS, maximum + 1)))
    client.thrown_out(0x94)


def test_mqtt_3_2_2_18_an_alias_for_a_server_that_takes_none_closes(mqtt):
    client = mqtt.client("c", port=mqtt.broker.narrow_port)
    assert set(client.connect_answer.all(wire5.ALIAS_MAXIMUM)) <= {0}
    client.send(wire5.publish(mqtt.topic(), b"x", (wire5.ALIAS, 1)))
    client.thrown_out(0x94)


@pytest.mark.parametrize("name", EACH[3:])
def test_mqtt_3_2_2_19_a_refusal_is_no_larger_than_the_client_takes(mqtt, name):
    """Without its reason string and user properties, if it must be."""
    pairs, how = REFUSALS[name]
    for most in (5, 6, 20, 60):
        client = mqtt.open(mqtt.broker.guarded_port)
        client.send(wire5.connect(mqtt.id("c"), *pairs, (wire5.MAXIMUM_PACKET, most), **how))
        said = client.closed()
        assert [answer.code >= 0x80 and answer.size <= most for answer in said] in ([True], [])
        assert said or not mqtt.broker.tells_why


def test_mqtt_3_2_2_20_connack_is_no_larger_than_the_client_takes(mqtt):
    """One that cannot be small enough is not sent (3.1.2-24)."""
    for most in (5, 10, 20, 30, 60):
        client = mqtt.open()
        client.send(wire5.connect("", (wire5.MAXIMUM_PACKET, most)))
        try:
            answer = client.receive()
        except wire.Closed:
            continue
        assert (answer.kind, answer.code) == (wire.CONNACK, 0) and answer.size <= most
        assert answer.one(wire5.ASSIGNED_ID)


def test_mqtt_3_2_2_21_the_servers_keep_alive_is_told(mqtt):
    for asked in (0, 3600):
        answer = mqtt.client("c", keep_alive=asked, port=mqtt.broker.narrow_port).connect_answer
        assert answer.one(wire5.SERVER_KEEP_ALIVE) == 10
    answer = mqtt.client("c", keep_alive=5, port=mqtt.broker.narrow_port).connect_answer
    assert answer.all(wire5.SERVER_KEEP_ALIVE) == []


@not_mosquitto("looks at keep alives every five seconds only")
def test_mqtt_3_2_2_22_without_a_keep_alive_of_the_server_the_clients_counts(mqtt):
    client, patient = mqtt.client(keep_alive=1), mqtt.client(keep_alive=60)
    for one in (client, patient):
        assert one.connect_answer.all(wire5.SERVER_KEEP_ALIVE) == []
    client.thrown_out(0x8D)
    patient.ping()
