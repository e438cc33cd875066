"""MQTT 3.1.1 by the byte, for what no well-behaved client sends."""

import dataclasses
import socket
import ssl
import struct
import time

CONNECT, CONNACK, PUBLISH, PUBACK = 1, 2, 3, 4
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK = 8, 9, 10, 11
PINGREQ, PINGRESP, DISCONNECT = 12, 13, 14


def length(n):
    """The remaining length as the protocol writes it (2.2.3)."""
    out = bytearray()
    while True:
        n, digit = divmod(n, 128)
        out.append(digit | (0x80 if n else 0))
        if not n:
            return bytes(out)


def text(value):
    """A string with its length before it; bytes go as they are."""
    data = value.encode() if isinstance(value, str) else value
    return struct.pack(">H", len(data)) + data


def packet(kind, flags, body):
    return bytes([kind << 4 | flags]) + length(len(body)) + body


def connect(
    client_id, clean=True, keep_alive=60, will=None, level=4, name="MQTT", user=None, password=None
):
    """`will` is (topic, payload, qos, retain)."""
    flags, tail = (2 if clean else 0), b""
    if will:
        topic, payload, qos, retain = will
        flags |= 4 | qos << 3 | (0x20 if retain else 0)
        tail = text(topic) + text(payload)
    if user is not None:
        flags |= 0x80
        tail += text(user)
    if password is not None:
        flags |= 0x40
        tail += text(password)
    head = text(name) + bytes([level, flags]) + struct.pack(">H", keep_alive)
    return packet(CONNECT, 0, head + text(client_id) + tail)


def publish(topic, payload=b"", qos=0, packet_id=1, retain=False, dup=False):
    body = text(topic) + (struct.pack(">H", packet_id) if qos else b"") + payload
    return packet(PUBLISH, (8 if dup else 0) | qos << 1 | int(retain), body)


def subscribe(filters, packet_id=1):
    """`filters` is a list of (filter, qos)."""
    body = b"".join(text(f) + bytes([q]) for f, q in filters)
    return packet(SUBSCRIBE, 2, struct.pack(">H", packet_id) + body)


def unsubscribe(filters, packet_id=1):
    return packet(UNSUBSCRIBE, 2, struct.pack(">H", packet_id) + b"".join(text(f) for f in filters))


def puback(packet_id):
    return packet(PUBACK, 0, struct.pack(">H", packet_id))


def pingreq():
    return packet(PINGREQ, 0, b"")


def disconnect():
    return packet(DISCONNECT, 0, b"")


def split(data):
    """The first packet of a stream: its kind, its flags, its body, and the bytes it takes; None
    before it is whole."""
    size, shift, at = 0, 0, 1
    while True:
        if at >= len(data):
            return None
        digit = data[at]
        size |= (digit & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if not digit & 0x80:
            break
    if len(data) < at + size:
        return None
    return data[0] >> 4, data[0] & 15, bytes(data[at : at + size]), at + size


class Flagged:
    """What the flags of a PUBLISH say."""

    @property
    def qos(self):
        return self.flags >> 1 & 3

    @property
    def dup(self):
        return bool(self.flags & 8)

    @property
    def retain(self):
        return bool(self.flags & 1)


@dataclasses.dataclass
class Packet(Flagged):
    kind: int
    flags: int
    body: bytes

    @property
    def code(self):
        """CONNACK: the return code."""
        return self.body[1]

    @property
    def session_present(self):
        """CONNACK: whether the session was there."""
        return bool(self.body[0] & 1)

    @property
    def codes(self):
        """SUBACK: a code for each filter. UNSUBACK: None, there are no codes."""
        return list(self.body[2:]) or None

    @property
    def packet_id(self):
        """Of a PUBLISH of QoS 1 or 2, or of an acknowledgement."""
        at = 2 + struct.unpack_from(">H", self.body)[0] if self.kind == PUBLISH else 0
        return struct.unpack_from(">H", self.body, at)[0]

    @property
    def topic(self):
        size = struct.unpack_from(">H", self.body)[0]
        return self.body[2 : 2 + size].decode()

    @property
    def payload(self):
        size = struct.unpack_from(">H", self.body)[0]
        return self.body[2 + size + (2 if self.qos else 0) :]


class Closed(Exception):
    """The other side closed the connection."""


def client_context(identity):
    """TLS as a device does it: checks the server, shows its certificate if it has one."""
    context = ssl.create_default_context(cafile=str(identity.ca))
    if identity.certificate:
        context.load_cert_chain(str(identity.certificate), str(identity.key))
    return context


class Connection:
    """A socket that speaks packets; `identity` makes it TLS."""

    def __init__(self, port, identity=None, deadline=10.0):
        self._buffer = b""
        plain = socket.create_connection(("127.0.0.1", port), deadline)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if identity:
            self._socket = client_context(identity).wrap_socket(plain, server_hostname="localhost")
        else:
            self._socket = plain

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Ends the connection without a DISCONNECT."""
        self._socket.close()

    def send(self, *packets):
        self._socket.sendall(b"".join(packets))

    def _fill(self, end):
        left = end - time.monotonic()
        if left <= 0:
            raise TimeoutError("nothing came in time")
        self._socket.settimeout(left)
        try:
            data = self._socket.recv(65536)
        except TimeoutError:
            raise TimeoutError("nothing came in time") from None
        except (ConnectionError, ssl.SSLError) as error:
            raise Closed(str(error)) from None
        if not data:
            raise Closed("end of stream")
        self._buffer += data

    def receive(self, deadline=10.0):
        """The next packet. `Closed` at the end of the connection, TimeoutError after the deadline."""
        end = time.monotonic() + deadline
        while True:
            found = self._take()
            if found:
                return found
            self._fill(end)

    def _take(self):
        found = split(self._buffer)
        if found is None:
            return None
        *packet, size = found
        self._buffer = self._buffer[size:]
        return Packet(*packet)

    def expect(self, kind, deadline=10.0):
        got = self.receive(deadline)
        assert got.kind == kind, f"wanted packet type {kind}, got {got}"
        return got

    def connect(self, client_id, **how):
        """CONNECT and its CONNACK, which must be a yes."""
        self.send(connect(client_id, **how))
        answer = self.expect(CONNACK)
        assert answer.code == 0, f"CONNECT refused with {answer.code}"
        return answer

    def subscribe(self, *filters):
        self.send(subscribe(filters))
        return list(self.expect(SUBACK).body[2:])

    def ping(self):
        """PINGREQ and its PINGRESP: all that was sent before has been taken."""
        self.send(pingreq())
        self.expect(PINGRESP)

    def closed(self, deadline=10.0):
        """What came before the other side closed. TimeoutError when it does not close."""
        seen = []
        try:
            while True:
                seen.append(self.receive(deadline))
        except Closed:
            return seen
