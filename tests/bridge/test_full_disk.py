"""The disk fills while messages wait for the upstream: each route's policy is applied and counted,
and nothing else breaks."""

import pytest
from far.gateway import ROUTE, balanced, config, knock, numbered, numbers, publish
from far.power import Disk, build
from harness import raw
from harness.wait import until


@pytest.fixture(scope="session")
def shim(tmp_path_factory):
    return build(tmp_path_factory.mktemp("power"))


def publish_until_refused(gateway, start, most=5_000):
    """Numbers from `start` on; which were acknowledged, and whether the gateway refused one."""
    acked, name = [], f"near{start}"
    with raw.Connection(gateway.ports["mqtt"]) as link:
        link.connect(name)
        for topic, payload in numbered(start, start + most):
            try:
                link.send(raw.publish(topic, payload, 1, len(acked) + 1))
                link.expect(raw.PUBACK)
            except (OSError, raw.Closed):
                return acked, True
            acked.append(int(payload[:9]))
    return acked, False


@pytest.mark.parametrize("on_full", ["reject", "drop-new", "drop-oldest"])
@pytest.mark.parametrize("way", ["ENOSPC", "max_bytes"])
def test_a_full_disk_does_what_the_route_says(daemon, far, shim, on_full, way):
    broker = far()
    broker.stop()
    store = {"max_bytes": "1MiB"} if way == "max_bytes" else {}
    gateway = daemon(config=config(broker.port, {**ROUTE, "on_full": on_full}, store=store))
    disk = Disk(shim, gateway.data_dir)
    if way == "ENOSPC":
        gateway.environment = disk.environment()
    gateway.start()
    publish(gateway, numbered(0, 200))
    if way == "ENOSPC":
        disk.full.touch()
    acked, refused = publish_until_refused(gateway, 200)
    if refused and on_full != "reject":
        # The one whose commit found the disk full. From here on it is known to be full.
        more, refused = publish_until_refused(gateway, 6_000)
        acked += more
    route = gateway.route("cloud")
    print(f"{on_full}, {way}: {len(acked)} more acknowledged, refused: {refused}, {route}")
    assert balanced(route), route
    if on_full == "reject":
        # 3.1.1 has no negative PUBACK: the connection ends.
        assert refused and not route["dropped"], route
        expected = list(range(200)) + acked
    else:
        assert not refused
        assert list(route["dropped"]) == ["store-full"], route
        assert route["dropped"]["store-full"] == route["accepted"] - route["queued"] > 0, route
        if (way, on_full) == ("max_bytes", "drop-oldest"):
            assert route["dropped"]["store-full"] < 4_000, "the newest have a place"
        expected = None
    # Nothing else breaks: what needs no disk goes through.
    with raw.Connection(gateway.ports["mqtt"]) as link:
        link.connect("live")
        link.subscribe(("live/#", 1))
        link.send(raw.publish("live/x", b"1", 1, 7))
        kinds = {link.receive().kind, link.receive().kind}
        assert kinds == {raw.PUBLISH, raw.PUBACK}
    assert gateway.alive and "panicked" not in gateway.process.log
    # The upstream is back while the disk is still full: it drains, and then there is room again.
    broker.start()
    knock(gateway)
    route = until(lambda: (r := gateway.route("cloud"))["queued"] == 0 and r, "the queue is empty", 60, every=0.1)
    assert balanced(route), route
    disk.full.unlink(missing_ok=True)
    fresh = iter(range(100_000, 101_000))

    def arrives_again():
        publish_until_refused(gateway, next(fresh), 1)
        return any(n >= 100_000 for n in numbers(broker.payloads()))

    until(arrives_again, "new messages arrive again", 30, every=0.2)
    got = [n for n in numbers(broker.firsts()) if n < 100_000]
    assert got == sorted(got), "in order"
    if expected is not None:
        # The one that was refused may have been sent before its commit failed; no acknowledged one is missing.
        assert set(expected) <= set(got), sorted(set(expected) - set(got))[:20]
    else:
        assert len(got) == route["delivered"], (len(got), route)
        if on_full == "drop-new":
            assert got[:200] == list(range(200)), "the old ones stay"
        elif way == "max_bytes":
            assert got[-1000:] == acked[-1000:], "the newest stay"
        else:
            assert got[:200] == list(range(200)), "nothing is given up for what finds no room all the same"
    gateway.stop()


def test_below_the_floor_of_free_disk_nothing_durable_is_taken(daemon, far):
    """`store.min_free_disk` above what the disk has."""
    broker = far()
    broker.stop()
    gateway = daemon(config=config(broker.port, store={"min_free_disk": "1000TiB"})).start()
    acked, refused = publish_until_refused(gateway, 0)
    assert (acked, refused) == ([], True)
    route = gateway.route("cloud")
    assert route["queued"] == 0 and balanced(route), route
    gateway.stop()
