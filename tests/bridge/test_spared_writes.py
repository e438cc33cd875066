"""With `sync = "50ms"`, what the upstream has before its commit is due is never written, and its publisher
hears so at once. What is written is told."""

import re
import time

from far.gateway import balanced, config, numbered, numbers, publish
from harness import raw
from harness.wait import until

COUNT = 300
COMMIT = 0.05


def linked(gateway):
    return until(lambda: "connected" in gateway.ctl_ok("bridge", "status"), "the link is up")


def test_a_publisher_that_waits_for_each_answer_goes_on_at_the_pace_of_the_link(daemon, far):
    broker = far()
    gateway = daemon(config=config(broker.port, sync="50ms")).start()
    linked(gateway)
    began = time.monotonic()
    publish(gateway, numbered(0, COUNT), window=1)
    took = time.monotonic() - began
    print(f"{COUNT / took:.0f} a second")
    assert took < COUNT * COMMIT / 2, "one message a commit"
    broker.wait_payload(numbered(COUNT - 1, COUNT)[0][1], 30)
    assert numbers(broker.firsts()) == list(range(COUNT))
    route = until(lambda: (r := gateway.route("cloud"))["queued"] == 0 and r, "the queue is empty", every=0.1)
    assert balanced(route) and route["delivered"] == COUNT, route


def test_what_is_written_for_each_message_is_told(daemon, far):
    broker = far()
    broker.stop()
    settings = config(broker.port, sync="50ms")
    gateway = daemon(config={**settings, "broker": {"sys_interval": "1s"}}).start()
    publish(gateway, numbered(0, COUNT))

    def told():
        status = gateway.ctl_json("bridge", "status")
        return status["messages"] == COUNT and status["written_bytes"] and status

    status = until(told, "it says what was written", every=0.2)
    each = status["written_bytes"] // COUNT
    assert 0 < each < 20_000, status
    text = gateway.ctl_ok("bridge", "status")
    assert re.search(rf"written, \d+ bytes for each of {COUNT} messages", text), text
    with raw.Connection(gateway.ports["mqtt"]) as link:
        link.connect("watcher")
        link.subscribe(("$SYS/broker/store/written/#", 0))
        found = {}
        while found.get("messages") != COUNT or not found.get("bytes per message"):
            packet = link.expect(raw.PUBLISH, 30)
            found[packet.topic.removeprefix("$SYS/broker/store/written/")] = int(packet.payload)
    assert set(found) == {"bytes", "messages", "bytes per message"}
