"""What 3.1.1 and 5 have in common."""

import pytest
from conformance import real
from conformance.marks import not_mosquitto

# The highest QoS of a scenario.
TOP = [1, 2]
# How a client of each version asks for a session that outlives its connection.
LASTING = {4: {"clean": False}, 5: {"clean": False, "SessionExpiryInterval": 3600}}

pytestmark = pytest.mark.parametrize("version", [4, 5], ids=["v311", "v5"])


@pytest.mark.parametrize("top", TOP)
def test_a_client_gets_what_it_publishes_itself(cast, version, top):
    client = cast.client("c", version).open()
    assert not client.session_present
    client.leave()
    client.open()
    assert client.subscribe((cast.topic("a"), top)) == [top]
    for qos in range(top + 1):
        client.publish(cast.topic("a"), b"%d" % qos, qos)
    got = [client.take() for _ in range(top + 1)]
    assert sorted((m.payload, m.qos) for m in got) == [(b"%d" % q, q) for q in range(top + 1)]


@pytest.mark.parametrize("top", TOP)
def test_retained_messages_come_to_a_wildcard_until_they_are_cleared(cast, version, top):
    client = cast.client("c", version).open()
    names = ["a/b", "c/d", "e/f"][: top + 1]
    for qos, name in enumerate(names):
        client.publish(cast.topic(name), b"qos %d" % qos, qos, retain=True)
    client.subscribe((cast.topic("+/+"), top))
    got = [client.take() for _ in names]
    assert sorted((m.payload, m.qos, m.retain) for m in got) == [
        (b"qos %d" % qos, qos, True) for qos in range(top + 1)
    ]
    client.leave()
    client.open()
    for qos, name in enumerate(names):
        client.publish(cast.topic(name), b"", qos, retain=True)
    client.subscribe((cast.topic("+/+"), top))
    client.publish(cast.topic("x/end"), b"end")
    assert client.until(b"end") == []


def test_every_retained_message_can_be_cleaned_away(cast, version):
    """By somebody who takes everything there is, and knows nothing of it."""
    client = cast.client("c", version).open()
    for n in range(100):
        client.send(cast.topic(f"{n}"), b"x", 1, retain=True)
    client.publish(cast.topic("last"), b"end", retain=True)
    cleaner = cast.client("cleaner", version).open()
    cleaner.subscribe((cast.topic("#"), 0))
    for _ in range(101):
        cleaner.publish(cleaner.take().topic, b"", 0, retain=True)
    # The answer to QoS 1 is behind all of them.
    cleaner.publish(cast.topic("done"), b"")
    late = cast.client("late", version).open()
    late.subscribe((cast.topic("#"), 0))
    client.publish(cast.topic("end"), b"end")
    assert late.until(b"end") == []


def test_a_client_without_an_id_is_taken(cast, version):
    client = cast.client("c", version)
    client.client_id = ""
    client.open()
    assert not client.session_present
    client.subscribe((cast.topic("a"), 1))
    client.publish(cast.topic("a"), b"x")
    assert client.take().payload == b"x"


@not_mosquitto("looks at keep alives every five seconds only")
def test_a_silent_client_is_thrown_out_and_its_will_goes_out(cast, version):
    watcher = cast.client("watcher", version).open(keep_alive=0)
    watcher.subscribe((cast.topic("will"), 1))
    silent = cast.client("silent", version)
    silent.open(keep_alive=1, will=(cast.topic("will"), b"gone", 1, False))
    silent.silence()
    got = watcher.take()
    assert (got.payload, got.qos, got.retain) == (b"gone", 1, False)


def test_a_lost_client_has_a_will(cast, version):
    watcher = cast.client("watcher", version).open()
    watcher.subscribe((cast.topic("will"), 1))
    cast.client("lost", version).open(will=(cast.topic("will"), b"lost", 1, False)).drop()
    assert watcher.take().payload == b"lost"


@pytest.mark.parametrize("top", TOP)
def test_messages_are_kept_for_a_client_that_is_away(cast, version, top):
    """Those of QoS 0 may be kept, or not."""
    sleeper = cast.client("sleeper", version).open(**LASTING[version])
    sleeper.subscribe((cast.topic("+/+"), top))
    sleeper.leave()
    other = cast.client("other", version).open()
    for qos in range(top + 1):
        other.publish(cast.topic(f"a/{qos}"), b"qos %d" % qos, qos)
    # A client hands on a message of QoS 2 when it is released, later than one of QoS 1.
    other.publish(cast.topic("a/end"), b"end", top)
    sleeper.open(**LASTING[version])
    assert sleeper.session_present
    got = [m.payload for m in sleeper.until(b"end")]
    assert [p for p in got if p != b"qos 0"] == [b"qos %d" % qos for qos in range(1, top + 1)]


@pytest.mark.parametrize("top", TOP)
def test_overlapping_subscriptions_bring_one_copy_or_one_each(cast, version, top):
    client = cast.client("c", version).open()
    client.subscribe((cast.topic("a/#"), top), (cast.topic("a/+"), 1))
    client.publish(cast.topic("a/b"), b"x", top)
    client.publish(cast.topic("a/b"), b"end", top)
    client.publish(cast.topic("a/b"), b"after")
    qoss = [m.qos for m in client.until(b"after") if m.payload == b"x"]
    assert qoss == [top] or sorted(qoss) == [1, top]


def test_what_was_not_acknowledged_comes_again(cast, version):
    sub = cast.client("sub", version, manual_ack=True).open(**LASTING[version])
    sub.subscribe((cast.topic("#"), 1))
    pub = cast.client("pub", version).open()
    for n in range(2):
        pub.publish(cast.topic("a"), b"%d" % n)
    assert [sub.take().dup for _ in range(2)] == [False, False]
    sub.drop()
    sub.open(**LASTING[version])
    assert sub.session_present
    again = [sub.take() for _ in range(2)]
    assert [(m.payload, m.dup) for m in again] == [(b"0", True), (b"1", True)]
    for message in again:
        sub.acknowledge(message)
    sub.leave()
    sub.open(**LASTING[version])
    pub.publish(cast.topic("a"), b"next")
    assert sub.until(b"next") == []


@not_mosquitto("an acl_file does not look at subscriptions")
def test_a_subscription_that_is_not_allowed_fails_alone(cast, version):
    client = cast.client("c", version, port=cast.broker.guarded_port).open()
    codes = client.subscribe(("test/nosubscribe", 1), ("open/scenes", 1))
    assert codes == [0x80 if version == 4 else 0x87, 1]


def test_wildcards_do_not_see_topics_with_a_dollar(cast, version):
    """Who names them gets them."""
    client = cast.client("c", version).open()
    client.subscribe(("#", 0), ("+/+/#", 0), (cast.topic("end"), 0))
    named = cast.client("named", version).open()
    named.subscribe((f"${cast.topic('#')}", 1))
    client.publish(f"${cast.topic('a')}", b"x")
    assert named.take().topic == f"${cast.topic('a')}"
    client.publish(cast.topic("end"), b"end")
    assert [m.topic for m in client.until(b"end") if m.topic.startswith("$")] == []


def test_unsubscribing_ends_one_subscription_and_no_other(cast, version):
    client = cast.client("c", version).open()
    for name in ("a", "a/b", "c"):
        client.subscribe((cast.topic(name), 1))
    client.unsubscribe(cast.topic("a"))
    other = cast.client("other", version).open()
    for name in ("a", "a/b", "c"):
        other.publish(cast.topic(name), name.encode())
    other.publish(cast.topic("c"), b"end")
    assert [m.payload for m in client.until(b"end")] == [b"a/b", b"c"]


def test_a_client_takes_its_own_place(cast, version):
    first = cast.client("same", version).open(**LASTING[version])
    first.subscribe((cast.topic("a"), 1))
    second = cast.client("same", version).open(**LASTING[version])
    assert first.ended.get(timeout=real.PATIENCE) != 0
    assert second.session_present
    second.publish(cast.topic("a"), b"x")
    assert second.take().payload == b"x"


def test_a_session_ends_with_a_clean_start(cast, version):
    client = cast.client("c", version).open(**LASTING[version])
    client.subscribe((cast.topic("a"), 1))
    client.leave()
    client.open()
    assert not client.session_present
    client.leave()
    client.open(**LASTING[version])
    assert not client.session_present


LENGTHS = {"1-byte": 1, "23-bytes": 23, "24-bytes": 24, "1000-bytes": 1000, "65535-bytes": 65535}


@pytest.mark.parametrize("length", LENGTHS.values(), ids=LENGTHS)
def test_a_client_id_may_be_of_any_length(cast, version, length):
    client = cast.client("c", version)
    client.client_id = "i" * length
    client.open().leave()


def test_a_client_id_may_have_any_character(cast, version):
    """Each printable one of ASCII, and some beyond."""
    for character in [chr(n) for n in range(0x20, 0x7F)] + ["é", "\u4e16", "\U0001f600", "\ufeff"]:
        client = cast.client("c", version)
        client.client_id = f"scene{version}{character}"
        client.open().leave()


def test_topics_and_payloads_may_be_long(cast, version):
    client = cast.client("c", version).open()
    topic = cast.topic("")
    topic += "t" * (65535 - len(topic))
    client.subscribe((topic, 1))
    for size in (0, 1, 127, 128, 16_383, 16_384, 65_535, 65_536, 1_000_000):
        client.publish(topic, bytes(size))
        got = client.take()
        assert (got.topic, len(got.payload)) == (topic, size)


@pytest.mark.parametrize("top", TOP)
def test_many_messages_come_each_once_and_in_order(cast, version, top):
    sub, pub = cast.client("sub", version).open(), cast.client("pub", version).open()
    sub.subscribe((cast.topic("a"), top))
    for n in range(1000):
        last = pub.send(cast.topic("a"), b"%d" % n, top)
    last.wait_for_publish(real.PATIENCE)
    assert [int(sub.take().payload) for _ in range(1000)] == list(range(1000))


def test_the_other_version_gets_it_too(cast, version):
    """What travels with a message gets lost only where there is no word for it."""
    other = 9 - version
    pub = cast.client("pub", version).open()
    sub = cast.client("sub", other).open(**LASTING[other])
    sub.subscribe((cast.topic("#"), 1))
    more = {"ContentType": "text/plain"} if version == 5 else {}
    pub.publish(cast.topic("a"), b"live", **more)
    got = sub.take()
    assert (got.payload, got.qos, got.retain) == (b"live", 1, False)
    sub.leave()
    pub.publish(cast.topic("a"), b"queued", retain=True, **more)
    sub.open(**LASTING[other])
    assert sub.take().payload == b"queued"
    sub.subscribe((cast.topic("+"), 0))
    assert sub.take().retain
