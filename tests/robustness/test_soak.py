"""Clients that come, subscribe to new topics, publish to new topics and go: memory does not grow.

`make soak` is ten minutes; the short form sees what leaks by the connection.
"""

import itertools
import os
import random
import time

import pytest
from conformance import wire, wire5
from gauges import mb, pss, slope
from harness import raw

SECONDS = int(os.environ.get("IOTEDGE_SOAK_SECONDS", "30"))
# From here on the slope counts: minute 3 of ten.
FROM = 0.3 * SECONDS
# Bytes a minute. In a short form the first fragments of a heap weigh more.
LIMIT = 0.2e6 if SECONDS >= 600 else 4e6


class Visitor:
    """One client's visit. Every topic, and most client ids, are new."""

    numbers = itertools.count()

    def __init__(self, port, rng):
        self.link = raw.Connection(port)
        self.n = next(self.numbers)
        self.rng = rng
        self.version = rng.choice([4, 5])
        self.qos = rng.choice([0, 1])

    def visit(self):
        rng, n, link = self.rng, self.n, self.link
        topics = [f"soak/{n}/{k}/{rng.random()}" for k in range(3)]
        # Every tenth has a session that stays for a second, and every tenth one of a few that last.
        way = n % 10
        if self.version == 5:
            pairs = [(wire5.SESSION_EXPIRY, 1)] if way == 0 else []
            pairs += [(wire5.SESSION_EXPIRY, 3600)] if way == 1 else []
            name = f"lasting{rng.randrange(20)}-5" if way == 1 else f"visitor-{n}"
            will = (f"soak/will/{n}", b"x", 0, []) if way == 2 else None
            link.send(wire5.connect(name, *pairs, (wire5.ALIAS_MAXIMUM, 10), clean=way != 1, will=will))
        else:
            name = f"lasting{rng.randrange(20)}-4" if way == 1 else f"visitor-{n}"
            will = (f"soak/will/{n}", b"x", 0, False) if way == 2 else None
            link.send(wire.connect(name, clean=way != 1, will=will))
        link.expect(wire.CONNACK)
        filters = [(topics[0], self.qos), (f"soak/{n}/#", 0), (topics[1] + "/+", 1)]
        subscribe = wire5.subscribe if self.version == 5 else wire.subscribe
        link.send(subscribe(filters, packet_id=1))
        self.until(wire.SUBACK)
        for k, topic in enumerate(topics * 2):
            qos = (self.qos, 0)[k % 2]
            payload = b"x" * rng.randrange(200)
            if self.version == 5:
                user = (wire5.USER, ("n", str(n)))
                link.send(wire5.publish(topic, payload, user, qos=qos, packet_id=k + 1))
            else:
                link.send(wire.publish(topic, payload, qos, k + 1))
        if way == 1:
            # What lasts does not grow either.
            unsubscribe = wire5.unsubscribe if self.version == 5 else wire.unsubscribe
            link.send(unsubscribe([filter for filter, _ in filters], packet_id=9))
            self.until(wire.UNSUBACK)
        if n % 100 == 3:
            # Retained, and cleared.
            publish = wire5.publish if self.version == 5 else wire.publish
            link.send(publish(topics[0], b"kept", retain=True), publish(topics[0], b"", retain=True))
        link.send(wire.pingreq())
        self.until(wire.PINGRESP)
        if way != 2:
            link.send(wire.disconnect())
        link.close()

    def until(self, kind):
        while (got := self.link.receive()).kind != kind:
            if got.kind == wire.PUBLISH and got.qos == 1:
                self.link.send(wire.puback(got.packet_id))


@pytest.mark.slow
def test_churn_costs_no_memory(daemon):
    gateway = daemon(config={"log": {"level": "error"}}).start()
    rng, pid = random.Random(1), gateway.process.pid
    began = time.monotonic()
    samples, next_sample = [], 0.0
    while (now := time.monotonic() - began) < SECONDS:
        Visitor(gateway.ports["mqtt"], rng).visit()
        if now >= next_sample:
            samples.append((now, pss(pid)))
            next_sample += 1
    visits = next(Visitor.numbers)
    counted = [(at / 60, size) for at, size in samples if at >= FROM]
    grows = slope(counted)
    sizes = [size for _, size in counted]
    print(f"{visits} visits in {SECONDS} s; PSS {mb(samples[0][1])} at first, {mb(sizes[0])} to "
          f"{mb(sizes[-1])} from second {FROM:.0f} on, at most {mb(max(sizes))}; "
          f"{grows / 1e6:+.3f} MB a minute")
    assert grows < LIMIT
    status = gateway.ctl_json("status")
    # The last messages of a lasting session wait for its next visit.
    assert status["clients"] == 0 and status["queued"] < 40 * 6, status
    assert status["sessions"] <= 60 + visits / SECONDS * 5, "those of a second are gone"
    gateway.stop()
