"""What was promised and what was kept.

Every event has a number. A message is *accepted* when its publisher has heard PUBACK or PUBREC. A
taker is what a subscription's messages are owed to: a session's subscription from its SUBACK on, or
the group of a shared one.
"""

import collections
import dataclasses
import itertools


@dataclasses.dataclass
class Message:
    publisher: str
    number: int
    topic: str
    qos: int
    retain: bool
    payload: bytes
    # Events: first sent, and accepted; 0 where it is not, or nobody knows.
    sent: int = 0
    accepted: int = 0

    @property
    def key(self):
        return self.publisher, self.number


def fits(filter, topic):
    levels, names = filter.split("/"), topic.split("/")
    for at, level in enumerate(levels):
        if level == "#":
            return True
        if at >= len(names) or level not in ("+", names[at]):
            return False
    return len(levels) == len(names)


class Taker:
    """A subscription's account."""

    def __init__(self, books, name, filter, qos, ordered=True):
        self.books, self.name, self.filter, self.qos = books, name, filter, qos
        self.ordered = ordered
        # Events: first asked for, granted, and given up.
        self.asked = books.event(name, f"asks for {filter}")
        self.since = self.until = 0
        self.got = collections.Counter()
        self._last = {}

    def begins(self):
        self.since = self.since or self.books.event(self.name, "owed from here on")

    def ends(self):
        """Before the word that ends it is sent."""
        self.until = self.books.event(self.name, "owed no more")

    def takes(self, message, heard, who):
        """A message that its client has not had before, as far as the client can know."""
        books, qos = self.books, min(message.qos, self.qos)
        where = f"{who}: {message.key} by QoS {heard.qos}"
        if not fits(self.filter, message.topic):
            books.wrong(f"{where}: {message.topic} does not match {self.filter}", message.key, who)
        if heard.qos != qos:
            books.wrong(f"{where}: published with {message.qos}, granted {self.qos}", message.key, who)
        if 0 < message.accepted < self.asked:
            books.wrong(f"{where}: was accepted before there was a subscription", message.key, who)
        again = self.got[message.key]
        self.got[message.key] += 1
        if again:
            if qos == 2:
                books.wrong(f"{where}: the {again + 1}th time", message.key, who)
            elif qos == 0 and message.qos != 1:
                books.wrong(f"{where}: QoS 0 twice", message.key, who)
            elif message.qos == 2 and not heard.dup:
                books.wrong(f"{where}: again, without DUP", message.key, who)
        elif self.ordered and self.qos and 0 < self.since < message.sent:
            # What was sent before may come again behind what the taker has not missed.
            stream = message.publisher, message.topic, message.qos
            if message.number < self._last.get(stream, 0):
                books.wrong(f"{where}: behind {self._last[stream]} of its topic", message.key, who)
            self._last[stream] = message.number

    def missing(self):
        """Messages that are owed."""
        if self.until or not self.since or self.qos == 0:
            return []
        return [
            m for m in self.books.messages.values()
            if m.qos and m.accepted and m.sent > self.since
            and fits(self.filter, m.topic) and m.key not in self.got
        ]


class Retained:
    """The values of a topic that one client writes, in the order of its sending; None clears it.

    A QoS 1 message that is sent again is written again: to the server it is a new one. One of QoS 2
    that is sent behind such a one may be written there, or was before.
    """

    def __init__(self):
        self.values, self.keys = [], []
        # Index of the last that is acknowledged; before any, there is nothing.
        self.accepted = -1

    def write(self, message):
        self.values.append(message.key if message.payload else None)
        self.keys.append(message.key)
        return len(self.values) - 1


class Books:
    def __init__(self):
        self.messages = {}
        self.takers = []
        self.retained = collections.defaultdict(Retained)
        self.faults = []
        self.counts = collections.Counter()
        self._events = itertools.count(1)
        self._trail = collections.deque(maxlen=400_000)

    def event(self, who, what, key=None):
        number = next(self._events)
        self._trail.append((number, who, what, key))
        return number

    def wrong(self, what, key=None, *whose):
        self.event("BOOKS", what, key)
        story = self.story(key, *whose) if key else self.last_events(10)
        self.faults.append(f"{what}\n{story}")

    def taker(self, name, filter, qos, **how):
        it = Taker(self, name, filter, qos, **how)
        self.takers.append(it)
        return it

    def story(self, key, *whose, count=80):
        """All that happened to one message, and the comings and goings of these actors meanwhile."""
        began = next((n for n, _, _, of in self._trail if of == key), 0)
        lines = [
            f"{n:8} {who}: {what}" for n, who, what, of in self._trail
            if of == key or of is None and n > began and who in ("STAGE", key[0], *whose)
        ]
        return "\n".join(lines[:count])

    def last_events(self, count=60):
        return "\n".join(f"{n:8} {w}: {what} {k or ''}" for n, w, what, k in list(self._trail)[-count:])

    def check_retained(self, topic, before, seen, after):
        """`seen` is the key of what a new subscription got, None for nothing. `before` was the last
        acknowledged when it was asked for, `after` the last sent when the answer was there."""
        last = max(before, 0)
        good = self.retained[topic].values[last : after + 1]
        if before < 0:
            good.append(None)
        if seen not in good:
            what = f"retained {topic}: {seen}, possible are {good}"
            if seen:
                what += "\n" + self.story(seen)
            self.wrong(what, self.retained[topic].keys[last])

    def verdict(self):
        """Everything that is wrong, with the story of the first few."""
        faults = list(self.faults)
        for taker in self.takers:
            for message in taker.missing():
                what = f"{taker.name} ({taker.filter}, QoS {taker.qos}): never got {message.key}"
                faults.append(f"{what}\n{self.story(message.key)}")
                if len(faults) > 20:
                    return faults
        return faults
