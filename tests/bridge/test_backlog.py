"""A backlog for an upstream that was long away costs neither time nor memory at the start, and drains
in order.

`make backlog` has a million messages and an optimised daemon (IOTEDGE_BACKLOG); the short form fewer.
"""

import os
import threading
import time

import pytest
from far.gateway import balanced, config, numbers
from gauges import held, mb, ready_after
from harness import raw
from harness.daemon import rss_kib
from harness.wait import until

COUNT = int(os.environ.get("IOTEDGE_BACKLOG", "100000"))
PUBLISHERS = 4
EACH = COUNT // PUBLISHERS
BATCH = 100
READY = 2.0
# KiB of an optimised daemon, after the start and while it drains. Code without optimisation alone has more.
OPTIMISED = bool(os.environ.get("IOTEDGE_BIN_DIR"))
RSS = 20_000_000 // 1024


def fill(port, publisher):
    """A quarter of the backlog on a topic of its own."""
    with raw.Connection(port) as link:
        link.connect(f"publisher{publisher}")
        for start in range(0, EACH, BATCH):
            link.send(*(
                raw.publish(f"t/{publisher}", (b"%09d" % n).ljust(200, b"."), 1, n % BATCH + 1)
                for n in range(start, min(start + BATCH, EACH))
            ))
            for _ in range(start, min(start + BATCH, EACH)):
                link.expect(raw.PUBACK, 30)


@pytest.mark.slow
def test_a_backlog_is_ready_at_once_small_and_in_order(daemon, far):
    broker = far()
    broker.stop()
    gateway = daemon(config={
        **config(broker.port, store={"max_bytes": "8GiB", "min_free_disk": "16MiB"}),
        "log": {"level": "warn"},
    })
    ready_after(gateway)
    small, rss = held(gateway.process.pid), rss_kib(gateway.process.pid)
    began = time.monotonic()
    threads = [threading.Thread(target=fill, args=(gateway.ports["mqtt"], n)) for n in range(PUBLISHERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - began
    size = (gateway.data_dir / "queue.db").stat().st_size
    print(f"{COUNT} messages of 200 bytes queued in {took:.1f} s, {COUNT / took:.0f} a second, "
          f"{size / COUNT:.0f} bytes each in the file; RSS {rss} KiB before, {rss_kib(gateway.process.pid)} after")
    for how in ("kill", "stop"):
        getattr(gateway, how)()
        seconds = ready_after(gateway)
        assert gateway.route("cloud")["queued"] == EACH * PUBLISHERS
        rss = rss_kib(gateway.process.pid)
        print(f"after {how}: ready after {seconds:.3f} s, RSS {rss} KiB, data {mb(held(gateway.process.pid))}")
        assert seconds < READY
        assert held(gateway.process.pid) < small + 12e6, "the queue is not held in memory"
        assert not OPTIMISED or rss < RSS, f"RSS {rss} KiB"
    began, most = time.monotonic(), 0
    broker.start()
    gateway.ctl_ok("bridge", "pause", "cloud")
    gateway.ctl_ok("bridge", "resume", "cloud")
    # Messages that come in meanwhile do not wait for the backlog's end to be acknowledged.
    while len(broker.got) < EACH * PUBLISHERS:
        before = len(broker.got)
        broker.wait(lambda b, n=before: len(b.got) >= min(n + 5_000, EACH * PUBLISHERS), "it drains", 120)
        most = max(most, rss_kib(gateway.process.pid))
    took = time.monotonic() - began
    for n in range(PUBLISHERS):
        assert numbers(broker.payloads(f"t/{n}")) == list(range(EACH)), f"t/{n}"
    route = until(lambda: (r := gateway.route("cloud"))["queued"] == 0 and r, "the queue is empty", every=0.1)
    print(f"drained in {took:.1f} s, {COUNT / took:.0f} a second; RSS at most {most} KiB")
    assert not OPTIMISED or most < RSS, f"RSS {most} KiB while it drains"
    assert balanced(route) and route["delivered"] == EACH * PUBLISHERS, route
    gateway.stop()
