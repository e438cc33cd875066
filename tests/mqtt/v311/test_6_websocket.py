"""6: MQTT over WebSocket."""

import base64
import hashlib
import os
import re
import struct

import pytest
from conformance import wire
from conformance.marks import not_mosquitto, websocket

BINARY, TEXT, CONTINUATION, CLOSE, PING, PONG = 2, 1, 0, 8, 9, 10
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class WebSocket(wire.Client):
    """A client whose packets travel in frames."""

    def handshake(self, protocols="mqtt"):
        """The server's answer to the upgrade: status and headers."""
        key = base64.b64encode(os.urandom(16))
        request = (
            f"GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key.decode()}\r\n"
            f"Sec-WebSocket-Protocol: {protocols}\r\n\r\n"
        )
        self._socket.sendall(request.encode())
        self._socket.settimeout(wire.SOON)
        answer = b""
        while b"\r\n\r\n" not in answer:
            more = self._socket.recv(1)
            assert more, f"closed after {answer!r}"
            answer += more
        status, *lines = answer.decode().rstrip("\r\n").split("\r\n")
        headers = dict(re.split(r":\s*", line, maxsplit=1) for line in lines)
        headers = {name.lower(): value for name, value in headers.items()}
        accept = base64.b64encode(hashlib.sha1(key + GUID).digest()).decode()
        self._frames = b""
        return int(status.split()[1]), headers, accept

    def frame(self, data, kind=BINARY, final=True):
        mask = os.urandom(4)
        size = len(data)
        head = bytes([(0x80 if final else 0) | kind])
        if size < 126:
            head += bytes([0x80 | size])
        else:
            head += bytes([0x80 | 126]) + struct.pack(">H", size)
        masked = bytes(byte ^ mask[n % 4] for n, byte in enumerate(data))
        self._socket.sendall(head + mask + masked)

    def send(self, *packets):
        self.frame(b"".join(packets))

    def _fill(self, end):
        """Takes the frames out of the stream; every data frame has to be binary."""
        before, self._buffer = self._buffer, b""
        try:
            super()._fill(end)
            self._frames += self._buffer
        finally:
            self._buffer = before
        while (found := self._frame()) is not None:
            kind, data = found
            if kind == CLOSE:
                raise wire.Closed("close frame")
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


@pytest.fixture
def ws(mqtt):
    """Opens upgraded connections; `ws("name")` connects that client too."""
    opened = []

    def dial(name=None):
        client = WebSocket(mqtt.broker.ws_port)
        opened.append(client)
        status, _, _ = client.handshake()
        assert status == 101
        if name:
            client.connect(mqtt.id(name))
        return client

    yield dial
    for client in opened:
        client.close()


@websocket
def test_mqtt_6_0_0_1_packets_come_and_go_in_binary_frames(mqtt, ws):
    client = ws("c")
    client.subscribe((mqtt.topic(), 1))
    client.publish(mqtt.topic(), bytes(1000))
    assert client.take().payload == bytes(1000)


@not_mosquitto("takes it")
@websocket
def test_mqtt_6_0_0_1_a_text_frame_closes(mqtt, ws):
    client = ws()
    client.frame(wire.connect(mqtt.id("c")), TEXT)
    assert client.closed() == []
    client = ws("d")
    client.frame(wire.pingreq(), TEXT)
    client.thrown_out()


@websocket
def test_mqtt_6_0_0_2_a_frame_may_hold_several_packets(mqtt, ws):
    client = ws()
    client.send(wire.connect(mqtt.id("c")), wire.pingreq(), wire.pingreq())
    assert [client.receive().kind for _ in range(3)] == [wire.CONNACK, wire.PINGRESP, wire.PINGRESP]


@websocket
def test_mqtt_6_0_0_2_a_packet_may_be_spread_over_frames(mqtt, ws):
    client = ws()
    for byte in wire.connect(mqtt.id("c")):
        client.frame(bytes([byte]))
    assert client.expect(wire.CONNACK).code == 0
    # The end of one packet with the beginning of the next.
    data = wire.publish(mqtt.topic(), b"payload", 1, 5) + wire.pingreq()
    client.frame(data[:9])
    client.frame(data[9:-1])
    client.frame(data[-1:])
    answers = [client.receive().kind, client.receive().kind]
    assert sorted(answers) == [wire.PUBACK, wire.PINGRESP]


@websocket
def test_mqtt_6_0_0_2_a_message_of_fragments_is_put_together(mqtt, ws):
    client = ws("c")
    data = wire.publish(mqtt.topic(), b"payload", 1, 5)
    client.frame(data[:4], BINARY, final=False)
    client.frame(b"are you there", PING)
    client.frame(data[4:9], CONTINUATION, final=False)
    client.frame(data[9:], CONTINUATION)
    assert client.expect(wire.PUBACK).packet_id == 5


@websocket
def test_mqtt_6_0_0_4_the_server_chooses_the_subprotocol_mqtt(mqtt):
    for offered in ("mqtt", "chat, mqtt", "mqtt, chat"):
        client = WebSocket(mqtt.broker.ws_port)
        try:
            status, headers, accept = client.handshake(offered)
            assert status == 101
            assert headers["sec-websocket-protocol"] == "mqtt"
            assert headers["sec-websocket-accept"] == accept
        finally:
            client.close()
