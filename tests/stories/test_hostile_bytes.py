"""Bytes that no client should send: that connection pays for them, and nobody else."""

import os
import socket
import struct

import pytest

from harness import raw
from harness.clients import Client
from harness.daemon import allow, rss_kib

EVERYTHING = allow((["iot:*"], ["*"]))


class Town:
    """A gateway on which others live their lives."""

    def __init__(self, gateway):
        self.gateway = gateway
        self.port = gateway.ports["mqtt"]
        self.identity = gateway.cert("citizen", policy="all")
        self.pid = gateway.process.pid
        self.open = Client("open", self.port).connect()
        self.secure = Client("secure", gateway.ports["mqtts"], identity=self.identity).connect()
        for client in (self.open, self.secure):
            assert client.subscribe("life/#", 1) == 1
        self.days = 0

    def goes_on(self):
        """Those who were there still talk, newcomers are let in, and it is the same process."""
        self.days += 1
        for sender in (self.open, self.secure):
            word = f"{sender.client_id} {self.days}".encode()
            sender.publish("life/day", word)
            for listener in (self.open, self.secure):
                assert listener.next().payload == word
        for port, identity in ((self.port, None), (self.gateway.ports["mqtts"], self.identity)):
            newcomer = Client(f"newcomer-{port}", port, identity=identity).connect()
            newcomer.publish("elsewhere", b"hello")
            newcomer.disconnect()
        assert self.gateway.alive and self.gateway.process.pid == self.pid
        assert "panicked" not in self.gateway.process.log

    def leave(self):
        self.open.disconnect()
        self.secure.disconnect()


@pytest.fixture
def town(daemon):
    it = Town(daemon(policies={"all": EVERYTHING}).start())
    yield it
    it.leave()


def attack(town, *data, connected=True):
    """Sends bytes; returns what the daemon said before it closed the connection."""
    with raw.Connection(town.port) as link:
        if connected:
            link.connect("attacker")
        link.send(*data)
        return link.closed()


def test_hostile_bytes(town):
    """The seven of the plan, in a row, on one gateway."""
    with raw.Connection(town.port) as link, raw.Connection(town.port) as other:
        link.connect("accents")
        other.connect("listener")
        assert other.subscribe(("#", 0)) == [0]
        link.send(raw.publish("été/x", b"1", qos=1))
        assert link.expect(raw.PUBACK).packet_id == 1
        assert other.expect(raw.PUBLISH).topic == "été/x"
    town.goes_on()

    first = raw.packet(raw.UNSUBACK, 0, struct.pack(">H", 1))
    assert attack(town, first, connected=False) == []
    town.goes_on()

    with raw.Connection(town.port) as one:
        one.connect("a/b")
        with raw.Connection(town.port) as two:
            two.connect("a/b")
            assert one.closed() == []
            two.ping()
        with raw.Connection(town.port) as three:
            three.connect("a/b")
            three.send(raw.connect("a/b"))
            assert three.closed() == []
    town.goes_on()

    with socket.create_connection(("127.0.0.1", town.gateway.ports["mqtts"])):
        town.goes_on()

    five = bytes([raw.PUBLISH << 4, 0xFF, 0xFF, 0xFF, 0xFF, 0x01])
    assert attack(town, five) == []
    assert attack(town, bytes([raw.CONNECT << 4]) + five[1:], connected=False) == []
    town.goes_on()

    before = rss_kib(town.pid)
    huge = bytes([raw.PUBLISH << 4]) + raw.length(256 * 1024 * 1024 - 1) + raw.text("t")
    assert attack(town, huge) == []
    assert attack(town, bytes([raw.CONNECT << 4]) + huge[1:], connected=False) == []
    assert rss_kib(town.pid) - before < 32 * 1024
    town.goes_on()

    assert attack(town, raw.publish("nul\0here", b"x", qos=1)) == []
    town.goes_on()


BAD_FIRST = {
    "publish": raw.publish("t", b"x"),
    "subscribe": raw.subscribe([("t", 0)]),
    "pingreq": raw.pingreq(),
    "disconnect": raw.disconnect(),
    "reserved-type-0": b"\x00\x00",
    "reserved-type-15": b"\xf0\x00",
    "http": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "tls-hello": bytes.fromhex("16030100a5010000a10303") + bytes(150),
    "zeros": bytes(4096),
    "connect-flags-1": bytes([raw.CONNECT << 4 | 1]) + raw.connect("x")[1:],
    "connect-reserved-bit": raw.packet(
        raw.CONNECT, 0, raw.text("MQTT") + b"\x04\x03\x00\x3c" + raw.text("x")
    ),
    "connect-short": raw.packet(raw.CONNECT, 0, raw.text("MQTT") + b"\x04"),
    "connect-nothing": raw.packet(raw.CONNECT, 0, b""),
    "connect-lying-length": raw.packet(raw.CONNECT, 0, b"\xff\xffMQTT"),
    "connect-trailing": raw.packet(
        raw.CONNECT, 0, raw.text("MQTT") + b"\x04\x02\x00\x3c" + raw.text("x") + b"more"
    ),
    "connect-client-id-not-utf8": raw.connect(b"\xff\xfe"),
    "connect-client-id-nul": raw.connect("a\0b"),
    "connect-client-id-surrogate": raw.connect(b"\xed\xa0\x80"),
    "connect-will-qos-3": raw.packet(
        raw.CONNECT, 0,
        raw.text("MQTT") + b"\x04\x1e\x00\x3c" + raw.text("x") + raw.text("w") + raw.text("w"),
    ),
    "connect-password-without-user": raw.packet(
        raw.CONNECT, 0, raw.text("MQTT") + b"\x04\x42\x00\x3c" + raw.text("x") + raw.text("p")
    ),
    "connect-will-topic-wildcard": raw.connect("x", will=("a/#", b"", 0, False)),
}


def test_bad_first_packets_end_their_connection(town):
    for name, data in BAD_FIRST.items():
        answers = attack(town, data, connected=False)
        refusals = [a for a in answers if a.kind == raw.CONNACK and a.code != 0]
        assert answers == refusals, f"{name}: {answers}"
    town.goes_on()


def test_wrong_protocol_levels_and_empty_ids_are_answered(town):
    [answer] = attack(town, raw.connect("x", level=9), connected=False)
    assert (answer.kind, answer.code) == (raw.CONNACK, 1)
    [answer] = attack(town, raw.connect("", clean=False), connected=False)
    assert (answer.kind, answer.code) == (raw.CONNACK, 2)
    assert attack(town, raw.connect("x", name="MQTX"), connected=False) == []
    town.goes_on()


BAD_LATER = {
    "connack": raw.packet(raw.CONNACK, 0, b"\0\0"),
    "suback": raw.packet(raw.SUBACK, 0, b"\0\1\0"),
    "pingresp": raw.packet(raw.PINGRESP, 0, b""),
    "pingreq-with-body": raw.packet(raw.PINGREQ, 0, b"x"),
    "pingreq-flags": bytes([raw.PINGREQ << 4 | 5, 0]),
    "publish-qos-3": raw.packet(raw.PUBLISH, 6, raw.text("t") + b"\0\1"),
    "publish-id-0": raw.publish("t", b"", qos=1, packet_id=0),
    "publish-empty-topic": raw.publish("", b"x"),
    "publish-wildcard": raw.publish("a/+/b", b"x"),
    "publish-hash": raw.publish("#", b"x"),
    "publish-not-utf8": raw.publish(b"\xc3\x28", b"x"),
    "publish-surrogate": raw.publish(b"\xed\xa0\x80", b"x"),
    "publish-overlong": raw.publish(b"\xc0\xaf", b"x"),
    "publish-topic-longer-than-packet": raw.packet(raw.PUBLISH, 0, b"\x10\x00abc"),
    "publish-no-room-for-id": raw.packet(raw.PUBLISH, 2, raw.text("t")),
    "publish-empty": raw.packet(raw.PUBLISH, 0, b""),
    "subscribe-flags": raw.packet(raw.SUBSCRIBE, 0, b"\0\1" + raw.text("t") + b"\0"),
    "subscribe-nothing": raw.packet(raw.SUBSCRIBE, 2, b"\0\1"),
    "subscribe-id-0": raw.subscribe([("t", 0)], packet_id=0),
    "subscribe-qos-3": raw.subscribe([("t", 3)]),
    "subscribe-no-qos": raw.packet(raw.SUBSCRIBE, 2, b"\0\1" + raw.text("t")),
    "subscribe-empty-filter": raw.subscribe([("", 0)]),
    "subscribe-hash-inside": raw.subscribe([("a/#/b", 0)]),
    "subscribe-plus-in-word": raw.subscribe([("a+/b", 0)]),
    "subscribe-nul": raw.subscribe([("a\0b", 0)]),
    "unsubscribe-nothing": raw.packet(raw.UNSUBSCRIBE, 2, b"\0\1"),
    "unsubscribe-flags": raw.packet(raw.UNSUBSCRIBE, 0, b"\0\1" + raw.text("t")),
    "puback-short": raw.packet(raw.PUBACK, 0, b"\0"),
    "disconnect-flags": bytes([raw.DISCONNECT << 4 | 1, 0]),
    "reserved-type-15": b"\xf0\x00",
}


def test_bad_packets_later_end_their_connection(town):
    for name, data in BAD_LATER.items():
        assert attack(town, data) == [], name
    town.goes_on()


def test_acknowledgements_nobody_asked_for_do_no_harm(town):
    for data in (raw.puback(1), raw.puback(65535), raw.puback(0)):
        with raw.Connection(town.port) as link:
            link.connect("attacker")
            link.send(data, raw.pingreq())
            try:
                link.receive()
            except raw.Closed:
                pass
    town.goes_on()


def test_a_topic_of_64_kib_and_deep_levels(town):
    for topic in ("x" * 65535, "/" * 65535, "a/" * 32000):
        with raw.Connection(town.port) as link:
            link.connect("attacker")
            link.send(raw.publish(topic, b"x", qos=1))
            try:
                link.receive()
            except raw.Closed:
                pass
    town.goes_on()


def test_half_a_packet_and_then_silence(town):
    """Connections that stop in the middle do not keep the others from anything."""
    links = []
    for size in (1, 2, 5, 12):
        link = raw.Connection(town.port)
        link.send(raw.connect("half-way")[:size])
        links.append(link)
    for _ in range(50):
        links.append(raw.Connection(town.port))
        links.append(raw.Connection(town.gateway.ports["mqtts"]))
    town.goes_on()
    for link in links:
        link.close()
    town.goes_on()


def test_noise(town, chance):
    """Random bytes, and good packets with one byte changed."""
    good = [
        raw.connect("noise", will=("w", b"w", 1, True)),
        raw.publish("noise/t", b"payload", qos=1, packet_id=5),
        raw.subscribe([("noise/#", 1), ("other", 0)], packet_id=6),
        raw.unsubscribe(["noise/#"], packet_id=7),
        raw.pingreq(),
    ]
    for _ in range(150):
        data = bytearray(b"".join(good))
        for _ in range(chance.randrange(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        with raw.Connection(town.port) as link:
            try:
                link.send(bytes(data))
                link._socket.shutdown(socket.SHUT_WR)
                link.closed()
            except (OSError, IndexError):
                pass
    for port in (town.port, town.gateway.ports["mqtts"], town.gateway.ports["https"]):
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", port)) as link:
                try:
                    link.sendall(os.urandom(chance.randrange(1, 600)))
                except OSError:
                    pass
    town.goes_on()


HTTP = {
    "long-line": b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n",
    "many-headers": b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 5000 + b"\r\n",
    "huge-body": b"POST /topics/t HTTP/1.1\r\nHost: l\r\nContent-Length: 99999999999\r\n\r\n",
    "negative-length": b"POST /topics/t HTTP/1.1\r\nHost: l\r\nContent-Length: -1\r\n\r\n",
    "bad-percent": b"POST /topics/%zz HTTP/1.1\r\nHost: l\r\nContent-Length: 0\r\n\r\n",
    "nul-topic": b"POST /topics/a%00b HTTP/1.1\r\nHost: l\r\nContent-Length: 0\r\n\r\n",
    "wildcard": b"POST /topics/a/%23 HTTP/1.1\r\nHost: l\r\nContent-Length: 0\r\n\r\n",
    "dots": b"GET /../../etc/passwd HTTP/1.1\r\nHost: l\r\n\r\n",
}


@pytest.mark.parametrize("name", HTTP)
def test_hostile_http(town, name):
    with raw.Connection(town.gateway.ports["https"], identity=town.identity) as link:
        try:
            link._socket.sendall(HTTP[name])
            answer = link._socket.recv(4096)
        except ConnectionError:
            answer = b""
    if answer:
        status = int(answer.split()[1])
        assert 400 <= status < 500, answer[:200]
    town.goes_on()
