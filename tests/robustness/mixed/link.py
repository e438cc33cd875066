"""A connection that never waits, and both versions' packets read as far as the books need them."""

import dataclasses
import random
import socket
import struct

from conformance import wire, wire5
from harness.raw import Flagged, split

CLOSED = (ConnectionError, BrokenPipeError)


class Gone(Exception):
    """The other side closed, or nobody listens."""


@dataclasses.dataclass
class Heard(Flagged):
    """A packet of the server."""

    kind: int
    flags: int
    packet_id: int = 0
    code: int = 0
    codes: bytes = b""
    session_present: bool = False
    topic: str = ""
    payload: bytes = b""
    said: object = None


def hear(version, kind, flags, body):
    """Reads one packet; CONNACK and DISCONNECT of version 5 strictly."""
    heard = Heard(kind, flags)
    if kind == wire.PUBLISH:
        size = body[0] << 8 | body[1]
        heard.topic, at = body[2 : 2 + size].decode(), 2 + size
        if flags & 6:
            heard.packet_id, at = body[at] << 8 | body[at + 1], at + 2
        if version == 5:
            at = _behind_properties(body, at)
        heard.payload = body[at:]
    elif kind in (wire.PUBACK, wire.PUBREC, wire.PUBREL, wire.PUBCOMP):
        heard.packet_id = body[0] << 8 | body[1]
        heard.code = body[2] if len(body) > 2 else 0
    elif kind in (wire.SUBACK, wire.UNSUBACK):
        heard.packet_id = body[0] << 8 | body[1]
        heard.codes = body[_behind_properties(body, 2) if version == 5 else 2 :]
    elif version == 5 and kind in (wire.CONNACK, wire.DISCONNECT):
        heard.said = wire5.read(wire.Packet(kind, flags, body))
        heard.code, heard.session_present = heard.said.code, heard.said.session_present
    elif kind == wire.CONNACK:
        heard.session_present, heard.code = bool(body[0]), body[1]
    else:
        assert kind == wire.PINGRESP, f"packet type {kind} from the server"
    return heard


def _behind_properties(body, at):
    size, shift = 0, 0
    while True:
        digit = body[at]
        size |= (digit & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not digit & 0x80:
            return at + size


class Link:
    """One TCP connection."""

    def __init__(self, port, version):
        self.version = version
        self._in, self._out = bytearray(), bytearray()
        self.socket = socket.socket()
        self.socket.settimeout(1.0)
        try:
            self.socket.connect(("127.0.0.1", port))
        except OSError as error:
            self.socket.close()
            raise Gone(str(error)) from None
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)

    def fileno(self):
        return self.socket.fileno()

    def send(self, *packets):
        for packet in packets:
            self._out += packet
        self.flush()

    def flush(self):
        """Writes what fits. What cannot be written shows when the link is read."""
        while self._out:
            try:
                done = self.socket.send(self._out)
            except (BlockingIOError, *CLOSED):
                return
            del self._out[:done]

    @property
    def clogged(self):
        return len(self._out) > 1 << 16

    def take(self):
        """What has come. `Gone` at the end, when all before it was taken."""
        self.flush()
        try:
            while True:
                data = self.socket.recv(1 << 16)
                if not data:
                    raise Gone("end of stream")
                self._in += data
                if len(data) < 1 << 16:
                    break
        except BlockingIOError:
            pass
        except CLOSED as error:
            raise Gone(str(error)) from None

    def packets(self):
        """Takes whole packets off what has come, one by one."""
        while (found := split(self._in)) is not None:
            kind, flags, body, size = found
            del self._in[:size]
            yield hear(self.version, kind, flags, body)

    def close(self, hard=False):
        if hard:
            # RST: what is on its way is lost in both directions.
            linger = struct.pack("ii", 1, 0)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.socket.close()

    def cut(self, packet, rng: random.Random):
        """A part of a packet, and the end."""
        self.send(packet[: rng.randrange(1, len(packet))])
        self.close()
