"""An upstream that does what a test says, and otherwise what MQTT 3.1.1 says.

It keeps what it was given in order, and has one lasting session: what it has for the bridge it sends
again on the next connection until it is acknowledged.
"""

import collections
import socket
import struct
import threading

from harness import raw
from harness.ports import free_port
from harness.wait import Late

Got = collections.namedtuple("Got", "link packet_id dup topic payload")


class Cut(Exception):
    """Raised by an answer: the connection ends, here and now."""


class Broker:
    """`answers` are functions of (link, packet) by packet type, in place of the usual answer."""

    def __init__(self, answers=None, name="far"):
        self.port, self.name = free_port(), name
        self.answers = dict(answers or {})
        self.got = []
        self.connects = []
        self.filters = {}
        # What goes down: number -> (topic, payload), until it is acknowledged.
        self.outbox = collections.OrderedDict()
        self._next, self._listener = 1, None
        self._links = []
        self.news = threading.Condition(threading.RLock())

    # Life.

    def start(self):
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", self.port))
        self._listener.listen(64)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()
        return self

    def stop(self):
        if self._listener:
            # A blocked accept() returns only after this.
            try:
                self._listener.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            self._listener.close()
            self._listener = None
        for link in list(self._links):
            link.cut()

    def _accept(self, listener):
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            link = Link(self, plain)
            with self.news:
                self._links.append(link)
            threading.Thread(target=link.run, daemon=True).start()

    # What a test asks.

    def wait(self, condition, what, deadline=30.0):
        """Waits until `condition(self)`; asked anew whenever a packet has been answered."""
        with self.news:
            if not self.news.wait_for(lambda: condition(self), deadline):
                raise Late(f"{self.name}: {what}: not within {deadline} s; {len(self.got)} messages, "
                           f"{len(self.connects)} connections, the last: {self.got[-3:]}")

    def wait_count(self, count, deadline=30.0):
        """Waits for so many different messages."""
        self.wait(lambda b: len(b.got) >= count and len(set(b.payloads())) >= count,
                  f"{count} messages", deadline)

    def wait_payload(self, payload, deadline=30.0):
        self.wait(lambda b: any(g.payload == payload for g in reversed(b.got)), f"{payload}", deadline)

    def wait_connects(self, count, deadline=30.0):
        self.wait(lambda b: len(b.connects) >= count, f"{count} connections", deadline)

    def payloads(self, topic=None):
        """What came, in order, as often as it came."""
        with self.news:
            return [g.payload for g in self.got if topic in (None, g.topic)]

    def firsts(self, topic=None):
        """What came, each once, in the order of first arrival."""
        return list(dict.fromkeys(self.payloads(topic)))

    def deliver(self, topic, payload):
        """Sends this down with QoS 1, now and on every connection until it is acknowledged."""
        with self.news:
            number, self._next = self._next, self._next % 60_000 + 1
            self.outbox[number] = (topic, payload)
            for link in self._links:
                link.deliver(number)

    def behave(self):
        """From now on what MQTT says."""
        self.answers.clear()

    # The usual answers.

    def on_connect(self, link, packet):
        link.send(raw.packet(raw.CONNACK, 0, b"\0\0"))

    def on_subscribe(self, link, packet):
        at, codes = 2, []
        while at < len(packet.body):
            size = struct.unpack_from(">H", packet.body, at)[0]
            name = packet.body[at + 2 : at + 2 + size].decode()
            qos = packet.body[at + 2 + size]
            self.filters[name] = qos
            codes.append(min(qos, 1))
            at += 3 + size
        link.send(raw.packet(raw.SUBACK, 0, packet.body[:2] + bytes(codes)))
        link.subscribed = True
        for number in list(self.outbox):
            link.deliver(number)

    def on_publish(self, link, packet):
        link.keep(packet)
        if packet.qos:
            link.send(raw.puback(packet.packet_id))

    def on_puback(self, link, packet):
        self.outbox.pop(packet.packet_id, None)

    def on_pingreq(self, link, packet):
        link.send(raw.packet(raw.PINGRESP, 0, b""))

    def on_disconnect(self, link, packet):
        raise Cut


USUAL = {
    raw.CONNECT: Broker.on_connect, raw.SUBSCRIBE: Broker.on_subscribe,
    raw.PUBLISH: Broker.on_publish, raw.PUBACK: Broker.on_puback,
    raw.PINGREQ: Broker.on_pingreq, raw.DISCONNECT: Broker.on_disconnect,
}


class Link:
    """One connection of the bridge."""

    def __init__(self, broker, plain):
        self.broker, self.socket = broker, plain
        self.number, self.subscribed, self.count = 0, False, collections.Counter()
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer, self._out = b"", []

    def run(self):
        broker = self.broker
        try:
            while True:
                while (found := raw.split(self._buffer)) is not None:
                    kind, flags, body, size = found
                    self._buffer = self._buffer[size:]
                    with broker.news:
                        self.take(raw.Packet(kind, flags, body))
                # One write for what one read brought.
                self.flush()
                data = self.socket.recv(1 << 18)
                if not data:
                    raise Cut
                self._buffer += data
        except (Cut, OSError):
            self.flush()
        finally:
            with broker.news:
                broker._links.remove(self)
                broker.news.notify_all()
            self.socket.close()

    def take(self, packet):
        broker = self.broker
        self.count[packet.kind] += 1
        if packet.kind == raw.CONNECT:
            broker.connects.append(packet)
            self.number = len(broker.connects)
        answer = broker.answers.get(packet.kind)
        try:
            if answer:
                answer(self, packet)
            else:
                self.usual(packet)
        finally:
            broker.news.notify_all()

    def usual(self, packet):
        """What MQTT says to this packet."""
        if packet.kind not in USUAL:
            raise Cut
        USUAL[packet.kind](self.broker, self, packet)

    def keep(self, packet):
        """Takes a PUBLISH as received."""
        packet_id = packet.packet_id if packet.qos else 0
        self.broker.got.append(
            Got(self.number, packet_id, packet.dup, packet.topic, packet.payload)
        )

    def send(self, data):
        self._out.append(data)

    def flush(self):
        with self.broker.news:
            data, self._out = b"".join(self._out), []
        if data:
            try:
                self.socket.sendall(data)
            except OSError:
                pass

    def deliver(self, number):
        if self.subscribed:
            topic, payload = self.broker.outbox[number]
            self._out.append(raw.publish(topic, payload, 1, number))
            self.flush()

    def cut(self):
        """RST, from whatever thread."""
        try:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
