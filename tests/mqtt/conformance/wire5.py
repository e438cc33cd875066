"""MQTT 5 by the byte: what it has beyond `wire`."""

import dataclasses
import struct

from conformance import wire
from conformance.wire import packet, text, two

DISCONNECT = wire.DISCONNECT

# Identifiers of properties (2.2.2.2) by how their values are written.
MESSAGE_EXPIRY, CONTENT_TYPE, SUBSCRIPTION_ID = 0x02, 0x03, 0x0B
SESSION_EXPIRY, ASSIGNED_ID, AUTH_METHOD, WILL_DELAY = 0x11, 0x12, 0x15, 0x18
RECEIVE_MAXIMUM, ALIAS_MAXIMUM, ALIAS, MAXIMUM_QOS = 0x21, 0x22, 0x23, 0x24
USER, MAXIMUM_PACKET, SHARED_AVAILABLE = 0x26, 0x27, 0x2A

_BYTES = {0x01, 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2A}
_TWO = {0x13, 0x21, 0x22, 0x23}
_FOUR = {0x02, 0x11, 0x18, 0x27}
_TEXTS = {0x03, 0x08, 0x09, 0x12, 0x15, 0x16, 0x1A, 0x1C, 0x1F}


def properties(*pairs):
    """(identifier, value) pairs with their length before them."""
    out = b""
    for id, value in pairs:
        out += bytes([id])
        if id in _BYTES:
            out += bytes([value])
        elif id in _TWO:
            out += two(value)
        elif id in _FOUR:
            out += struct.pack(">I", value)
        elif id == SUBSCRIPTION_ID:
            out += wire.length(value)
        elif id == USER:
            out += text(value[0]) + text(value[1])
        else:
            out += text(value)
    return wire.length(len(out)) + out


class _Reader:
    def __init__(self, data):
        self.data = data

    def take(self, count):
        out, self.data = self.data[:count], self.data[count:]
        assert len(out) == count, "the packet ends in the middle of a field"
        return out

    def number(self, size):
        return int.from_bytes(self.take(size), "big")

    def text(self):
        return self.take(self.number(2)).decode()

    def varint(self):
        value, shift = 0, 0
        while True:
            digit = self.number(1)
            value |= (digit & 0x7F) << shift
            shift += 7
            if not digit & 0x80:
                return value

    def properties(self):
        inner, out = _Reader(self.take(self.varint())), []
        while inner.data:
            id = inner.number(1)
            if id in _BYTES:
                value = inner.number(1)
            elif id in _TWO:
                value = inner.number(2)
            elif id in _FOUR:
                value = inner.number(4)
            elif id == SUBSCRIPTION_ID:
                value = inner.varint()
            elif id == USER:
                value = (inner.text(), inner.text())
            else:
                assert id in _TEXTS, f"property {id:#x}"
                value = inner.text()
            out.append((id, value))
        return out


@dataclasses.dataclass
class Said:
    """A packet of the server, read as version 5 has it."""

    kind: int
    flags: int = 0
    session_present: bool = False
    packet_id: int = 0
    topic: str = ""
    payload: bytes = b""
    code: int = 0
    codes: tuple = ()
    properties: tuple = ()

    def all(self, id):
        return [value for known, value in self.properties if known == id]

    def one(self, id):
        [value] = self.all(id)
        return value

    @property
    def retain(self):
        return bool(self.flags & 1)


def read(raw):
    """A `wire` packet as a `Said`."""
    it, said = _Reader(raw.body), Said(raw.kind, raw.flags)
    if raw.kind == wire.CONNACK:
        said.session_present, said.code = bool(it.number(1)), it.number(1)
        said.properties = it.properties()
    elif raw.kind == wire.PUBLISH:
        said.topic = it.text()
        said.packet_id = it.number(2) if raw.flags & 6 else 0
        said.properties, said.payload = it.properties(), it.data
    elif raw.kind in (wire.SUBACK, wire.UNSUBACK):
        said.packet_id, said.properties = it.number(2), it.properties()
        said.codes = list(it.data)
    elif raw.kind in (wire.PUBACK, DISCONNECT):
        said.packet_id = it.number(2) if raw.kind == wire.PUBACK else 0
        said.code = it.number(1) if it.data else 0
        said.properties = it.properties() if it.data else []
    return said


def connect(client_id, *pairs, clean=True, keep_alive=60, will=None):
    """`will` is (topic, payload, qos, (identifier, value) pairs)."""
    flags, payload = (2 if clean else 0), text(client_id)
    if will:
        topic, message, qos, will_pairs = will
        flags |= 4 | qos << 3
        payload += properties(*will_pairs) + text(topic) + text(message)
    head = text("MQTT") + bytes([5, flags]) + two(keep_alive) + properties(*pairs)
    return packet(wire.CONNECT, 0, head + payload)


def publish(topic, payload=b"", *pairs, qos=0, packet_id=1, retain=False):
    body = text(topic) + (two(packet_id) if qos else b"") + properties(*pairs) + payload
    return packet(wire.PUBLISH, qos << 1 | int(retain), body)


def subscribe(filters, *pairs, packet_id=1):
    """`filters` is a list of (filter, options)."""
    body = b"".join(text(f) + bytes([options]) for f, options in filters)
    return packet(wire.SUBSCRIBE, 2, two(packet_id) + properties(*pairs) + body)


def unsubscribe(filters, packet_id=1):
    return packet(wire.UNSUBSCRIBE, 2, two(packet_id) + b"\0" + b"".join(map(text, filters)))


def disconnect(code=0, *pairs):
    return packet(DISCONNECT, 0, bytes([code]) + properties(*pairs))


class Client:
    """A connection of the bench that speaks version 5."""

    def __init__(self, connection):
        self._connection = connection
        self.send = connection.send

    def receive(self):
        return read(self._connection.receive())

    def expect(self, kind):
        return read(self._connection.expect(kind))

    def closed(self):
        """What is still said before the connection is closed."""
        return [read(raw) for raw in self._connection.closed()]

    def subscribe(self, *filters, pairs=()):
        self.send(subscribe(filters, *pairs))
        return self.expect(wire.SUBACK).codes

    def publish(self, topic, payload=b"", *pairs, retain=False):
        """QoS 1; the reason code of PUBACK."""
        self.send(publish(topic, payload, *pairs, qos=1, retain=retain))
        return self.expect(wire.PUBACK).code

    def take(self):
        got = self.expect(wire.PUBLISH)
        if got.packet_id:
            self.send(wire.puback(got.packet_id))
        return got

    def leave(self, code=0, *pairs):
        self.send(disconnect(code, *pairs))
        assert self.closed() == []


def hello(mqtt, name, *pairs, **how):
    """CONNECT of a client of this test; the client and its CONNACK."""
    client = Client(mqtt.open(how.pop("port", None)))
    client.send(connect(mqtt.id(name) if name else "", *pairs, **how))
    return client, client.expect(wire.CONNACK)


def client(mqtt, name, *pairs, **how):
    """One whose CONNECT is taken."""
    it, answer = hello(mqtt, name, *pairs, **how)
    assert answer.code == 0
    return it
