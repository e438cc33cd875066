"""3.1 and 3.2: CONNECT and its answer, the session and the will."""

from conformance import wire5


def test_mqtt_3_1_2_23_a_session_with_an_expiry_is_kept(mqtt):
    expiry = (wire5.SESSION_EXPIRY, 60)
    client = wire5.client(mqtt, "s", expiry)
    assert client.subscribe((mqtt.topic(), 1)) == [1]
    client.leave()
    assert wire5.client(mqtt, "p").publish(mqtt.topic(), b"kept") == 0
    client, answer = wire5.hello(mqtt, "s", expiry, clean=False)
    assert answer.session_present and client.take().payload == b"kept"
    # Taken back by DISCONNECT.
    client.leave(0, (wire5.SESSION_EXPIRY, 0))
    assert not wire5.hello(mqtt, "s", expiry, clean=False)[1].session_present


def test_mqtt_3_1_2_24_nothing_larger_than_the_maximum_packet_size(mqtt):
    client = wire5.client(mqtt, "s", (wire5.MAXIMUM_PACKET, 60))
    client.subscribe((mqtt.topic(), 1))
    publisher = wire5.client(mqtt, "p")
    publisher.publish(mqtt.topic(), b"x" * 60)
    publisher.publish(mqtt.topic(), b"small")
    assert client.take().payload == b"small"


def test_mqtt_3_1_2_26_no_alias_above_the_clients_maximum(mqtt):
    client = wire5.client(mqtt, "s", (wire5.ALIAS_MAXIMUM, 2))
    client.subscribe((mqtt.topic("#"), 0))
    topics = [mqtt.topic(name) for name in "abc"]
    for topic in topics:
        client.send(wire5.publish(topic))
    aliases = [client.take().all(wire5.ALIAS) for _ in topics]
    assert aliases == [[1], [2], []]


def test_mqtt_3_1_2_27_no_alias_for_a_client_that_takes_none(mqtt):
    client = wire5.client(mqtt, "s")
    client.subscribe((mqtt.topic(), 0))
    for _ in range(2):
        client.send(wire5.publish(mqtt.topic()))
        got = client.take()
        assert got.topic == mqtt.topic() and got.all(wire5.ALIAS) == []


def test_mqtt_3_1_3_7_an_assigned_client_id_is_told(mqtt):
    _, answer = wire5.hello(mqtt, "")
    assert answer.one(wire5.ASSIGNED_ID)


def test_mqtt_3_2_2_16_an_assigned_client_id_is_nobody_elses(mqtt):
    first, one = wire5.hello(mqtt, "")
    _, other = wire5.hello(mqtt, "", clean=False)
    assert one.one(wire5.ASSIGNED_ID) != other.one(wire5.ASSIGNED_ID)
    assert first.publish(mqtt.topic()) == 0x10, "still there"


def test_mqtt_3_1_3_9_a_client_that_is_back_in_time_has_no_will(mqtt):
    watcher = wire5.client(mqtt, "w")
    watcher.subscribe((mqtt.topic(), 0))
    will = (mqtt.topic(), b"gone", 0, [(wire5.WILL_DELAY, 3600)])
    expiry = (wire5.SESSION_EXPIRY, 3600)
    wire5.client(mqtt, "s", expiry, will=will).leave(4)
    back = wire5.client(mqtt, "s", expiry, clean=False)
    back.leave(0, (wire5.SESSION_EXPIRY, 0))
    wire5.client(mqtt, "p").send(wire5.publish(mqtt.topic(), b"marker"))
    assert watcher.take().payload == b"marker"


def test_mqtt_3_1_3_10_user_properties_of_a_will_keep_their_order(mqtt):
    watcher = wire5.client(mqtt, "w")
    watcher.subscribe((mqtt.topic(), 0))
    user = [("b", "1"), ("a", "2"), ("b", "3")]
    will = (mqtt.topic(), b"gone", 0, [(wire5.USER, pair) for pair in user])
    wire5.client(mqtt, "s", will=will).leave(4)
    assert watcher.take().all(wire5.USER) == user


def test_mqtt_3_1_4_3_the_older_connection_is_told_that_it_is_taken_over(mqtt):
    first = wire5.client(mqtt, "s")
    wire5.client(mqtt, "s")
    [said] = first.closed()
    assert (said.kind, said.code) == (wire5.DISCONNECT, 0x8E)


def test_mqtt_3_2_2_9_a_server_without_qos_2_says_so(mqtt):
    _, answer = wire5.hello(mqtt, "s")
    assert answer.one(wire5.MAXIMUM_QOS) == 1
    assert answer.one(wire5.SHARED_AVAILABLE) == 0


def test_mqtt_3_2_2_12_a_will_of_qos_2_is_refused(mqtt):
    client, answer = wire5.hello(mqtt, "s", will=(mqtt.topic(), b"x", 2, []))
    assert answer.code == 0x9B and client.closed() == []


def test_mqtt_4_12_0_1_an_authentication_method_is_refused(mqtt):
    client, answer = wire5.hello(mqtt, "s", (wire5.AUTH_METHOD, "SCRAM-SHA-1"))
    assert answer.code == 0x8C and client.closed() == []
