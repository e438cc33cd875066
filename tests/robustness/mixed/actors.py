"""Clients: publishers, subscribers, one that looks at what is retained, and one that makes noise.

An actor keeps its session's state over its connections and the daemon's deaths as the standard
wants it of a client (4.1, 4.3, 4.4): in every state of an exchange its link may end.
"""

import collections

from conformance import wire, wire5
from mixed.books import Message
from mixed.link import Gone, Link

STAYS = (wire5.SESSION_EXPIRY, 86_400)
RETRY = 0.01


class Actor:
    """A client id."""

    # Chances of an end of the connection with each packet that comes, and with each turn.
    ends_on_packet, ends_on_turn = 0.002, 0.002
    # Seconds that it stays away at most.
    stays_away = 0.15
    # Its session outlives its connection.
    durable = True
    # The chance to give its session up when it connects.
    gives_up = 0.0

    def __init__(self, stage, name, version):
        self.stage, self.books, self.name, self.version = stage, stage.books, name, version
        self.rng = stage.rng_for(name)
        self.link, self.up = None, False
        # When it tries to connect again.
        self.at = 0.0
        # What the server has promised: a session that is there, or none.
        self._there = self._none = False
        # It wants a session that begins, until a server has said yes to that.
        self._clean = not self.durable
        # What this connection's CONNACK has to say of a session: True, False, or None for any.
        self._expected = None

    @property
    def calm(self):
        return self.stage.calm

    # Connections.

    def connect(self, now):
        try:
            self.link = Link(self.stage.port, self.version)
        except Gone:
            self.at = now + RETRY
            return
        self.stage.watch(self)
        if not self.calm and self.durable and self.rng.random() < self.gives_up:
            self._clean = True
        if self._clean:
            self.forget()
            self._expected = False
        else:
            self._expected = True if self._there else False if self._none else None
        # Whatever becomes of it, the server may have heard it.
        self._none = False
        self._there = self._there and not self._clean
        data = self.hello()
        if not self.calm and self.rng.random() < 0.01:
            self.stage.unwatch(self)
            self.link.cut(data, self.rng)
            self.gone(now)
        else:
            self.link.send(data)

    def hello(self):
        if self.version == 5:
            pairs = ([STAYS] if self.durable else []) + self.asks()
            return wire5.connect(self.name, *pairs, clean=self._clean, keep_alive=0)
        return wire.connect(self.name, clean=self._clean, keep_alive=0)

    def asks(self):
        """Further properties of CONNECT."""
        return []

    def lost(self, now):
        """The link has ended."""
        self.stage.unwatch(self)
        self.link.close()
        self.gone(now)

    def gone(self, now):
        self.link, self.up = None, False
        self.at = now + (RETRY if self.calm else self.rng.random() * self.stays_away)

    def end(self, now):
        """Ends the connection in one of the ways there are."""
        self.stage.unwatch(self)
        way = self.rng.randrange(4)
        if way == 0:
            self.link.send(wire.disconnect())
            self.link.close()
        elif way == 1:
            self.link.cut(wire.subscribe([("cut/#", 0)], 9999), self.rng)
        else:
            self.link.close(hard=way == 2)
        self.books.event(self.name, f"ends its connection, way {way}")
        self.gone(now)

    # What comes.

    def read(self, now):
        """Reads and works on what has come."""
        ended = None
        try:
            self.link.take()
        except Gone as gone:
            ended = gone
        for heard in self.link.packets():
            self.stage.heard(self, heard)
            if not self.calm and self.up and self.rng.random() < self.ends_on_packet:
                # The packet is not heard of: it was lost on the way.
                self.end(now)
                return
            if self.packet(heard, now) is False:
                return
        if ended:
            self.lost(now)

    def packet(self, heard, now):
        if heard.kind == wire.CONNACK:
            return self.connected(heard, now)
        if heard.kind == wire.DISCONNECT:
            self.books.counts[f"DISCONNECT {heard.code:#x}"] += 1
            if heard.code != 0x8E and not (heard.code == 0x8B and self.stage.stopping):
                self.books.wrong(f"{self.name}: DISCONNECT {heard.said}")
            return None
        return self.on_packet(heard, now)

    def connected(self, heard, now):
        self.books.event(self.name, f"CONNACK {heard.code}, session present {heard.session_present}")
        if heard.code:
            # A daemon that stops says that it does.
            if heard.code not in (0x88, 3) or not self.stage.stopping:
                self.books.wrong(f"{self.name}: CONNECT refused with {heard.code}")
            self.lost(now)
            return False
        if self._expected not in (None, heard.session_present):
            what = "is gone" if self._expected else "that was given up is back"
            self.books.wrong(f"{self.name}: its session {what}")
        if not heard.session_present:
            self.forget()
        if self.durable and self._clean:
            self._clean = False
            if self.version == 4:
                # There is none now: 3.1.1's lasting sessions begin with a connection of their own.
                self._none = True
                self.link.send(wire.disconnect())
                self.lost(now)
                return False
        self._there = self.durable
        self.up = True
        self.begin(heard, now)
        return None

    def forget(self):
        """The session begins again."""

    def begin(self, heard, now):
        """The connection stands."""

    def turn(self, now):
        """Has its turn now and then."""
        if self.link is None:
            if now >= self.at:
                self.connect(now)
        elif self.up:
            if not self.calm and self.rng.random() < self.ends_on_turn:
                self.end(now)
            else:
                self.act(now)

    def act(self, now):
        pass

    def pending(self):
        """What it waits for, or owes, at this moment."""
        return ()


class Publisher(Actor):
    """Sends numbers, each on one of its topics, with every QoS."""

    gives_up = 0.02
    WINDOW = 16

    def __init__(self, stage, name, version):
        super().__init__(stage, name, version)
        self.number, self._last_id = 0, 0
        # Packet id: [message, released, index among the retained values].
        self.flight = collections.OrderedDict()

    def forget(self):
        for message, *_ in self.flight.values():
            # Whether the server has it, nobody knows any more.
            message.accepted = 0
            self.books.event(self.name, "given up", message.key)
        self.flight.clear()

    def begin(self, heard, now):
        rewritten = set()
        for packet_id, entry in self.flight.items():
            message, released, _ = entry
            if released:
                self.link.send(wire.pubrel(packet_id))
            else:
                if message.retain and (message.qos == 1 or message.topic in rewritten):
                    at = self.books.retained[message.topic].write(message)
                    if message.qos == 1:
                        entry[2] = at
                        rewritten.add(message.topic)
                self.link.send(self.data(message, packet_id, dup=True))
            self.books.event(self.name, f"again, id {packet_id}, released {released}", message.key)

    def data(self, message, packet_id, dup=False):
        if self.version == 5:
            return wire5.publish(message.topic, message.payload, qos=message.qos,
                                 packet_id=packet_id, retain=message.retain, dup=dup)
        return wire.publish(message.topic, message.payload, message.qos, packet_id,
                            message.retain, dup)

    def act(self, now):
        if self.calm:
            return
        for _ in range(self.rng.randrange(4)):
            if self.link.clogged or len(self.flight) >= self.WINDOW:
                return
            self.publish()

    def publish(self):
        rng, self.number = self.rng, self.number + 1
        qos, retained = rng.choice(self.stage.qualities), None
        if rng.random() < 0.15:
            topic = f"r/{self.name}/{rng.randrange(2)}"
        else:
            topic = f"t/{self.name}/{rng.randrange(3)}"
        size = rng.randrange(5_000, 20_000) if rng.random() < 0.01 else rng.randrange(60)
        payload = f"{self.name} {self.number} ".encode() + b"." * size
        message = Message(self.name, self.number, topic, qos, topic.startswith("r/"), payload)
        if message.retain:
            if topic.endswith("1") and rng.random() < 0.3:
                message.payload = b""
            retained = self.books.retained[topic].write(message)
        packet_id = self.new_id() if qos else 0
        self.books.messages[message.key] = message
        message.sent = self.books.event(self.name, f"{topic}, QoS {qos}, id {packet_id}", message.key)
        if qos:
            self.flight[packet_id] = [message, False, retained]
        self.link.send(self.data(message, packet_id))

    def pending(self):
        for message, released, _ in self.flight.values():
            yield f"QoS {message.qos} in, {'PUBREL' if released else 'PUBLISH'} not answered"

    def new_id(self):
        while True:
            self._last_id = self._last_id % 65_535 + 1
            if self._last_id not in self.flight:
                return self._last_id

    def on_packet(self, heard, now):
        entry = self.flight.get(heard.packet_id)
        if entry is None:
            if heard.kind != wire.PUBCOMP:
                self.books.wrong(f"{self.name}: {heard} for an id that is not in flight")
            return
        message, released, retained = entry
        if heard.code >= 0x80 and heard.kind != wire.PUBCOMP:
            self.books.wrong(f"{self.name}: {heard}", message.key)
        if heard.kind in (wire.PUBACK, wire.PUBREC) and not released:
            if (heard.kind == wire.PUBACK) != (message.qos == 1):
                self.books.wrong(f"{self.name}: {heard} for QoS {message.qos}", message.key)
            message.accepted = self.books.event(self.name, f"accepted by {heard.kind}", message.key)
            self.books.counts[f"accepted QoS {message.qos}"] += 1
            if retained is not None:
                topic = self.books.retained[message.topic]
                topic.accepted = max(topic.accepted, retained)
        if heard.kind == wire.PUBREC:
            # In the order of the PUBRECs, which is the order of the PUBLISHes.
            entry[1] = True
            self.link.send(wire.pubrel(heard.packet_id))
        else:
            self.books.event(self.name, f"done, code {heard.code}", message.key)
            del self.flight[heard.packet_id]


class Subscriber(Actor):
    """A lasting session with one subscription; of QoS 2 it keeps what a receiver has to keep."""

    def __init__(self, stage, name, version, filter, qos, *, window=None, rests=0.0, group=None,
                 gives_up=0.0):
        super().__init__(stage, name, version)
        self.filter, self.qos, self.window = filter, qos, window
        self.group, self.rests, self.gives_up = group, rests, gives_up
        self.taker = group
        # QoS 2: packet id of what was received and is not released.
        self.unreleased = {}
        # Said later.
        self.owed = collections.deque()

    def asks(self):
        return [(wire5.RECEIVE_MAXIMUM, self.window)] if self.window else []

    def forget(self):
        if self.group is None and self.taker is not None:
            self.taker.ends()
            self.taker = None
        self.unreleased.clear()

    def begin(self, heard, now):
        # What was to be said on the link before is not said on this one.
        self.owed.clear()
        if self.taker is None:
            self.taker = self.books.taker(self.name, self.filter, self.qos)
        if not self.taker.since or not heard.session_present:
            self.link.send(self.request())

    def request(self):
        filter = self.group.shared if self.group else self.filter
        if self.version == 5:
            return wire5.subscribe([(filter, self.qos)], packet_id=1)
        return wire.subscribe([(filter, self.qos)], 1)

    def on_packet(self, heard, now):
        if heard.kind == wire.SUBACK:
            if list(heard.codes) != [self.qos]:
                self.books.wrong(f"{self.name}: SUBACK {list(heard.codes)} for QoS {self.qos}")
            self.taker.begins()
            return None
        if heard.kind == wire.PUBLISH:
            return self.message(heard, now)
        if heard.kind == wire.PUBREL:
            key, _ = self.unreleased.pop(heard.packet_id, (None, None))
            self.say(wire.pubcomp(heard.packet_id), f"PUBREL {heard.packet_id}, PUBCOMP", key)
        return None

    def message(self, heard, now):
        message = self.stage.message_of(self, heard)
        if message is None:
            return
        key = message.key
        self.books.event(self.name, f"got, QoS {heard.qos}, id {heard.packet_id}, dup {heard.dup}, "
                         f"retain {heard.retain}", key)
        if heard.qos == 2:
            before = self.unreleased.get(heard.packet_id)
            if before is not None and before != (key, heard.retain):
                self.books.wrong(f"{self.name}: {key} with id {heard.packet_id} of {before}", key)
            if before is None:
                self.unreleased[heard.packet_id] = (key, heard.retain)
                self.count(message, heard)
            self.say(wire.pubrec(heard.packet_id), "PUBREC", key)
            return
        self.count(message, heard)
        if heard.qos == 1:
            self.say(wire.puback(heard.packet_id), "PUBACK", key)

    def count(self, message, heard):
        """What is retained comes to a new subscription besides what is owed to it."""
        if heard.retain:
            return
        self.books.counts[f"delivered QoS {heard.qos}"] += 1
        self.taker.takes(message, heard, self.name)

    def say(self, data, what, key):
        """At once, or a while later."""
        if self.calm or self.rng.random() < 0.8:
            self.books.event(self.name, what, key)
            self.link.send(data)
        else:
            self.books.event(self.name, f"{what} later", key)
            self.owed.append(data)

    def pending(self):
        owed = set(self.owed)
        for packet_id in self.unreleased:
            said = wire.pubrec(packet_id) not in owed
            yield f"QoS 2 out, {'PUBREL not come' if said else 'PUBREC not said'}"
        for data in owed:
            if data[0] >> 4 in (wire.PUBACK, wire.PUBCOMP):
                yield "QoS 1 out, PUBACK not said" if data[0] >> 4 == wire.PUBACK else "QoS 2 out, PUBCOMP not said"

    def act(self, now):
        while self.owed and (self.calm or self.rng.random() < 0.3):
            self.link.send(self.owed.popleft())
        if not self.calm and self.rng.random() < self.rests:
            self.end(now)
            self.at = now + self.rng.random() * 2


class Watcher(Actor):
    """Looks with a new subscription at what is retained."""

    durable = False
    ends_on_turn = ends_on_packet = 0.0
    stays_away = 0.1

    def begin(self, heard, now):
        self.before = {topic: it.accepted for topic, it in self.books.retained.items()}
        self.seen = {}
        subscribe = wire5.subscribe if self.version == 5 else wire.subscribe
        self.link.send(subscribe([("r/#", 0)]), wire.pingreq())

    def on_packet(self, heard, now):
        if heard.kind == wire.PUBLISH and heard.retain:
            message = self.stage.message_of(self, heard)
            if message is not None:
                self.seen[heard.topic] = message.key
        if heard.kind != wire.PINGRESP:
            return None
        for topic, before in self.before.items():
            after = len(self.books.retained[topic].values) - 1
            self.books.check_retained(topic, before, self.seen.get(topic), after)
        self.books.counts["looks at what is retained"] += 1
        self.stage.looked += 1
        self.lost(now)
        return False


class Noise(Actor):
    """A client that comes with nothing, subscribes to anything, and goes."""

    durable = False
    ends_on_turn = 0.02

    def act(self, now):
        if self.calm:
            self.lost(now)

    def begin(self, heard, now):
        filter = self.rng.choice(["#", "t/#", "t/+/1", "r/#", "+/+/+"])
        qos = self.rng.choice(self.stage.qualities)
        subscribe = wire5.subscribe if self.version == 5 else wire.subscribe
        self.link.send(subscribe([(filter, qos)]))

    def on_packet(self, heard, now):
        if heard.kind == wire.PUBLISH:
            self.stage.message_of(self, heard)
            if self.rng.random() < 0.9:
                if heard.qos == 1:
                    self.link.send(wire.puback(heard.packet_id))
                elif heard.qos == 2:
                    self.link.send(wire.pubrec(heard.packet_id))
        elif heard.kind == wire.PUBREL:
            self.link.send(wire.pubcomp(heard.packet_id))
        elif heard.kind == wire.SUBACK and any(code >= 0x80 for code in heard.codes):
            self.books.wrong(f"{self.name}: SUBACK {heard.codes}")
