"""Clients whose packets travel in WebSocket frames."""

import base64
import hashlib
import os
import re
import struct

from conformance import wire, wire5

BINARY, TEXT, CONTINUATION, CLOSE, PING, PONG = 2, 1, 0, 8, 9, 10
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Frames:
    """What `wire.Client` becomes over WebSocket. `close_code` is what the server closed with."""

    close_code = None

    def __init__(self, port, protocols="mqtt", **headers):
        super().__init__(port)
        self._frames = b""
        self.handshake(protocols, **headers)

    def handshake(self, protocols, **headers):
        """Asks for the upgrade; `status` and `headers` are the answer."""
        key = base64.b64encode(os.urandom(16))
        asked = {
            "Host": "localhost", "Upgrade": "websocket", "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": key.decode(),
            "Sec-WebSocket-Protocol": protocols, **headers,
        }
        lines = [f"{name}: {value}" for name, value in asked.items()]
        self._socket.sendall("\r\n".join(["GET /mqtt HTTP/1.1", *lines, "", ""]).encode())
        self._socket.settimeout(wire.SOON)
        answer = b""
        while b"\r\n\r\n" not in answer:
            more = self._socket.recv(1)
            assert more, f"closed after {answer!r}"
            answer += more
        status, *lines = answer.decode().rstrip("\r\n").split("\r\n")
        found = dict(re.split(r":\s*", line, maxsplit=1) for line in lines)
        self.status = int(status.split()[1])
        self.headers = {name.lower(): value for name, value in found.items()}
        self.accept = base64.b64encode(hashlib.sha1(key + GUID).digest()).decode()

    def frame(self, data, kind=BINARY, final=True):
        mask = os.urandom(4)
        size = len(data)
        head = bytes([(0x80 if final else 0) | kind])
        if size < 126:
            head += bytes([0x80 | size])
        elif size < 65536:
            head += bytes([0x80 | 126]) + struct.pack(">H", size)
        else:
            head += bytes([0x80 | 127]) + struct.pack(">Q", size)
        pad = mask * (size // 4 + 1)
        masked = int.from_bytes(data, "big") ^ int.from_bytes(pad[:size], "big")
        self._socket.sendall(head + mask + masked.to_bytes(size, "big"))

    def send(self, *packets):
        self.frame(b"".join(packets))

    def _fill(self, end):
        """Takes the frames out of the stream; every data frame has to be binary."""
        if self.close_code is not None:
            raise wire.Closed(f"close frame {self.close_code}")
        before, self._buffer = self._buffer, b""
        try:
            super()._fill(end)
            self._frames += self._buffer
        finally:
            self._buffer = before
        while (found := self._frame()) is not None:
            kind, data = found
            if kind == CLOSE:
                # What came before it is still to be taken.
                self.close_code = int.from_bytes(data[:2], "big")
                self.frame(data[:2], CLOSE)
                return
            if kind in (BINARY, CONTINUATION):
                self._buffer += data
            else:
                assert kind in (PING, PONG), f"a frame of type {kind} from the server"

    def _frame(self):
        have = self._frames
        if len(have) < 2:
            return None
        assert not have[1] & 0x80, "a server does not mask"
        size, at = have[1] & 0x7F, 2
        if size >= 126:
            width = 2 if size == 126 else 8
            if len(have) < 2 + width:
                return None
            size, at = int.from_bytes(have[2 : 2 + width], "big"), 2 + width
        if len(have) < at + size:
            return None
        self._frames = have[at + size :]
        return have[0] & 15, have[at : at + size]


class Client(Frames, wire.Client):
    """3.1.1 over WebSocket."""


class Client5(Frames, wire5.Client):
    """Version 5 over WebSocket."""
