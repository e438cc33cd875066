"""A full queue costs neither time nor memory at the start.

`make restart` has a million messages and an optimised daemon; the short form has fewer.
"""

import os
import threading
import time

import pytest
from conformance import wire
from gauges import held, mb, ready_after
from harness import raw

COUNT = int(os.environ.get("IOTEDGE_RESTART_MESSAGES", "20000"))
READY = 2.0
WINDOW = 100
PUBLISHERS = 4
PAYLOAD = 64


def fill(port, publisher, count):
    """Publishes with QoS 1, `WINDOW` at a time, and counts the acknowledgements."""
    with raw.Connection(port) as link:
        link.connect(f"publisher{publisher}")
        for start in range(0, count, WINDOW):
            numbers = range(start, min(start + WINDOW, count))
            link.send(b"".join(
                wire.publish("queue/t", b"%02d %08d" % (publisher, n) + b"." * (PAYLOAD - 11), 1,
                             n % WINDOW + 1)
                for n in numbers
            ))
            for _ in numbers:
                link.expect(wire.PUBACK)


@pytest.mark.slow
def test_a_full_queue_is_ready_at_once(daemon):
    limits = {"max_queued_messages": COUNT + 1000, "max_queued_bytes": "4GiB"}
    store = {"max_bytes": "8GiB", "min_free_disk": "16MiB"}
    gateway = daemon(config={"broker": limits, "store": store})
    empty, small = ready_after(gateway), held(gateway.process.pid)
    with raw.Connection(gateway.ports["mqtt"]) as link:
        link.connect("sleeper", clean=False)
        assert link.subscribe(("queue/#", 1)) == [1]
        link.send(raw.disconnect())
        link.closed()
    began = time.monotonic()
    threads = [
        threading.Thread(target=fill, args=(gateway.ports["mqtt"], n, COUNT // PUBLISHERS))
        for n in range(PUBLISHERS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - began
    print(f"{COUNT} messages queued in {took:.1f} s, {COUNT / took:.0f} a second; "
          f"empty: ready after {empty:.3f} s, data {mb(small)}")
    for how in ("kill", "stop"):
        getattr(gateway, how)()
        seconds, size = ready_after(gateway), held(gateway.process.pid)
        print(f"after {how}: ready after {seconds:.3f} s, data {mb(size)}")
        assert seconds < READY
        assert size < small + 12e6, "the queue is not held in memory"
        assert gateway.ctl_json("status")["queued"] == COUNT
    # It is all there, in each publisher's order, and memory does not hold it while it is read.
    seen, most = [0] * PUBLISHERS, 0
    began = time.monotonic()
    with raw.Connection(gateway.ports["mqtt"]) as link:
        assert link.connect("sleeper", clean=False).session_present
        for n in range(COUNT):
            got = link.expect(wire.PUBLISH)
            publisher, number = int(got.payload[:2]), int(got.payload[3:11])
            assert number == seen[publisher], f"publisher {publisher}: after {seen[publisher]}"
            seen[publisher] += 1
            link.send(wire.puback(got.packet_id))
            if n % 10_000 == 0:
                most = max(most, held(gateway.process.pid))
        link.ping()
    took = time.monotonic() - began
    print(f"all received in {took:.1f} s, {COUNT / took:.0f} a second; data at most {mb(most)}")
    assert most < small + 24e6
    assert gateway.ctl_json("status")["queued"] == 0
    gateway.stop()
