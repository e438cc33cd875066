"""MQTT 5 by the byte: what it has beyond `wire`.

Whatever a server says is read strictly: flags, properties, reason codes and strings that its packet
cannot have fail the test that reads it.
"""

import dataclasses
import struct

from conformance import wire
from harness.raw import Flagged
from conformance.wire import (
    CONNACK,
    DISCONNECT,
    PINGRESP,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    SUBACK,
    UNSUBACK,
    packet,
    text,
    two,
)

AUTH = 15

# Identifiers of properties (2.2.2.2).
PAYLOAD_FORMAT, MESSAGE_EXPIRY, CONTENT_TYPE = 0x01, 0x02, 0x03
RESPONSE_TOPIC, CORRELATION, SUBSCRIPTION_ID = 0x08, 0x09, 0x0B
SESSION_EXPIRY, ASSIGNED_ID, SERVER_KEEP_ALIVE = 0x11, 0x12, 0x13
AUTH_METHOD, AUTH_DATA, REQUEST_PROBLEM = 0x15, 0x16, 0x17
WILL_DELAY, REQUEST_RESPONSE, RESPONSE_INFORMATION = 0x18, 0x19, 0x1A
SERVER_REFERENCE, REASON_STRING, RECEIVE_MAXIMUM = 0x1C, 0x1F, 0x21
ALIAS_MAXIMUM, ALIAS, MAXIMUM_QOS, RETAIN_AVAILABLE = 0x22, 0x23, 0x24, 0x25
USER, MAXIMUM_PACKET, WILDCARD_AVAILABLE = 0x26, 0x27, 0x28
ID_AVAILABLE, SHARED_AVAILABLE = 0x29, 0x2A

_BYTES = {0x01, 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2A}
_TWO = {0x13, 0x21, 0x22, 0x23}
_FOUR = {0x02, 0x11, 0x18, 0x27}
_TEXTS = {0x03, 0x08, 0x12, 0x15, 0x1A, 0x1C, 0x1F}
_BINARY = {0x09, 0x16}

_ACKS = {REASON_STRING, USER}
# The properties of what a server sends (table 2-4).
_MAY_HAVE = {
    CONNACK: {
        SESSION_EXPIRY, ASSIGNED_ID, SERVER_KEEP_ALIVE, AUTH_METHOD, AUTH_DATA,
        RESPONSE_INFORMATION, SERVER_REFERENCE, REASON_STRING, RECEIVE_MAXIMUM, ALIAS_MAXIMUM,
        MAXIMUM_QOS, RETAIN_AVAILABLE, USER, MAXIMUM_PACKET, WILDCARD_AVAILABLE, ID_AVAILABLE,
        SHARED_AVAILABLE,
    },
    PUBLISH: {
        PAYLOAD_FORMAT, MESSAGE_EXPIRY, CONTENT_TYPE, RESPONSE_TOPIC, CORRELATION,
        SUBSCRIPTION_ID, ALIAS, USER,
    },
    PUBACK: _ACKS, PUBREC: _ACKS, PUBREL: _ACKS, PUBCOMP: _ACKS, SUBACK: _ACKS, UNSUBACK: _ACKS,
    DISCONNECT: {REASON_STRING, USER, SERVER_REFERENCE},
    AUTH: {AUTH_METHOD, AUTH_DATA, REASON_STRING, USER},
}

_PUBLISHED = {0, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99}
_RELEASED = {0, 0x92}
# The reason codes of what a server sends (the table in each packet's section).
CODES = {
    CONNACK: {
        0, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95,
        0x97, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F,
    },
    PUBACK: _PUBLISHED, PUBREC: _PUBLISHED, PUBREL: _RELEASED, PUBCOMP: _RELEASED,
    SUBACK: {0, 1, 2, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2},
    UNSUBACK: {0, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91},
    DISCONNECT: {
        0, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94, 0x95,
        0x96, 0x97, 0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2,
    },
    AUTH: {0, 0x18, 0x19},
}


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

    def binary(self):
        return self.take(self.number(2))

    def text(self):
        value = self.binary().decode()
        assert "\0" not in value, "U+0000 in a string"
        return value

    def varint(self):
        value, size = 0, 0
        while True:
            digit = self.number(1)
            value |= (digit & 0x7F) << 7 * size
            size += 1
            if not digit & 0x80:
                assert size == len(wire.length(value)), "a variable byte integer longer than it need be"
                return value

    def code(self, kind):
        code = self.number(1)
        assert code in CODES[kind], f"packet type {kind} with reason code {code:#x}"
        return code

    def properties(self, kind):
        inner, out = _Reader(self.take(self.varint())), []
        while inner.data:
            id = inner.varint()
            assert id in _MAY_HAVE[kind], f"packet type {kind} with property {id:#x}"
            again = id == USER or kind == PUBLISH and id == SUBSCRIPTION_ID
            assert again or id not in dict(out), f"property {id:#x} twice"
            out.append((id, inner.value(id)))
        return out

    def value(self, id):
        if id in _BYTES:
            value = self.number(1)
            assert value < 2, f"property {id:#x} of {value}"
        elif id in _TWO:
            value = self.number(2)
        elif id in _FOUR:
            value = self.number(4)
        elif id == SUBSCRIPTION_ID:
            value = self.varint()
        elif id == USER:
            value = (self.text(), self.text())
        else:
            value = self.binary() if id in _BINARY else self.text()
        assert value != 0 or id not in (RECEIVE_MAXIMUM, MAXIMUM_PACKET, ALIAS, SUBSCRIPTION_ID), id
        return value


@dataclasses.dataclass
class Said(Flagged):
    """A packet of the server, read as version 5 has it."""

    kind: int
    flags: int = 0
    body: bytes = b""
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
    def size(self):
        """Bytes of the whole packet."""
        return 1 + len(wire.length(len(self.body))) + len(self.body)


def read(raw):
    """A `wire` packet as a `Said`."""
    it, said = _Reader(raw.body), Said(raw.kind, raw.flags, raw.body)
    if raw.kind != PUBLISH:
        assert raw.flags == (2 if raw.kind == PUBREL else 0), f"flags {raw.flags:#x} in {raw}"
    if raw.kind == CONNACK:
        _read_connack(it, said)
    elif raw.kind == PUBLISH:
        _read_publish(it, said)
    elif raw.kind in (SUBACK, UNSUBACK):
        said.packet_id, said.properties = it.number(2), it.properties(raw.kind)
        said.codes = [it.code(raw.kind) for _ in range(len(it.data))]
    elif raw.kind in (PUBACK, PUBREC, PUBREL, PUBCOMP, DISCONNECT, AUTH):
        said.packet_id = it.number(2) if raw.kind not in (DISCONNECT, AUTH) else 0
        said.code = it.code(raw.kind) if it.data else 0
        said.properties = it.properties(raw.kind) if it.data else []
    else:
        assert raw.kind == PINGRESP, f"a server does not send {raw}"
    assert not it.data, f"{it.data!r} behind the last field"
    return said


def _read_connack(it, said):
    flags = it.number(1)
    assert flags < 2, f"CONNACK flags {flags:#x}"
    said.session_present = bool(flags)
    if len(said.body) == 2:
        # 3.1.1's, for a version that is not supported.
        said.code = it.number(1)
    else:
        said.code, said.properties = it.code(CONNACK), it.properties(CONNACK)


def _read_publish(it, said):
    assert said.qos < 3 and not (said.dup and said.qos == 0), f"PUBLISH flags {said.flags:#x}"
    said.topic = it.text()
    assert not set("+#") & set(said.topic), f"PUBLISH to {said.topic!r}"
    said.packet_id = it.number(2) if said.qos else 0
    assert said.packet_id or not said.qos, "packet id 0"
    said.properties = it.properties(PUBLISH)
    said.payload, it.data = it.data, b""


def connect(client_id, *pairs, will=None, will_retain=False, level=5, **how):
    """`will` is (topic, payload, qos, (identifier, value) pairs); `how` is what `wire.connect` has."""
    will_pairs = ()
    if will:
        *will, will_pairs = will
        will.append(will_retain)
    return wire.connect(client_id, will=will, level=level, properties=properties(*pairs),
                        will_properties=properties(*will_pairs), **how)


def publish(topic, payload=b"", *pairs, qos=0, packet_id=1, retain=False, dup=False):
    body = text(topic) + (two(packet_id) if qos else b"") + properties(*pairs) + payload
    return packet(PUBLISH, (8 if dup else 0) | qos << 1 | int(retain), body)


def ack(kind, packet_id, code=None, *pairs):
    """PUBACK, PUBREC, PUBREL or PUBCOMP; without a code in its short form."""
    tail = b"" if code is None else bytes([code]) + properties(*pairs)
    return packet(kind, 2 if kind == PUBREL else 0, two(packet_id) + tail)


def subscribe(filters, *pairs, packet_id=1):
    """`filters` is a list of (filter, options)."""
    body = b"".join(text(f) + bytes([options]) for f, options in filters)
    return packet(wire.SUBSCRIBE, 2, two(packet_id) + properties(*pairs) + body)


def unsubscribe(filters, *pairs, packet_id=1):
    body = two(packet_id) + properties(*pairs) + b"".join(map(text, filters))
    return packet(wire.UNSUBSCRIBE, 2, body)


def disconnect(code=0, *pairs):
    return packet(DISCONNECT, 0, bytes([code]) + properties(*pairs))


def auth(code, *pairs):
    return packet(AUTH, 0, bytes([code]) + properties(*pairs))


class Client(wire.Client):
    """A connection that speaks version 5. What it receives are `Said`s."""

    # Whether the server under test says why it closes; a bare close is allowed to it (4.13).
    tells_why = True

    def _take(self):
        found = super()._take()
        return read(found) if found else None

    def connect(self, client_id, *pairs, **how):
        """CONNECT and its CONNACK, which must be a yes."""
        self.send(connect(client_id, *pairs, **how))
        answer = self.expect(CONNACK)
        assert answer.code == 0, f"CONNECT refused with {answer}"
        self.session_present, self.connect_answer = answer.session_present, answer
        return answer

    def subscribe(self, *filters, pairs=()):
        """Subscribes to (filter, options) pairs; the codes of SUBACK."""
        packet_id = self.new_id()
        self.send(subscribe(filters, *pairs, packet_id=packet_id))
        answer = self.await_packet(SUBACK)
        assert answer.packet_id == packet_id
        return answer.codes

    def unsubscribe(self, *filters):
        """The codes of UNSUBACK."""
        packet_id = self.new_id()
        self.send(unsubscribe(filters, packet_id=packet_id))
        answer = self.await_packet(UNSUBACK)
        assert answer.packet_id == packet_id
        return answer.codes

    def publish(self, topic, payload=b"", *pairs, qos=1, packet_id=None, **how):
        """A message with all its acknowledgements; the reason code of the first."""
        packet_id = packet_id or self.new_id()
        self.send(publish(topic, payload, *pairs, qos=qos, packet_id=packet_id, **how))
        if qos == 0:
            return 0
        answer = self.await_packet(PUBACK if qos == 1 else PUBREC)
        assert answer.packet_id == packet_id
        if qos == 2 and answer.code < 0x80:
            self.send(wire.pubrel(packet_id))
            done = self.await_packet(PUBCOMP)
            assert (done.packet_id, done.code) == (packet_id, 0)
        return answer.code

    def expect_ack(self, kind, packet_id):
        """PUBACK, PUBREC, PUBREL or PUBCOMP that says that all is well, subscribers or not."""
        got = self.expect(kind)
        well = (0, 0x10) if kind in (PUBACK, PUBREC) else (0,)
        assert got.packet_id == packet_id and got.code in well

    def thrown_out(self, code, kind=DISCONNECT):
        """With this reason code and no other word; None: without any word."""
        said = [(one.kind, one.code) for one in self.closed()]
        if self.tells_why:
            assert said == ([] if code is None else [(kind, code)])
        else:
            assert said == [] or said[0][0] == kind and said[0][1] >= 0x80 and len(said) == 1

    def leave(self, code=0, *pairs):
        """DISCONNECT, and gone from the broker when this returns."""
        self.send(disconnect(code, *pairs))
        assert self.closed() == []
        self.close()


def hello(mqtt, name, *pairs, port=None, **how):
    """CONNECT of a client of this test; the client and its CONNACK."""
    client = mqtt.open(port)
    client.send(connect(mqtt.id(name) if name else "", *pairs, **how))
    return client, client.expect(CONNACK)


def client(mqtt, name, *pairs, **how):
    """One whose CONNECT is taken."""
    it, answer = hello(mqtt, name, *pairs, **how)
    assert answer.code == 0
    return it
