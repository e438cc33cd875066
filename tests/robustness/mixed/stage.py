"""The loop that all actors share, and the daemon that is killed under them."""

import collections
import random
import selectors
import time

from conformance import wire, wire5
from harness.wait import Late
from mixed.actors import Noise, Publisher, Subscriber, Watcher
from mixed.books import Books, Taker
from mixed.link import Gone, Link

TURN = 0.005


class Group(Taker):
    """What a shared subscription's members are owed together."""

    def __init__(self, books, name, filter, qos):
        super().__init__(books, f"group {name}", filter, qos, ordered=False)
        self.shared = f"$share/{name}/{filter}"


class Stage:
    def __init__(self, gateway, seed):
        self.gateway, self.port, self.seed = gateway, gateway.ports["mqtt"], seed
        self.books, self.rng = Books(), self.rng_for("stage")
        self.calm = self.stopping = False
        self.looked = 0
        # How many kills met an exchange in which state.
        self.states = collections.Counter()
        self.actors = []
        self._selector = selectors.DefaultSelector()
        # A kill as soon as so many packets of this kind have been heard.
        self._trigger = None
        self.qualities = [0, 1]

    def rng_for(self, name):
        return random.Random(f"{self.seed} {name}")

    # What the server can do, and who comes.

    def ask_abilities(self):
        """(QoS 2, shared subscriptions), as CONNACK says."""
        link = Link(self.port, 5)
        link.send(wire5.connect("abilities"))
        end = time.monotonic() + 5
        while time.monotonic() < end:
            link.take()
            for heard in link.packets():
                link.close()
                offered = dict(heard.said.properties)
                return offered.get(wire5.MAXIMUM_QOS, 2) == 2, offered.get(wire5.SHARED_AVAILABLE, 1) == 1
        raise Late("no CONNACK")

    def cast(self):
        """The actors, as far as the server knows what they need."""
        qos2, shared = self.ask_abilities()
        high = 2 if qos2 else 1
        self.qualities = [0, 1, 2] if qos2 else [0, 1]
        self.actors = [Publisher(self, f"p{n}", 5 if n % 2 else 4) for n in range(6)]
        self.actors += [
            Subscriber(self, "all4", 4, "t/#", high),
            Subscriber(self, "all5", 5, "t/#", high),
            Subscriber(self, "one4", 4, "t/+/0", 1),
            Subscriber(self, "one5", 5, "t/+/1", 1, window=3),
            Subscriber(self, "narrow5", 5, "t/p0/#", high, window=2),
            Subscriber(self, "zero4", 4, "t/#", 0),
            Subscriber(self, "sleeper5", 5, "t/#", 1, rests=0.05),
            Subscriber(self, "sleeper4", 4, "t/p1/#", high, rests=0.05),
            Subscriber(self, "kept5", 5, "r/+/0", high),
            Subscriber(self, "renewed5", 5, "t/+/2", high, gives_up=0.1),
            Subscriber(self, "renewed4", 4, "t/+/2", high, gives_up=0.1),
            Watcher(self, "watcher4", 4), Watcher(self, "watcher5", 5),
            Noise(self, "noise4", 4), Noise(self, "noise5", 5),
        ]
        if shared:
            group = Group(self.books, "g", "t/#", high)
            self.books.takers.append(group)
            self.actors += [
                Subscriber(self, f"member{n}", 5 if n % 2 else 4, "t/#", high, group=group)
                for n in range(3)
            ]
        return self

    # The loop.

    def watch(self, actor):
        self._selector.register(actor.link, selectors.EVENT_READ, actor)

    def unwatch(self, actor):
        self._selector.unregister(actor.link)

    def step(self):
        """What has come, and everybody's turn."""
        for key, _ in self._selector.select(TURN):
            actor = key.data
            # One before it may have closed it.
            if actor.link is key.fileobj:
                actor.read(time.monotonic())
        now = time.monotonic()
        if now >= self._turn_at:
            self._turn_at = now + TURN
            for actor in self.actors:
                actor.turn(now)

    _turn_at = 0.0

    def run(self, seconds, until=None):
        """Plays for so long, or until a condition holds; whether it does."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if until is not None and until():
                return True
            self.step()
        return False

    def heard(self, actor, heard):
        """Before anybody does anything about a packet."""
        if self._trigger and self._trigger[0] == heard.kind:
            self._trigger[1] -= 1
            if self._trigger[1] <= 0:
                self._trigger = None
                self.kill()

    def message_of(self, actor, heard):
        """The message that was delivered; None for one that clears a retained one."""
        if not heard.payload:
            return None
        publisher, number, _ = heard.payload.decode().split(" ", 2)
        message = self.books.messages.get((publisher, int(number)))
        if message is None or (message.topic, message.payload) != (heard.topic, heard.payload):
            self.books.wrong(f"{actor.name}: nobody has published {heard}")
            return None
        return message

    # The daemon.

    @property
    def running(self):
        return self.gateway.alive

    def hear_the_end(self):
        """The daemon has ended: all that it said has been read when this returns."""
        links = {actor.link for actor in self.actors} - {None}
        if not self.run(10, lambda: links.isdisjoint(actor.link for actor in self.actors)):
            raise Late("not every connection has ended")

    def kill(self):
        if self.gateway.alive:
            self.books.event("STAGE", "SIGKILL")
            self.gateway.kill()
            # Each state of an exchange once for each kill that met it.
            self.states.update({state for actor in self.actors for state in actor.pending()})

    def scene(self):
        """The daemon starts, lives for a while, and is killed, or is asked to stop."""
        rng, books = self.rng, self.books
        self.stopping = False
        self.gateway.spawn()
        books.event("STAGE", f"start {self.gateway.starts}")
        way = rng.choices(["starting", "moment", "packet", "stop"], [10, 35, 50, 5])[0]
        books.counts[f"end: {way}"] += 1
        if way == "starting":
            self.run(rng.random() * 0.15)
            self.kill()
            return
        count = books.counts["accepted QoS 1"]
        if not self.run(30, lambda: books.counts["accepted QoS 1"] > count or not self.running):
            raise Late("the daemon accepts nothing\n" + books.last_events())
        if way == "packet":
            kinds = [wire.CONNACK, wire.PUBLISH, wire.PUBACK, wire.SUBACK]
            if 2 in self.qualities:
                kinds += 2 * [wire.PUBREC, wire.PUBREL, wire.PUBCOMP]
            kind = rng.choice(kinds)
            few = kind in (wire.CONNACK, wire.SUBACK)
            self._trigger = [kind, rng.randrange(1, 4 if few else 200)]
            self.run(1.0, lambda: not self.running)
            self._trigger = None
            self.kill()
        elif way == "moment":
            self.run(rng.random() * 0.4)
            self.kill()
        else:
            self.run(rng.random() * 0.3)
            self.stopping = True
            books.event("STAGE", "SIGTERM")
            self.gateway.process.signal(15)
            if not self.run(15, lambda: not self.running):
                raise Late("the daemon does not stop")
            code = self.gateway.process.wait()
            if code != 0:
                books.wrong(f"SIGTERM: the daemon ends with {code}")
            self.hear_the_end()

    def settle(self):
        """No more is said than what completes what was begun; then nothing may be left."""
        self.calm, self.stopping = True, False
        self.gateway.start()
        publishers = [a for a in self.actors if isinstance(a, Publisher)]
        subscribers = [a for a in self.actors if isinstance(a, Subscriber)]

        def published():
            return all(a.up and not a.flight for a in publishers)

        def received():
            return all(a.up and a.taker.since and not a.unreleased and not a.owed for a in subscribers)

        if not self.run(60, published):
            raise Late("not all is published\n" + self.books.last_events())
        end, queued = time.monotonic() + 120, None
        while queued != 0 or not received():
            self.run(0.2)
            queued = self.gateway.ctl_json("status")["queued"]
            if time.monotonic() > end:
                raise Late(f"{queued} are still queued\n" + self.books.last_events())
        looked = self.looked
        if not self.run(10, lambda: self.looked >= looked + 3):
            raise Late("nobody looked at what is retained")

    def again(self):
        """An orderly stop, which commits the last acknowledgements, and one more death: after them
        nobody is owed anything."""
        before = sum(sum(t.got.values()) for t in self.books.takers)
        subscribers = [a for a in self.actors if isinstance(a, Subscriber)]
        for end in (self.gateway.stop, self.kill):
            self.stopping = True
            end()
            self.hear_the_end()
            self.stopping = False
            self.gateway.start()
            if not self.run(10, lambda: all(a.up for a in subscribers)):
                raise Late("not all are back")
            self.run(0.2)
        left = self.gateway.ctl_json("status")["queued"]
        if left:
            self.books.wrong(f"{left} messages are queued again after all were acknowledged")
        came = sum(sum(t.got.values()) for t in self.books.takers) - before
        if came:
            self.books.wrong(f"{came} messages came again after all were acknowledged")
