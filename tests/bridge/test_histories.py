"""Histories of faults by seed: publishing, cuts, stalls, reordering, SIGKILL, restarts, an upstream that
goes and comes, in any order. Whatever the history: nothing acknowledged is lost in either direction, the
order of each topic holds, and the accounts balance.

IOTEDGE_HISTORIES says how many (`make bridge-kills`: 50). A failure names its seed; IOTEDGE_STORY_SEED
repeats it alone.
"""

import os
import random

import pytest
from far.gateway import ROUTE, balanced, config, knock, numbered, numbers
from harness import raw
from harness.wait import until

HISTORIES = int(os.environ.get("IOTEDGE_HISTORIES", "5"))
GIVEN = os.environ.get("IOTEDGE_STORY_SEED")
SEEDS = [int(GIVEN)] if GIVEN else [random.SystemRandom().randrange(2**32) for _ in range(HISTORIES)]
TOPICS = ["t/0", "t/1", "u/0", "u/1"]
WINDOW = 100


class History:
    """One gateway, two routes out and one in, a network and an upstream; and what must be true."""

    def __init__(self, daemon, far, network, seed):
        self.chance = random.Random(seed)
        self.sync = self.chance.choice(["full", "50ms"])
        self.broker = far()
        self.proxy = network(self.broker.port, seed)
        routes = [ROUTE, {**ROUTE, "filter": "u/#"}, {"direction": "in", "filter": "down/#", "qos": 1}]
        self.gateway = daemon(config=config(self.proxy.port, *routes, sync=self.sync))
        self.sent, self.delivered, self.kills, self.links_lost = 0, 0, 0, 0
        self.waiting, self.acked = {}, set()
        self.got_down = []
        self.steps = []
        self.link = None

    # What happens.

    def step(self):
        name, weight = zip(*[
            ("publish", 8), ("publish_and_kill", 2), ("deliver", 3), ("cut", 3), ("cut_at", 3), ("stall", 1),
            ("delay", 2), ("reorder", 2), ("starve", 1), ("flow", 4), ("down", 2), ("upstream_restarts", 1),
            ("kill", 2), ("restart", 1), ("knock", 3), ("see", 2),
        ])
        chosen = self.chance.choices(name, weight)[0]
        self.steps.append(chosen)
        getattr(self, chosen)()

    def near(self):
        """The publisher's connection. What was on its way on the last one is never repeated: it may have
        been accepted or not."""
        if self.link is None:
            self.waiting.clear()
            self.link = raw.Connection(self.gateway.ports["mqtt"])
            self.link.connect("near")
        return self.link

    def lose_near(self):
        if self.link is not None:
            self.link.close()
        self.link = None

    def send(self, count):
        link = self.near()
        for _ in range(count):
            topic = self.chance.choice(TOPICS)
            packet_id = self.sent % 60_000 + 1
            self.waiting[packet_id] = self.sent
            link.send(raw.publish(topic, numbered(self.sent, self.sent + 1)[0][1], 1, packet_id))
            self.sent += 1

    def publish(self):
        self.send(self.chance.randrange(1, 120))
        while self.waiting:
            self.acked.add(self.waiting.pop(self.link.expect(raw.PUBACK, 30).packet_id))

    def publish_and_kill(self):
        """In the middle of its acknowledgements."""
        count = self.chance.randrange(1, 120)
        self.send(count)
        for _ in range(self.chance.randrange(count)):
            self.acked.add(self.waiting.pop(self.link.expect(raw.PUBACK, 30).packet_id))
        self.kill()

    def deliver(self):
        for _ in range(self.chance.randrange(1, 30)):
            self.broker.deliver("down/x", b"%09d" % self.delivered)
            self.delivered += 1

    def see(self):
        """The local subscriber takes what is there for it, and sometimes does not say so."""
        quiet = 0
        with raw.Connection(self.gateway.ports["mqtt"]) as link:
            link.connect("sleeper", clean=False)
            link.send(raw.pingreq())
            while quiet == 0:
                packet = link.receive()
                if packet.kind == raw.PINGRESP:
                    quiet = 1
                elif packet.kind == raw.PUBLISH:
                    self.got_down.append(int(packet.payload))
                    if self.chance.random() < 0.9:
                        link.send(raw.puback(packet.packet_id))
                    else:
                        return

    def cut(self):
        self.proxy.cut()

    def cut_at(self):
        way, kind = self.chance.choice([
            ("up", raw.CONNECT), ("up", raw.SUBSCRIBE), ("up", raw.PUBLISH), ("up", raw.PUBACK),
            ("down", raw.CONNACK), ("down", raw.SUBACK), ("down", raw.PUBACK), ("down", raw.PUBLISH),
        ])
        self.proxy.cut_at(way, kind, self.chance.randrange(1, 40))

    def stall(self):
        self.proxy.stall()

    def delay(self):
        self.proxy.delay = self.chance.choice([0, 0.002, 0.02])

    def reorder(self):
        self.proxy.reorder = self.chance.choice([0, 3, 40])

    def starve(self):
        self.proxy.bytes_per_second = self.chance.choice([None, 50_000, 500_000])

    def flow(self):
        self.proxy.flow()
        self.knock()

    def down(self):
        self.proxy.down()

    def upstream_restarts(self):
        self.broker.stop()
        self.broker.start()

    def kill(self):
        self.gateway.kill()
        self.kills += 1
        self.lose_near()
        self.gateway.start()

    def restart(self):
        self.lose_near()
        self.gateway.restart()

    def knock(self):
        knock(self.gateway)

    # What is true.

    def routes(self):
        status = self.gateway.ctl_json("bridge", "status")
        upstreams = status["upstreams"] if isinstance(status, dict) else status
        return [r for r in upstreams[0]["routes"]]

    def check(self):
        """At any moment."""
        for route in self.routes():
            assert balanced(route), route
            assert not route["dropped"], route
        assert "panicked" not in self.gateway.process.log

    def settle(self):
        self.proxy.flow()
        knock(self.gateway)
        out = lambda: [r for r in self.routes() if r["direction"] == "out"]  # noqa: E731
        until(lambda: sum(r["queued"] for r in out()) == 0, "the queues are empty", 90, every=0.1)
        self.broker.wait(lambda b: not b.outbox, "what came down is acknowledged", 60)
        got = numbers(self.broker.payloads())
        lost = self.acked - set(got)
        assert not lost, f"{len(lost)} acknowledged messages lost: {sorted(lost)[:20]}"
        assert set(got) <= set(range(self.sent)), "out of nothing"
        for topic in TOPICS:
            firsts = numbers(self.broker.firsts(topic))
            assert firsts == sorted(firsts), f"{topic} is out of order"
        # Again comes what was in flight when a connection or the gateway ended: at most a window and
        # what was acknowledged in the moment before.
        again = len(got) - len(set(got))
        connections = len(self.broker.connects)
        assert again <= 2 * WINDOW * connections, f"{again} again over {connections} connections"
        accepted = sum(r["accepted"] for r in out())
        # Where commits wait for company, what the upstream acknowledges before its commit is only
        # counted, and a kill may take the counts of a second.
        least = len(self.acked) if self.sync == "full" else 0
        assert least <= accepted <= self.sent, (len(self.acked), accepted, self.sent)
        self.check()
        last = self.delivered
        self.broker.deliver("down/x", b"%09d" % last)
        self.delivered += 1
        with raw.Connection(self.gateway.ports["mqtt"]) as link:
            link.connect("sleeper", clean=False)
            while not self.got_down or self.got_down[-1] != last:
                packet = link.expect(raw.PUBLISH, 30)
                self.got_down.append(int(packet.payload))
                link.send(raw.puback(packet.packet_id))
        firsts = list(dict.fromkeys(self.got_down))
        lost = set(range(self.delivered)) - set(firsts)
        assert not lost, f"{len(lost)} of {self.delivered} inbound messages lost: {sorted(lost)[:20]}"
        assert firsts == sorted(firsts), "inbound messages are out of order"
        return again

    def begin(self):
        self.gateway.start()
        with raw.Connection(self.gateway.ports["mqtt"]) as link:
            link.connect("sleeper", clean=False)
            assert link.subscribe(("down/#", 1)) == [1]


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_a_history_of_faults(daemon, far, network, seed):
    print(f"seed: IOTEDGE_STORY_SEED={seed}")
    history = History(daemon, far, network, seed)
    history.begin()
    try:
        for _ in range(40):
            history.step()
            if history.chance.random() < 0.3:
                history.check()
        again = history.settle()
    except BaseException:
        print(" ".join(history.steps))
        raise
    print(f"sync {history.sync}, {history.kills} kills, {len(history.broker.connects)} connections: "
          f"{history.sent} sent, {len(history.acked)} acknowledged, {again} again; "
          f"{history.delivered} down, {len(history.got_down) - history.delivered} again")
    history.gateway.stop()


@pytest.mark.parametrize("fault,found", [("loses", "acknowledged messages lost"), ("swaps", "out of order")])
def test_the_comparison_finds_one_wrong_message(daemon, far, network, fault, found):
    """An upstream that acknowledges one message and forgets it, or takes two in the wrong order."""
    history = History(daemon, far, network, 1)
    broker, last = history.broker, []

    def wrong(link, packet):
        link.usual(packet)
        if fault == "loses" and len(broker.got) == 17:
            broker.got.pop()
        if fault == "swaps" and packet.topic == TOPICS[0]:
            last.append(len(broker.got) - 1)
            if len(last) == 3:
                a, b = last[-2:]
                broker.got[a], broker.got[b] = broker.got[b], broker.got[a]

    broker.answers[raw.PUBLISH] = wrong
    history.begin()
    history.publish()
    while history.sent < 60:
        history.publish()
    with pytest.raises(AssertionError, match=found):
        history.settle()
