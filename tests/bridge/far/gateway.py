"""A gateway with a bridge, and those who publish to it."""

from harness import raw

ROUTE = {"direction": "out", "filter": "t/#", "qos": 1}


def config(port, *routes, sync="full", store=None, **upstream):
    """What `daemon(config=...)` takes: one upstream at that port."""
    return {
        "store": {"sync": sync, "min_free_disk": "1MiB", **(store or {})},
        "upstream": [{
            "name": "cloud", "url": f"mqtt://127.0.0.1:{port}", "client_id": "gateway",
            "keep_alive": 5, "max_inflight": 100, "route": list(routes) or [ROUTE], **upstream,
        }],
    }


def knock(gateway):
    """The bridge tries now, and not at the end of its pause; what it has is let go of."""
    # On a full disk it says that the pause would not outlive a restart, and pauses.
    paused = gateway.ctl("bridge", "pause", "cloud")
    assert paused.returncode == 0 or "not over a restart" in paused.stderr, paused
    gateway.ctl_ok("bridge", "resume", "cloud")


def balanced(route):
    return route["accepted"] == route["delivered"] + route["queued"] + sum(route["dropped"].values())


def publish(gateway, messages, window=100, name="near"):
    """Publishes (topic, payload) pairs with QoS 1 and waits for all acknowledgements."""
    with raw.Connection(gateway.ports["mqtt"]) as link:
        link.connect(name)
        messages = list(messages)
        for start in range(0, len(messages), window):
            part = messages[start : start + window]
            link.send(*(raw.publish(topic, payload, 1, n + 1)
                        for n, (topic, payload) in enumerate(part)))
            for n in range(len(part)):
                assert link.expect(raw.PUBACK, 30).packet_id == n + 1


def numbered(start, stop, topic="t/x"):
    """Messages of 200 bytes."""
    return [(topic, (b"%09d" % n).ljust(200, b".")) for n in range(start, stop)]


def numbers(payloads):
    return [int(payload[:9]) for payload in payloads]
