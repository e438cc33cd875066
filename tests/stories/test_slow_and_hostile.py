"""Clients that do not read, do not write, or do too much: each hurts itself and nobody else."""

import socket
import threading
import time

import pytest
from conformance import websocket, wire, wire5
from harness import raw
from harness.ports import free_port
from harness.wait import until

# Small buffers, so that a test fills them at once.
SMALL = {"max_outbox_messages": 50, "max_outbox_bytes": "256KiB", "max_inflight": 10}
LARGE = b"x" * 10_000
# More than the sockets of both ends and the buffers between them hold.
MANY = 3_000


@pytest.fixture
def small(daemon):
    return daemon(config={"broker": SMALL}).start()


def device(gateway, client_id, make=wire.Client, **how):
    client = make(gateway.ports["mqtt"])
    client.connect(client_id, **how)
    return client


def subscriber(gateway, client_id, topic, qos, make=wire.Client, **how):
    client = device(gateway, client_id, make, **how)
    assert client.subscribe((topic, qos)) == [qos]
    return client


def dropped(gateway, reason):
    status, text = gateway.admin("/metrics")
    assert status == 200
    [line] = [one for one in text.splitlines()
              if one.startswith(f'iotedge_dropped_total{{reason="{reason}"}}')]
    return int(line.split()[-1])


def flood(publisher, topic, qos=0, count=MANY):
    """Publishes `count` large messages, each with its number, and is answered for all of them."""
    step = 10
    for first in range(0, count, step):
        numbers = range(first, first + step)
        publisher.send(*[
            raw.publish(topic, str(n).encode() + b" " + LARGE, qos, n % 65535 + 1) for n in numbers
        ])
        if qos:
            for _ in numbers:
                publisher.await_packet(wire.PUBACK)
    publisher.ping()


def number(message):
    return int(message.payload.split()[0])


def test_a_subscriber_that_does_not_read_loses_qos_0_and_nobody_else_does(small):
    slow = subscriber(small, "slow", "t", 0)
    good, got = subscriber(small, "good", "t", 0), []
    reads = threading.Thread(target=lambda: got.extend(number(good.take()) for _ in range(MANY)))
    reads.start()
    publisher = device(small, "publisher")
    flood(publisher, "t")
    reads.join(timeout=60)
    assert got == list(range(MANY)), "who reads gets everything, in order"
    assert dropped(small, "slow-consumer") > 0
    # What it missed is gone; it is connected, and what it gets is in order.
    publisher.send(raw.publish("t", b"-1 end"))
    seen = []
    while not seen or seen[-1] != -1:
        if len(seen) % 100 == 99:
            publisher.send(raw.publish("t", b"-1 end"))
        seen.append(number(slow.take()))
    assert len(seen) < MANY and seen[:-1] == sorted(seen[:-1])
    slow.ping()


@pytest.mark.parametrize("make", [wire.Client, wire5.Client])
def test_a_session_that_ends_with_its_connection_and_does_not_read_qos_1_is_closed(small, make):
    slow = subscriber(small, "slow", "t", 1, make)
    good, got = subscriber(small, "good", "t", 1), []
    reads = threading.Thread(target=lambda: got.extend(number(good.take()) for _ in range(500)))
    reads.start()
    flood(device(small, "publisher"), "t", qos=1, count=500)
    reads.join(timeout=60)
    assert got == list(range(500)), "who reads gets everything, in order"
    small.log_explains("disconnected", "slow", "SLOW_CONSUMER")
    said = slow.closed()
    if make is wire5.Client:
        last = said.pop()
        assert (last.kind, last.code) == (wire.DISCONNECT, 0x97)
        assert "buffer is full" in last.one(wire5.REASON_STRING)
    assert {one.kind for one in said} <= {wire.PUBLISH} and len(said) < 500


def test_a_lasting_session_that_does_not_read_finds_all_of_qos_1_later(small):
    slow = subscriber(small, "slow", "t", 1, clean=False)
    flood(device(small, "publisher"), "t", qos=1, count=500)
    assert [number(slow.take()) for _ in range(500)] == list(range(500))
    assert dropped(small, "slow-consumer") == dropped(small, "queue-full") == 0


def test_a_full_queue_drops_the_newest_and_counts_them(daemon):
    gateway = daemon(config={"broker": {"max_queued_messages": 10}}).start()
    subscriber(gateway, "away", "t", 1, clean=False).leave()
    publisher = device(gateway, "publisher")
    for n in range(15):
        publisher.publish("t", str(n).encode())
    assert dropped(gateway, "queue-full") == 5
    back = device(gateway, "away", clean=False)
    assert [number(back.take()) for _ in range(10)] == list(range(10))
    back.ping()
    publisher.publish("t", b"15")
    assert number(back.take()) == 15, "with room again"


def test_a_full_queue_of_bytes_is_full_too(daemon):
    gateway = daemon(config={"broker": {"max_queued_bytes": "50kB"}}).start()
    subscriber(gateway, "away", "t", 1, clean=False).leave()
    publisher = device(gateway, "publisher")
    for n in range(10):
        publisher.publish("t", str(n).encode() + b" " + LARGE)
    lost = dropped(gateway, "queue-full")
    assert 4 <= lost <= 6
    back = device(gateway, "away", clean=False)
    assert [number(back.take()) for _ in range(10 - lost)] == list(range(10 - lost))


def test_a_socket_that_stays_full_is_closed(daemon):
    gateway = daemon(config={"broker": {**SMALL, "write_timeout": "1s"}}).start()
    slow = subscriber(gateway, "slow", "t", 0)
    publisher = device(gateway, "publisher")
    flood(publisher, "t")
    gateway.log_explains("disconnected", "slow", "SLOW_CONSUMER")
    publisher.ping()
    slow.close()


def test_a_client_that_writes_and_does_not_read_is_read_no_further(small):
    """Its own echo fills its socket, and TCP stops it. What it holds here stays small."""
    greedy = subscriber(small, "greedy", "t", 0)
    greedy._socket.settimeout(3)
    sent = 0
    with pytest.raises(TimeoutError):
        for _ in range(100_000):
            greedy._socket.sendall(raw.publish("t", LARGE))
            sent += len(LARGE)
    assert sent < 100_000_000
    other = subscriber(small, "other", "u", 1)
    other.publish("u", b"0")
    assert number(other.take()) == 0


def test_unacknowledged_bytes_stop_the_reading_and_the_keep_alive_waits(daemon):
    """A commit takes two seconds, more than the keep-alive allows a client to be silent."""
    config = {"broker": {"max_inflight_bytes": "32KiB"}, "store": {"sync": "2s"}}
    gateway = daemon(config=config).start()
    subscriber(gateway, "away", "t", 1, clean=False).leave()
    publisher = device(gateway, "publisher", keep_alive=1)
    kib = b"x" * 1024
    publisher.send(*[raw.publish("t", kib, 1, n) for n in range(1, 65)])
    for n in range(1, 65):
        assert publisher.expect(wire.PUBACK).packet_id == n
        if n == 32:
            half = time.monotonic()
    # The other half was not read before the first was committed.
    assert time.monotonic() - half > 1.5
    # Now it is read, and its silence is its own.
    publisher.closed()
    gateway.log_explains("disconnected", "publisher", "MQTT_KEEP_ALIVE_TIMEOUT")


def test_who_says_nothing_or_half_a_connect_is_closed(daemon):
    gateway = daemon(config={"broker": {"connect_timeout": "1s"}}).start()
    for said in (b"", raw.connect("half")[:-1], b"\x10"):
        link = raw.Connection(gateway.ports["mqtt"])
        link.send(said)
        assert link.closed(deadline=5) == []
    # One byte at a time is no way to stay.
    link = raw.Connection(gateway.ports["mqtt"])
    with pytest.raises((raw.Closed, OSError)):
        for byte in raw.connect("drip" * 100):
            link.send(bytes([byte]))
            try:
                link.receive(deadline=0.05)
            except TimeoutError:
                pass


def test_silent_handshakes_do_not_hold_up_others(gateway):
    silent = [socket.create_connection(("127.0.0.1", gateway.ports["mqtts"])) for _ in range(50)]
    identity = gateway.cert("quick")
    with raw.Connection(gateway.ports["mqtts"], identity) as link:
        link.send(raw.connect("quick"))
        assert link.expect(raw.CONNACK).code == 5, "it may do nothing, and is told at once"
    for one in silent:
        one.close()


def test_one_client_more_than_there_may_be(daemon):
    gateway = daemon(config={"broker": {"max_connections": 2, "max_sessions": 2}}).start()
    clients = [device(gateway, f"c{n}") for n in range(2)]
    over = wire5.Client(gateway.ports["mqtt"])
    over.send(wire5.connect("over"))
    # The listener has the same limit by default, and closes what comes at once.
    assert over.closed() == []
    clients.pop().leave()

    def fits():
        with raw.Connection(gateway.ports["mqtt"]) as link:
            try:
                link.connect("again")
            except raw.Closed:
                return False
            return True

    until(fits, "there is room again", 5)


def test_one_client_more_than_the_broker_takes(daemon):
    gateway = daemon(
        config={"broker": {"max_connections": 2}}, listener={"max_connections": 10}
    ).start()
    clients = [device(gateway, f"c{n}") for n in range(2)]
    over = wire5.Client(gateway.ports["mqtt"])
    over.send(wire5.connect("over"))
    [answer] = over.closed()
    assert (answer.kind, answer.code) == (wire.CONNACK, 0x97)
    assert "max_connections" in answer.one(wire5.REASON_STRING)
    old = wire.Client(gateway.ports["mqtt"])
    old.send(wire.connect("over"))
    [answer] = old.closed()
    assert answer.code == 3
    # One that takes a client id over is not one more.
    device(gateway, "c0").ping()
    clients[1].ping()


def test_a_websocket_lasts_as_long_as_it_may(daemon):
    gateway = daemon(config={"broker": {"max_websocket_duration": "1s"}})
    port = free_port()
    gateway.config["listener"].append({
        "protocol": "ws", "address": f"127.0.0.1:{port}", "auth": "anonymous", "policy": "open",
    })
    gateway.write()
    gateway.start()
    lasting = device(gateway, "lasting")
    for make in (websocket.Client, websocket.Client5):
        client = make(port)
        client.connect("c")
        client.ping()
        said = client.closed(deadline=3)
        if make is websocket.Client5:
            [end] = said
            assert (end.kind, end.code) == (wire.DISCONNECT, 0xA0)
            assert "max_websocket_duration" in end.one(wire5.REASON_STRING)
        gateway.log_explains("disconnected", "WEBSOCKET_TTL_EXPIRATION")
    lasting.ping()


def test_one_session_more_than_the_broker_keeps(daemon):
    gateway = daemon(config={"broker": {"max_sessions": 2}}).start()
    for n in range(2):
        device(gateway, f"s{n}", clean=False).leave()
    old = wire.Client(gateway.ports["mqtt"])
    old.send(wire.connect("s2", clean=False))
    [answer] = old.closed()
    assert answer.code == 3
    assert device(gateway, "s1", clean=False).session_present
    device(gateway, "s2").ping()


def test_retained_messages_have_their_limits(daemon):
    broker = {"retained_max": 2, "retained_max_bytes": "25kB"}
    gateway = daemon(config={"broker": broker}).start()
    client = device(gateway, "c", wire5.Client)
    assert client.publish("a", b"1", retain=True) < 0x80
    assert client.publish("b", b"1", retain=True) < 0x80
    assert client.publish("c", b"1", retain=True) == 0x97, "one more"
    assert client.publish("c", b"1") < 0x80, "not retained"
    assert client.publish("a", b"2", retain=True) < 0x80, "in the place of another"
    assert client.publish("b", b"", retain=True) < 0x80
    assert client.publish("c", LARGE, retain=True) < 0x80
    assert client.publish("a", LARGE, retain=True) < 0x80
    assert client.publish("a", LARGE * 2, retain=True) == 0x97, "too many bytes"
    old = device(gateway, "old")
    old.send(raw.publish("d", b"1", 1, 1, True))
    old.thrown_out()
