"""MQTT 3.1.1 by the byte: what `harness.raw` has, QoS 2, and a client that loses no packet."""

import struct

from harness import raw
from harness.raw import (  # noqa: F401 - the tests take their packets from here
    CONNACK,
    CONNECT,
    DISCONNECT,
    PINGREQ,
    PINGRESP,
    PUBACK,
    PUBLISH,
    SUBACK,
    SUBSCRIBE,
    UNSUBACK,
    UNSUBSCRIBE,
    Closed,
    Packet,
    disconnect,
    length,
    packet,
    pingreq,
    puback,
    publish,
    subscribe,
    text,
    unsubscribe,
)

PUBREC, PUBREL, PUBCOMP = 5, 6, 7

# Seconds for what has to happen. Nothing waits that long when all is well.
SOON = 5.0


def two(number):
    return struct.pack(">H", number)


def pubrec(packet_id):
    return packet(PUBREC, 0, two(packet_id))


def pubrel(packet_id):
    return packet(PUBREL, 2, two(packet_id))


def pubcomp(packet_id):
    return packet(PUBCOMP, 0, two(packet_id))


def connect(client_id, clean=True, keep_alive=60, will=None, user=None, password=None, level=4,
            name="MQTT", set_flags=0, clear_flags=0, tail=b"", properties=b"", will_properties=b""):
    """`will` is (topic, payload, qos, retain).

    `set_flags` and `clear_flags` lie about the payload; `tail` is put behind it. `properties` and
    `will_properties` stand where version 5 has them, with their length.
    """
    flags, payload = (2 if clean else 0), text(client_id)
    if will:
        topic, message, qos, retain = will
        flags |= 4 | qos << 3 | (0x20 if retain else 0)
        payload += will_properties + text(topic) + text(message)
    if user is not None:
        flags |= 0x80
        payload += text(user)
    if password is not None:
        flags |= 0x40
        payload += text(password)
    flags = (flags | set_flags) & ~clear_flags
    head = text(name) + bytes([level, flags]) + two(keep_alive) + properties
    return packet(CONNECT, 0, head + payload + tail)


def tampered(data, flags):
    """The packet with other flags in its fixed header."""
    return bytes([data[0] & 0xF0 | flags]) + data[1:]


def wrong_flags(data):
    """The packet with each of the flags that the table of 2.2 (5: 2.1.3) does not have for it."""
    return [tampered(data, flags) for flags in range(16) if flags != data[0] & 15]


class Client(raw.Connection):
    """A connection. PUBLISH packets that come while it waits for something else are kept."""

    def __init__(self, port):
        super().__init__(port, deadline=SOON)
        self._kept = []
        self._last_id = 0
        self.session_present = None
        self.connect_answer = None

    def new_id(self):
        self._last_id += 1
        return self._last_id

    def receive(self, deadline=SOON):
        return self._kept.pop(0) if self._kept else super().receive(deadline)

    def expect(self, kind, deadline=SOON):
        return super().expect(kind, deadline)

    def await_packet(self, kind, deadline=SOON):
        """The next packet that is no PUBLISH, which has to be of this kind."""
        while True:
            got = super().receive(deadline)
            if got.kind != PUBLISH or kind == PUBLISH:
                assert got.kind == kind, f"wanted packet type {kind}, got {got}"
                return got
            self._kept.append(got)

    def expect_ack(self, kind, packet_id):
        """PUBACK, PUBREC, PUBREL or PUBCOMP, and nothing beside the id."""
        got = self.expect(kind)
        assert (got.flags, got.body) == (2 if kind == PUBREL else 0, two(packet_id))

    def thrown_out(self, code=None):
        """Without another word; `code` is what version 5 says. One that is not is given something to
        answer, instead of patience."""
        for deadline in (0.5, SOON):
            try:
                said = self.receive(deadline)
            except Closed:
                return
            except TimeoutError:
                self.send(pingreq())
            else:
                raise AssertionError(f"instead of closing the connection, the server said {said}")
        raise AssertionError("the connection is still open")

    def closed(self, deadline=SOON):
        kept, self._kept = self._kept, []
        return kept + super().closed(deadline)

    def connect(self, client_id, **how):
        """CONNECT and its CONNACK, which must be a yes."""
        self.send(connect(client_id, **how))
        answer = self.expect(CONNACK)
        assert answer.code == 0, f"CONNECT refused with {answer.code}"
        self.session_present, self.connect_answer = answer.session_present, answer.body
        return answer

    def subscribe(self, *filters):
        """Subscribes to (filter, qos) pairs; the codes of SUBACK."""
        packet_id = self.new_id()
        self.send(subscribe(filters, packet_id))
        answer = self.await_packet(SUBACK)
        assert answer.packet_id == packet_id
        return answer.codes

    def unsubscribe(self, *filters):
        """The codes of UNSUBACK, which has none in this version."""
        packet_id = self.new_id()
        self.send(unsubscribe(filters, packet_id))
        answer = self.await_packet(UNSUBACK)
        assert answer.packet_id == packet_id
        return answer.codes

    def publish(self, topic, payload=b"", qos=1, retain=False, dup=False, packet_id=None):
        """A message with all its acknowledgements; its packet id."""
        packet_id = packet_id or self.new_id()
        self.send(publish(topic, payload, qos, packet_id, retain, dup))
        if qos == 1:
            assert self.await_packet(PUBACK).packet_id == packet_id
        if qos == 2:
            assert self.await_packet(PUBREC).packet_id == packet_id
            self.send(pubrel(packet_id))
            assert self.await_packet(PUBCOMP).packet_id == packet_id
        return packet_id

    def ping(self):
        self.send(pingreq())
        self.await_packet(PINGRESP)

    def is_quiet(self):
        """Nothing was waiting to be sent to this client."""
        self.send(pingreq())
        self.expect(PINGRESP)

    def so_far(self):
        """The messages that were on their way, not acknowledged. What the first answer overtakes
        is before the second one."""
        self.ping()
        self.ping()
        kept, self._kept = self._kept, []
        return kept

    def acknowledge(self, message):
        """All that the receiver of this PUBLISH says."""
        if message.qos == 1:
            self.send(puback(message.packet_id))
        if message.qos == 2:
            self.send(pubrec(message.packet_id))
            assert self.await_packet(PUBREL).packet_id == message.packet_id
            self.send(pubcomp(message.packet_id))

    def take(self, deadline=SOON):
        """The next message, acknowledged."""
        got = self.expect(PUBLISH, deadline)
        self.acknowledge(got)
        return got

    def until(self, topic):
        """The messages before the first on `topic`, all acknowledged."""
        out = []
        while True:
            got = self.take()
            if got.topic == topic:
                return out
            out.append(got)

    def leave(self):
        """DISCONNECT, and gone from the broker when this returns."""
        self.send(disconnect())
        self.closed()
        self.close()
