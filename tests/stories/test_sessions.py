"""What a session, a retained message and a will promise, deaths of the process included."""

import pytest

from harness import raw
from harness.clients import Client


def dial(gateway, client_id, **how):
    link = raw.Connection(gateway.ports["mqtt"])
    answer = link.connect(client_id, **how)
    return link, answer.session_present


def publish(gateway, topic, payload=b"", **how):
    """One QoS 1 message, acknowledged."""
    with raw.Connection(gateway.ports["mqtt"]) as link:
        link.connect("one-shot")
        link.send(raw.publish(topic, payload, qos=1, **how))
        link.expect(raw.PUBACK)


def take(link):
    """The next message, acknowledged."""
    got = link.expect(raw.PUBLISH)
    if got.qos:
        link.send(raw.puback(got.packet_id))
    return got


def offline_session(gateway, client_id, *filters):
    """A persistent session without a connection."""
    link, _ = dial(gateway, client_id, clean=False)
    with link:
        assert link.subscribe(*filters) == [q for _, q in filters]


def test_a_message_acknowledged_before_the_kill_comes_after_it(gateway):
    offline_session(gateway, "sleeper", ("jobs/#", 1))
    with raw.Connection(gateway.ports["mqtt"]) as link:
        link.connect("boss")
        for n in range(200):
            link.send(raw.publish(f"jobs/{n % 3}", b"%d" % n, qos=1, packet_id=n + 1))
        acked = [link.expect(raw.PUBACK).packet_id for _ in range(200)]
        gateway.kill()
    assert acked == list(range(1, 201))
    gateway.start()
    link, present = dial(gateway, "sleeper", clean=False)
    with link:
        assert present
        got = [take(link) for _ in range(200)]
    assert [int(p.payload) for p in got] == list(range(200))
    assert {p.qos for p in got} == {1}
    assert not any(p.retain for p in got)


def test_killed_between_puback_and_delivery_to_a_live_client(gateway):
    """The taker is connected but has not acknowledged: after the kill it gets the message again."""
    taker, _ = dial(gateway, "taker", clean=False)
    with taker:
        assert taker.subscribe(("t", 1)) == [1]
        with raw.Connection(gateway.ports["mqtt"]) as link:
            link.connect("giver")
            link.send(raw.publish("t", b"once more", qos=1))
            link.expect(raw.PUBACK)
            gateway.kill()
    gateway.start()
    taker, present = dial(gateway, "taker", clean=False)
    with taker:
        assert present
        got = take(taker)
        assert got.payload == b"once more"
        taker.ping()
    # Acknowledged now: gone for good.
    gateway.restart()
    taker, present = dial(gateway, "taker", clean=False)
    with taker:
        assert present
        taker.ping()


def test_subscriptions_survive_a_kill(gateway):
    offline_session(gateway, "sleeper", ("a/+", 1), ("b/#", 0))
    gateway.kill()
    gateway.start()
    publish(gateway, "a/1", b"x")
    link, present = dial(gateway, "sleeper", clean=False)
    with link:
        assert present
        assert take(link).topic == "a/1"
        publish(gateway, "b/1/2", b"y")
        got = take(link)
        assert (got.topic, got.qos) == ("b/1/2", 0)


def test_what_was_not_acknowledged_comes_again_with_dup_and_its_packet_id(gateway):
    link, _ = dial(gateway, "slow", clean=False)
    with link:
        assert link.subscribe(("t", 1)) == [1]
        for n in range(5):
            publish(gateway, "t", b"%d" % n)
        first = [link.expect(raw.PUBLISH) for _ in range(5)]
        link.send(raw.puback(first[0].packet_id), raw.puback(first[1].packet_id))
        link.ping()
    link, present = dial(gateway, "slow", clean=False)
    with link:
        assert present
        again = [link.expect(raw.PUBLISH) for _ in range(3)]
        assert [p.payload for p in again] == [b"2", b"3", b"4"]
        assert all(p.dup for p in again)
        assert [p.packet_id for p in again] == [p.packet_id for p in first[2:]]
        link.send(*(raw.puback(p.packet_id) for p in again))
        link.ping()
    link, _ = dial(gateway, "slow", clean=False)
    with link:
        link.ping()


def test_a_clean_session_ends_the_old_one(gateway):
    offline_session(gateway, "who", ("t", 1))
    publish(gateway, "t", b"waiting")
    link, present = dial(gateway, "who", clean=True)
    with link:
        assert not present
        publish(gateway, "t", b"now")
        link.ping()
    link, present = dial(gateway, "who", clean=False)
    with link:
        assert not present
        link.ping()


def test_a_clean_session_does_not_outlive_its_connection(gateway):
    link, _ = dial(gateway, "fleeting", clean=True)
    with link:
        assert link.subscribe(("t", 1)) == [1]
    publish(gateway, "t", b"x")
    link, present = dial(gateway, "fleeting", clean=False)
    with link:
        assert not present
        link.ping()


def test_an_unsubscribed_filter_stays_away_after_a_kill(gateway):
    link, _ = dial(gateway, "s", clean=False)
    with link:
        assert link.subscribe(("t", 1), ("u", 1)) == [1, 1]
        link.send(raw.unsubscribe(["t"], packet_id=9))
        assert link.expect(raw.UNSUBACK).packet_id == 9
    gateway.kill()
    gateway.start()
    publish(gateway, "t", b"no")
    publish(gateway, "u", b"yes")
    link, present = dial(gateway, "s", clean=False)
    with link:
        assert present
        assert take(link).topic == "u"
        link.ping()


def test_a_retained_message_survives_a_kill(gateway):
    publish(gateway, "state/a", b"1", retain=True)
    publish(gateway, "state/a", b"2", retain=True)
    publish(gateway, "state/b", b"3", retain=True)
    publish(gateway, "state/b", b"", retain=True)
    gateway.kill()
    gateway.start()
    link, _ = dial(gateway, "late")
    with link:
        assert link.subscribe(("state/#", 1)) == [1]
        got = take(link)
        assert (got.topic, got.payload, got.retain, got.qos) == ("state/a", b"2", True, 1)
        link.ping()
        # An established subscription gets the next one without the flag.
        publish(gateway, "state/a", b"4", retain=True)
        got = take(link)
        assert (got.payload, got.retain) == (b"4", False)


def test_a_will_is_sent_when_the_link_is_lost_and_only_then(gateway):
    watch, _ = dial(gateway, "watch")
    with watch:
        assert watch.subscribe(("wills/#", 1)) == [1]
        link, _ = dial(gateway, "mortal", will=("wills/mortal", b"lost", 1, True))
        link.close()
        got = take(watch)
        assert (got.topic, got.payload, got.retain) == ("wills/mortal", b"lost", False)
        link, _ = dial(gateway, "polite", will=("wills/polite", b"never", 1, False))
        with link:
            link.send(raw.disconnect())
            assert link.closed() == []
        publish(gateway, "wills/marker", b"m")
        assert take(watch).topic == "wills/marker"
    late, _ = dial(gateway, "late")
    with late:
        assert late.subscribe(("wills/mortal", 1)) == [1]
        assert take(late).retain


def test_a_will_is_sent_when_keep_alive_passes(gateway):
    watch, _ = dial(gateway, "watch")
    with watch:
        assert watch.subscribe(("wills/#", 1)) == [1]
        silent, _ = dial(gateway, "silent", keep_alive=1, will=("wills/silent", b"asleep", 0, False))
        with silent:
            assert take(watch).payload == b"asleep"
            assert silent.closed() == []


def test_a_will_is_sent_for_a_protocol_error(gateway):
    watch, _ = dial(gateway, "watch")
    with watch:
        assert watch.subscribe(("wills/#", 1)) == [1]
        rude, _ = dial(gateway, "rude", will=("wills/rude", b"kicked", 0, False))
        with rude:
            rude.send(raw.publish("a/#", b"x"))
            assert rude.closed() == []
        assert take(watch).payload == b"kicked"


def test_a_newer_connection_takes_the_client_id_over(gateway):
    old, _ = dial(gateway, "twin", clean=False)
    with old:
        assert old.subscribe(("t", 1)) == [1]
        new, present = dial(gateway, "twin", clean=False)
        with new:
            assert present
            assert old.closed() == []
            publish(gateway, "t", b"for the new one")
            assert take(new).payload == b"for the new one"


def test_a_taken_over_connection_sends_its_will(gateway):
    watch, _ = dial(gateway, "watch")
    with watch:
        assert watch.subscribe(("wills/#", 1)) == [1]
        old, _ = dial(gateway, "twin", will=("wills/twin", b"replaced", 1, False))
        with old:
            new, _ = dial(gateway, "twin")
            with new:
                assert old.closed() == []
                assert take(watch).payload == b"replaced"


def test_deliveries_keep_the_lower_qos_and_the_order(gateway):
    link, _ = dial(gateway, "reader")
    with link:
        assert link.subscribe(("low/#", 0), ("high/#", 1)) == [0, 1]
        with raw.Connection(gateway.ports["mqtt"]) as writer:
            writer.connect("writer")
            for n in range(100):
                writer.send(raw.publish("low/t", b"%d" % n, qos=1, packet_id=n + 1))
                writer.send(raw.publish("high/t", b"%d" % n, qos=0))
            got = [take(link) for _ in range(200)]
    low = [p for p in got if p.topic == "low/t"]
    high = [p for p in got if p.topic == "high/t"]
    assert [int(p.payload) for p in low] == list(range(100))
    assert [int(p.payload) for p in high] == list(range(100))
    assert {p.qos for p in got} == {0}


def test_wildcards_leave_dollar_topics_out(gateway):
    link, _ = dial(gateway, "all")
    with link:
        assert link.subscribe(("#", 0), ("+/x", 0), ("a/+/c", 0)) == [0, 0, 0]
        publish(gateway, "$aws/things/x/shadow/get")
        publish(gateway, "a/b/c", b"yes")
        got = take(link)
        assert got.topic == "a/b/c"
    with raw.Connection(gateway.ports["mqtt"]) as link:
        link.connect("intruder")
        link.send(raw.publish("$aws/other", b"reserved", qos=1))
        assert link.closed() == []


def test_overlapping_filters_deliver_with_the_higher_qos(gateway):
    link, _ = dial(gateway, "both")
    with link:
        assert link.subscribe(("t/#", 0), ("t/+", 1)) == [0, 1]
        publish(gateway, "t/1", b"x")
        got = [take(link)]
        publish(gateway, "end", b"x")
        link.ping()
    assert 1 in {p.qos for p in got}


@pytest.mark.parametrize("sync", ["full", "50ms"])
def test_an_acknowledgement_waits_for_the_commit(daemon, sync):
    """Whatever the linger, what was acknowledged is there after a kill."""
    gateway = daemon(config={"store": {"sync": sync}}).start()
    offline_session(gateway, "keeper", ("t", 1))
    with raw.Connection(gateway.ports["mqtt"]) as link:
        link.connect("giver")
        link.send(*(raw.publish("t", b"%d" % n, qos=1, packet_id=n + 1) for n in range(500)))
        acked = []
        while len(acked) < 250:
            acked.append(link.expect(raw.PUBACK).packet_id)
        gateway.kill()
        try:
            while True:
                acked.append(link.expect(raw.PUBACK).packet_id)
        except raw.Closed:
            pass
    gateway.start()
    keeper, present = dial(gateway, "keeper", clean=False)
    with keeper:
        assert present
        got = [int(take(keeper).payload) for _ in range(len(acked))]
    assert got == list(range(len(acked)))


def test_a_session_of_paho_goes_on(gateway):
    first = Client("app", gateway.ports["mqtt"], clean=False).connect()
    assert first.session_present is False
    first.subscribe("t", 1)
    first.disconnect()
    publish(gateway, "t", b"1")
    gateway.restart()
    publish(gateway, "t", b"2")
    second = Client("app", gateway.ports["mqtt"], clean=False).connect()
    assert second.session_present is True
    assert [m.payload for m in second.collect(2)] == [b"1", b"2"]
    second.disconnect()
