"""What only version 5 has."""

import queue
import time

import pytest
from conformance import real
from conformance.marks import not_mosquitto
from paho.mqtt.subscribeoptions import SubscribeOptions

TOP = [1, 2]
USER = [("a", "2"), ("c", "3")]


def test_an_assigned_client_id_is_told(cast):
    client = cast.client("c")
    client.client_id = ""
    for clean in (True, False):
        client.open(clean=clean)
        assert client.answer.AssignedClientIdentifier
        client.leave()


def test_a_session_lives_as_long_as_was_said_last(cast):
    client = cast.client("c")

    def present(clean=False, **values):
        client.open(clean=clean, **values)
        return client.session_present

    assert not present(clean=True, SessionExpiryInterval=0)
    client.leave()
    assert not present(SessionExpiryInterval=2)
    client.leave()
    # Half of its life, more than all of it, and half of the life that DISCONNECT gave it.
    time.sleep(1)
    assert present(SessionExpiryInterval=2)
    client.leave()
    time.sleep(4)
    assert not present(SessionExpiryInterval=1)
    client.leave(SessionExpiryInterval=5)
    time.sleep(3)
    assert present(SessionExpiryInterval=1)
    client.leave(SessionExpiryInterval=0)
    assert not present(SessionExpiryInterval=1)


DELAYS = {"delay-first": (2, 5, 2), "session-at-once": (5, 0, 0), "session-first": (5, 2, 2)}


@pytest.mark.parametrize("name", [
    pytest.param(n, marks=not_mosquitto("too late, or never") if "session" in n else ())
    for n in DELAYS
])
def test_a_will_waits_for_its_delay_or_the_sessions_end(cast, name):
    delay, expiry, seconds = DELAYS[name]
    watcher = cast.client("watcher").open()
    watcher.subscribe((cast.topic("will"), 1))
    client = cast.client("c").open(
        will=(cast.topic("will"), b"will", 1, False), SessionExpiryInterval=expiry,
        will_properties={"WillDelayInterval": delay, "UserProperty": USER},
    )
    start = time.monotonic()
    client.drop()
    got = watcher.take()
    assert seconds - 0.2 < time.monotonic() - start < seconds + 2
    assert (got.payload, got.properties.UserProperty) == (b"will", USER)


def test_a_client_gets_no_more_than_it_takes_at_once(cast):
    sub = cast.client("sub", manual_ack=True).open(ReceiveMaximum=2)
    sub.subscribe((cast.topic("a"), 1))
    pub = cast.client("pub").open()
    for n in range(3):
        pub.publish(cast.topic("a"), b"%d" % n)
    first, second = sub.take(), sub.take()
    with pytest.raises(queue.Empty):
        sub.messages.get(timeout=0.5)
    sub.acknowledge(first)
    assert sub.take().payload == b"2"
    sub.acknowledge(second)


@not_mosquitto("gives no aliases")
@pytest.mark.parametrize("top", TOP)
def test_the_server_uses_the_alias_that_it_may(cast, top):
    """The first message names the topic and its alias, the others the alias alone."""
    client = cast.client("c").open(TopicAliasMaximum=1)
    client.subscribe((cast.topic("a"), top))
    for qos in range(top + 1):
        client.publish(cast.topic("a"), b"x", qos)
    got = [client.take() for _ in range(top + 1)]
    assert [m.topic for m in got] == [cast.topic("a")] + [""] * top
    assert {m.properties.TopicAlias for m in got} == {1}
    for maximum in ({}, {"TopicAliasMaximum": 0}):
        client.leave()
        client.open(**maximum)
        client.subscribe((cast.topic("a"), top))
        for qos in range(top + 1):
            client.publish(cast.topic("a"), b"x", qos)
            got = client.take()
            assert got.topic == cast.topic("a") and not hasattr(got.properties, "TopicAlias")


def test_an_alias_stands_for_its_topic_as_long_as_the_connection_lasts(cast):
    client = cast.client("c").open(SessionExpiryInterval=3600)
    assert client.answer.TopicAliasMaximum > 0
    client.subscribe((cast.topic("a"), 1))
    client.publish(cast.topic("a"), b"named", TopicAlias=1)
    client.publish("", b"by its alias", TopicAlias=1)
    assert [client.take().payload for _ in range(2)] == [b"named", b"by its alias"]
    client.leave()
    client.open(clean=False)
    assert client.session_present
    client.publish(cast.topic("a"), b"named")
    assert client.take().payload == b"named"
    client.send("", b"by its alias", TopicAlias=1)
    assert client.ended.get(timeout=real.PATIENCE) >= 0x80


def test_a_client_gets_nothing_larger_than_it_takes(cast):
    client = cast.client("c").open(MaximumPacketSize=64)
    client.subscribe((cast.topic("a"), 1))
    client.publish(cast.topic("a"), b"." * 32, 0)
    assert len(client.take().payload) == 32
    client.publish(cast.topic("a"), b"." * 64)
    client.publish(cast.topic("a"), b"end", 0)
    assert client.until(b"end") == []


def test_the_servers_keep_alive_is_told(cast):
    client = cast.client("c", port=cast.broker.narrow_port).open(keep_alive=120)
    assert client.answer.ServerKeepAlive == 10
    client = cast.client("c").open(keep_alive=120)
    assert not hasattr(client.answer, "ServerKeepAlive")


def test_a_response_finds_its_request(cast):
    asker, server = cast.client("asker").open(), cast.client("server").open()
    for client in (asker, server):
        client.subscribe((cast.topic("talk"), SubscribeOptions(1, noLocal=True)))
    asker.publish(cast.topic("talk"), b"?", ResponseTopic=cast.topic("talk"), CorrelationData=b"334")
    request = server.take()
    assert request.properties.CorrelationData == b"334"
    server.publish(request.properties.ResponseTopic, b"!", CorrelationData=b"334")
    response = asker.take()
    assert (response.payload, response.properties.CorrelationData) == (b"!", b"334")


def test_each_subscription_gives_its_identifier(cast):
    one, other = cast.client("one").open(), cast.client("other").open()
    one.subscribe((cast.topic("a"), 1), SubscriptionIdentifier=456_789)
    other.subscribe((cast.topic("a"), 1), SubscriptionIdentifier=2)
    other.subscribe((cast.topic("a/#"), 1), SubscriptionIdentifier=3)
    other.publish(cast.topic("a"), b"x")
    other.publish(cast.topic("a"), b"end")
    assert one.take().properties.SubscriptionIdentifier == [456_789]
    got = [m.properties.SubscriptionIdentifier for m in other.until(b"end") if m.payload == b"x"]
    assert sorted(sum(got, [])) == [2, 3]


def test_a_group_gets_each_message_once(cast):
    clients = [cast.client(f"{n}").open() for n in range(3)]
    for client in clients:
        client.subscribe((f"$share/group/{cast.topic('a')}", 1), (cast.topic("all"), 1))
    pub = cast.client("pub").open()
    for n in range(30):
        pub.publish(cast.topic("a"), b"%d" % n)
    pub.publish(cast.topic("all"), b"end")
    got = [[int(m.payload) for m in client.until(b"end")] for client in clients]
    assert sorted(sum(got, [])) == list(range(30))
    assert all(got), "each gets some"


@pytest.mark.parametrize("top", TOP)
def test_what_travels_with_a_message_arrives(cast, top):
    client = cast.client("c").open()
    client.subscribe((cast.topic("a"), top))
    for qos in range(top + 1):
        client.publish(
            cast.topic("a"), b"x", qos, PayloadFormatIndicator=1, ContentType="My name",
            UserProperty=USER,
        )
        got = client.take()
        assert (got.qos, got.properties.PayloadFormatIndicator) == (qos, 1)
        assert (got.properties.ContentType, got.properties.UserProperty) == ("My name", USER)


@pytest.mark.parametrize("top", TOP)
def test_retained_messages_keep_what_travels_with_them(cast, top):
    client = cast.client("c").open()
    for qos in range(top + 1):
        client.publish(cast.topic(f"a/{qos}"), b"x", qos, retain=True, UserProperty=USER)
    client.subscribe((cast.topic("+/+"), top))
    got = [client.take() for _ in range(top + 1)]
    assert sorted(m.qos for m in got) == list(range(top + 1))
    assert all(m.properties.UserProperty == USER for m in got)


@pytest.mark.parametrize("top", TOP)
def test_messages_grow_old_while_their_client_is_away(cast, top):
    sleeper = cast.client("sleeper").open(SessionExpiryInterval=3600)
    sleeper.subscribe((cast.topic("a"), top))
    sleeper.leave(SessionExpiryInterval=999_999)
    pub = cast.client("pub").open()
    for life in (1, 60):
        for qos in range(1, top + 1):
            pub.publish(cast.topic("a"), b"%d" % life, qos, MessageExpiryInterval=life)
    pub.publish(cast.topic("a"), b"end", top)
    # More than the short life.
    time.sleep(2.1)
    sleeper.open(clean=False)
    got = sleeper.until(b"end")
    assert [m.payload for m in got] == [b"60"] * top
    assert all(m.properties.MessageExpiryInterval in (57, 58) for m in got)


def test_no_local_brings_a_client_nothing_of_its_own(cast):
    one, other = cast.client("one").open(), cast.client("other").open()
    for client in (one, other):
        client.subscribe((cast.topic("a"), SubscribeOptions(1, noLocal=True)))
    one.publish(cast.topic("a"), b"of one")
    assert other.take().payload == b"of one"
    other.publish(cast.topic("a"), b"of the other")
    assert one.take().payload == b"of the other"


def test_retain_as_published_shows_what_was_published(cast):
    client = cast.client("c").open()
    client.subscribe((cast.topic("a"), SubscribeOptions(1, retainAsPublished=True)))
    for retain in (False, True):
        client.publish(cast.topic("a"), b"x", retain=retain)
        assert client.take().retain == retain


def test_retain_handling_says_when_retained_messages_come(cast):
    client = cast.client("c").open()
    for n in range(3):
        client.publish(cast.topic(f"a/{n}"), b"kept", retain=True)

    def gets(handling):
        client.subscribe((cast.topic("+/+"), SubscribeOptions(1, retainHandling=handling)))
        client.publish(cast.topic("x/x"), b"end")
        return len(client.until(b"end"))

    for handling, times in ((1, [3, 0]), (2, [0, 0]), (0, [3, 3])):
        assert [gets(handling) for _ in times] == times
        client.leave()
        client.open()
