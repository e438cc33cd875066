"""An upstream that breaks the protocol, or stops in the middle of it: nothing is lost, the order
holds, and it goes on as soon as the upstream behaves."""

import struct

import pytest
from far.broker import Cut
from far.gateway import ROUTE, balanced, config, knock, numbered, numbers, publish
from harness import raw
from harness.wait import until

COUNT = 30


def settle(gateway, broker, count=COUNT, **how):
    """The upstream behaves: everything arrives, in order, and the books balance."""
    broker.behave()
    knock(gateway)
    broker.wait_count(count, **how)
    assert numbers(broker.firsts()) == list(range(count))
    route = until(lambda: (r := gateway.route("cloud"))["queued"] == 0 and r, "the queue is empty", every=0.1)
    assert route["delivered"] == count and balanced(route), route


def run(daemon, broker, count=COUNT, **upstream):
    gateway = daemon(config=config(broker.port, **upstream)).start()
    publish(gateway, numbered(0, count))
    return gateway


def test_no_puback_ever(daemon, far):
    """Nothing counts as delivered, and no more than the window is sent."""
    broker = far({raw.PUBLISH: lambda link, packet: link.keep(packet)})
    gateway = run(daemon, broker, count=150)
    broker.wait_count(100)
    assert gateway.route("cloud")["delivered"] == 0
    assert gateway.route("cloud")["queued"] == 150
    assert len(broker.got) == 100, "the window"
    settle(gateway, broker, 150)


def test_every_puback_twice(daemon, far):
    def twice(link, packet):
        link.keep(packet)
        link.send(raw.puback(packet.packet_id) * 2)

    broker = far({raw.PUBLISH: twice})
    gateway = run(daemon, broker)
    broker.wait(lambda b: b.got, "the first message")
    settle(gateway, broker)


def test_pubacks_with_a_wrong_id(daemon, far):
    """An acknowledgement of what was never sent acknowledges nothing."""
    def wrong(link, packet):
        link.keep(packet)
        link.send(raw.puback(packet.packet_id + 1000))

    broker = far({raw.PUBLISH: wrong})
    gateway = run(daemon, broker)
    broker.wait_connects(2)
    route = gateway.route("cloud")
    assert route["delivered"] == 0 and route["queued"] == COUNT, route
    settle(gateway, broker)


def test_a_puback_with_id_0(daemon, far):
    def zero(link, packet):
        link.keep(packet)
        link.send(raw.puback(0))

    broker = far({raw.PUBLISH: zero})
    gateway = run(daemon, broker)
    broker.wait_connects(2)
    assert gateway.route("cloud")["delivered"] == 0
    settle(gateway, broker)


@pytest.mark.parametrize("kind,name", [
    (raw.CONNECT, "CONNECT"), (raw.SUBSCRIBE, "SUBSCRIBE"), (raw.PUBLISH, "PUBLISH"),
    (raw.PUBACK, "PUBACK"), (raw.PINGREQ, "PINGREQ"),
])
def test_disconnect_at_each_packet(daemon, far, kind, name):
    """It takes the packet and closes, three times in a row, then behaves."""
    closed = []

    def close(link, packet):
        if len(closed) == 3:
            link.usual(packet)
            return
        closed.append(link.number)
        raise Cut

    broker = far({kind: close})
    inbound = {"direction": "in", "filter": "down/#", "qos": 1}
    gateway = daemon(config=config(broker.port, ROUTE, inbound, keep_alive=5)).start()
    publish(gateway, numbered(0, COUNT))
    for n in range(3):
        broker.deliver("down/x", b"%d" % n)
    for n in range(1, 4):
        broker.wait(lambda b, n=n: len(closed) >= n, f"{name} for the time {n}")
        knock(gateway)
    settle(gateway, broker)
    broker.wait(lambda b: not b.outbox, "what came down is acknowledged")


@pytest.mark.slow
def test_a_message_that_it_closes_on_is_a_dead_letter_with_its_reason(daemon, far):
    """As a 3.1.1 server does with what a policy forbids. The others go on, and in the end it is kept
    aside."""
    closed = []

    def close(link, packet):
        if packet.topic == "t/forbidden":
            closed.append(link.count[raw.PUBLISH])
            raise Cut
        link.usual(packet)

    broker = far({raw.PUBLISH: close})
    gateway = daemon(config=config(broker.port)).start()
    publish(gateway, [("t/forbidden", b"no"), *numbered(0, COUNT)])
    count = COUNT

    def given_up():
        """It is; until then others come, as they do in a life."""
        nonlocal count
        state = gateway.link("cloud")["state"]
        if state == "connected":
            publish(gateway, numbered(count, count + 10))
            count += 10
        elif state == "backing-off":
            # What is measured out here are the pauses of the suspect, not those of the link.
            gateway.ctl_ok("bridge", "resume", "cloud")
        return gateway.route("cloud")["dropped"]

    until(given_up, "it is given up", 120, every=0.2)
    route = until(lambda: (r := gateway.route("cloud"))["queued"] == 0 and r, "the queue is empty", every=0.1)
    assert route["dropped"] == {"upstream-refused": 1} and balanced(route), route
    assert numbers(broker.firsts("t/x")) == list(range(count))
    assert closed[-1] == 1, "it went alone"

    def kept():
        letters = gateway.ctl_ok("bridge", "dead-letters", "list")
        return "t/forbidden" in letters and "connection is lost each time" in letters

    until(kept, "the letter is in the file")


@pytest.mark.parametrize("code,state", [
    (1, "misconfigured"), (2, "misconfigured"), (3, "backing-off"), (4, "misconfigured"),
    (5, "misconfigured"), (99, "backing-off"),
])
def test_connect_refused_with_each_code(daemon, far, code, state):
    def refuse(link, packet):
        link.send(raw.packet(raw.CONNACK, 0, bytes([0, code])))
        raise Cut

    broker = far({raw.CONNECT: refuse})
    gateway = run(daemon, broker)
    link = gateway.wait_link("cloud", state)
    if code < 6:
        assert f"CONNACK {code}" in link["reason"], link
    assert link["next_retry"], link
    assert not broker.got
    settle(gateway, broker)
    gateway.wait_link("cloud")


def test_suback_failure_is_told_and_holds_nothing_up(daemon, far):
    def fail(link, packet):
        link.send(raw.packet(raw.SUBACK, 0, packet.body[:2] + b"\x80"))

    broker = far({raw.SUBSCRIBE: fail})
    inbound = {"direction": "in", "filter": "down/#", "qos": 1}
    gateway = daemon(config=config(broker.port, ROUTE, inbound)).start()
    link = gateway.wait_link("cloud", "misconfigured")
    assert "down/#" in link["reason"], link
    publish(gateway, numbered(0, COUNT))
    broker.wait_count(COUNT)
    settle(gateway, broker)
    gateway.wait_link("cloud")


GARBAGE = {
    "a packet type that is reserved": b"\xf0\x00",
    "a length that does not end": b"\x40\xff\xff\xff\xff\xff",
    "a PUBACK of one byte": b"\x40\x01\x00",
    "an HTTP answer": b"HTTP/1.1 502 Bad Gateway\r\n\r\n",
    "a PUBLISH of QoS 3": b"\x36\x05\x00\x01a\x00\x01",
    "a topic that is no UTF-8": b"\x32\x06\x00\x02\xff\xfe\x00\x01",
    "a second CONNACK": b"\x20\x02\x00\x00",
    "a SUBACK for nothing": b"\x90\x03\x00\x63\x00",
    "a PUBREC": b"\x50\x02\x00\x01",
    "a PUBCOMP": b"\x70\x02\x00\x01",
    "a PUBREL": b"\x62\x02\x00\x09",
    "a PUBLISH whose topic is longer than itself": b"\x32\x05\x00\xff\x41\x00\x01",
    "a CONNECT": raw.connect("you"),
}


@pytest.mark.parametrize("what", GARBAGE)
def test_garbage_in_place_of_a_puback(daemon, far, what):
    """The gateway lives; at most this connection ends; nothing is taken for delivered."""
    def garbage(link, packet):
        link.keep(packet)
        if link.count[raw.PUBLISH] == 1:
            link.send(GARBAGE[what])

    broker = far({raw.PUBLISH: garbage})
    gateway = run(daemon, broker)
    broker.wait(lambda b: b.got, "the first message")
    assert gateway.route("cloud")["delivered"] == 0
    settle(gateway, broker)
    assert "panicked" not in gateway.process.log
    gateway.stop()


@pytest.mark.parametrize("what", ["garbage", "nothing", "half a CONNACK", "a PUBLISH"])
def test_garbage_in_place_of_a_connack(daemon, far, what):
    answers = {
        "garbage": b"SSH-2.0-OpenSSH_9.2\r\n", "nothing": b"", "half a CONNACK": b"\x20\x02\x00",
        "a PUBLISH": raw.publish("t/x", b"", 0),
    }
    broker = far({raw.CONNECT: lambda link, packet: link.send(answers[what])})
    gateway = run(daemon, broker)
    broker.wait_connects(1)
    assert gateway.link("cloud")["state"] != "connected"
    settle(gateway, broker, deadline=60)


def test_oversized_packets_from_upstream(daemon, far):
    """What is announced as larger than anything we take is neither awaited nor held in memory."""
    def huge(link, packet):
        link.keep(packet)
        # 200 MB are to come, by its word.
        link.send(b"\x30" + raw.length(200_000_000) + raw.text("down/x") + b"x" * 1000)

    broker = far({raw.PUBLISH: huge})
    gateway = run(daemon, broker)
    broker.wait(lambda b: b.got, "the first message")
    settle(gateway, broker, deadline=60)


def test_a_message_larger_than_the_broker_takes_comes_once_and_is_counted(daemon, far):
    broker = far()
    inbound = {"direction": "in", "filter": "down/#", "qos": 1}
    gateway = daemon(config={
        **config(broker.port, inbound), "broker": {"max_packet_bytes": "64KiB"},
    }).start()
    gateway.wait_link("cloud")
    with raw.Connection(gateway.ports["mqtt"]) as near:
        near.connect("near")
        near.subscribe(("down/#", 1))
        broker.deliver("down/large", b"x" * 100_000)
        broker.deliver("down/small", b"y")
        assert near.expect(raw.PUBLISH).topic == "down/small"
    broker.wait(lambda b: not b.outbox, "both are acknowledged")
    assert gateway.route("cloud", "in")["dropped"] == {"too-large": 1}
    assert len(broker.connects) == 1


def test_what_comes_down_twice_in_one_connection_is_acknowledged_twice(daemon, far):
    """A server that repeats itself is not left without an answer."""
    broker = far()
    inbound = {"direction": "in", "filter": "down/#", "qos": 1}
    gateway = daemon(config=config(broker.port, inbound)).start()
    gateway.wait_link("cloud")
    acked = []
    broker.answers[raw.PUBACK] = lambda link, packet: acked.append(packet.packet_id)
    with broker.news:
        link = broker._links[-1]
        link.send(raw.publish("down/x", b"a", 1, 7) + raw.publish("down/x", b"a", 1, 7, dup=True))
        link.flush()
    broker.wait(lambda b: acked == [7, 7], "both are acknowledged")


def test_an_unsubscribed_topic_is_acknowledged_and_not_let_in(daemon, far):
    broker = far()
    inbound = {"direction": "in", "filter": "down/#", "qos": 1}
    gateway = daemon(config=config(broker.port, inbound)).start()
    gateway.wait_link("cloud")
    with raw.Connection(gateway.ports["mqtt"]) as near:
        near.connect("near")
        near.subscribe(("#", 1))
        broker.deliver("secret/x", b"no")
        broker.deliver("down/x", b"yes")
        assert near.expect(raw.PUBLISH).topic == "down/x"
    broker.wait(lambda b: not b.outbox, "both are acknowledged")


def test_a_suback_for_another_packet_id_does_not_count(daemon, far):
    """The connection is not called up by it, or it is made anew: the subscription stands in the end."""
    def other(link, packet):
        number = struct.unpack(">H", packet.body[:2])[0]
        link.send(raw.packet(raw.SUBACK, 0, struct.pack(">H", number + 500) + b"\x01"))

    broker = far({raw.SUBSCRIBE: other})
    inbound = {"direction": "in", "filter": "down/#", "qos": 1}
    gateway = daemon(config=config(broker.port, ROUTE, inbound)).start()
    broker.wait(lambda b: b.connects, "a connection")
    publish(gateway, numbered(0, COUNT))
    settle(gateway, broker)
    gateway.wait_link("cloud")
