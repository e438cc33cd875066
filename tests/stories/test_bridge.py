"""Out to an upstream broker and in from there, in clear and over TLS."""

import json

import pytest

from harness import pki, raw
from harness.clients import Client
from harness.traffic import Collector
from harness.wait import until


def upstreams(url, routes, **more):
    return {"upstream": [{"name": "cloud", "url": url, "client_id": "gw", "keep_alive": 5,
                          "route": routes, **more}]}


OUT = {"direction": "out", "filter": "telemetry/#", "qos": 1}
IN = {"direction": "in", "filter": "commands/#", "qos": 1}


def balanced(route):
    return route["accepted"] == route["delivered"] + route["queued"] + sum(route["dropped"].values())


def test_out_and_in(daemon, upstream):
    broker = upstream().start()
    gateway = daemon(config=upstreams(f"mqtt://127.0.0.1:{broker.port}", [OUT, IN])).start()
    gateway.wait_link("cloud")
    far = Client("far", broker.port).connect()
    near = Client("near", gateway.ports["mqtt"]).connect()
    far.subscribe("#", 1)
    near.subscribe("#", 1)

    near.publish("telemetry/t1", b"21.5")
    near.publish("private/t1", b"secret")
    near.publish("telemetry/t2", b"22.5", qos=0)
    assert [(m.topic, m.payload) for m in far.collect(2)] == [
        ("telemetry/t1", b"21.5"), ("telemetry/t2", b"22.5"),
    ]
    near.collect(3)
    far.publish("commands/lamp", b"on")
    far.publish("elsewhere", b"no")
    assert near.next()[:2] == ("commands/lamp", b"on")
    far.publish("commands/lamp", b"off")
    assert near.next()[:2] == ("commands/lamp", b"off")

    out = until(
        lambda: (r := gateway.route("cloud"))["delivered"] == 2 and r, "both are delivered", every=0.1
    )
    assert balanced(out) and out["queued"] == 0, out
    near.disconnect()
    far.disconnect()
    gateway.stop()


def test_prefixes(daemon, upstream):
    broker = upstream().start()
    routes = [
        {**OUT, "filter": "t/#", "local_prefix": "house/", "remote_prefix": "site/7/"},
        {**IN, "filter": "cmd/#", "local_prefix": "from-cloud/", "remote_prefix": "site/7/"},
    ]
    gateway = daemon(config=upstreams(f"mqtt://127.0.0.1:{broker.port}", routes)).start()
    gateway.wait_link("cloud")
    far = Client("far", broker.port).connect()
    near = Client("near", gateway.ports["mqtt"]).connect()
    far.subscribe("#", 1)
    near.subscribe("from-cloud/#", 1)
    near.publish("house/t/1", b"a")
    assert far.next()[:2] == ("site/7/t/1", b"a")
    far.publish("site/7/cmd/x", b"b")
    assert near.next()[:2] == ("from-cloud/cmd/x", b"b")
    near.disconnect()
    far.disconnect()


def test_tls_with_a_client_certificate(daemon, upstream, tmp_path):
    authority = pki.make_ca(tmp_path / "pki", "cloud-ca")
    server = pki.sign(tmp_path / "pki", "server", authority, san="DNS:localhost,IP:127.0.0.1")
    device = pki.sign(tmp_path / "pki", "gateway", authority)
    broker = upstream(tls=server).start()
    config = upstreams(
        f"mqtts://localhost:{broker.port}", [OUT],
        ca=str(device.ca), certificate=str(device.certificate), key=str(device.key),
    )
    gateway = daemon(config=config).start()
    gateway.wait_link("cloud")
    far = Client("far", broker.port, identity=device).connect()
    far.subscribe("#", 1)
    near = Client("near", gateway.ports["mqtt"]).connect()
    near.publish("telemetry/x", b"1")
    assert far.next()[:2] == ("telemetry/x", b"1")
    near.disconnect()
    far.disconnect()


def test_an_upstream_that_is_not_the_one_expected_is_not_trusted(daemon, upstream, tmp_path):
    authority = pki.make_ca(tmp_path / "pki", "cloud-ca")
    impostor = pki.sign(
        tmp_path / "pki", "server", pki.make_ca(tmp_path / "pki", "other-ca"), san="DNS:localhost"
    )
    device = pki.sign(tmp_path / "pki", "gateway", authority)
    broker = upstream(tls=impostor).start()
    config = upstreams(
        f"mqtts://localhost:{broker.port}", [OUT],
        ca=str(device.ca), certificate=str(device.certificate), key=str(device.key),
    )
    gateway = daemon(config=config).start()
    link = until(
        lambda: (now := gateway.link("cloud"))["state"] in ("backing-off", "misconfigured") and now,
        "the link is refused", every=0.1,
    )
    assert "certificate" in link["reason"].lower(), link


def test_messages_wait_while_the_upstream_is_away(daemon, upstream):
    broker = upstream().start()
    collector = Collector("collector", broker.port, "telemetry/#").start()
    gateway = daemon(config=upstreams(f"mqtt://127.0.0.1:{broker.port}", [OUT])).start()
    gateway.wait_link("cloud")
    near = Client("near", gateway.ports["mqtt"]).connect()
    near.publish("telemetry/1", b"{}")
    collector.wait_count(1, 10)
    broker.stop()
    gateway.wait_link("cloud", "backing-off")
    for n in range(2, 52):
        near.publish(f"telemetry/{n}", b"{}")
    route = gateway.route("cloud")
    assert route["queued"] == 50 and route["queued_bytes"] > 0 and balanced(route), route
    link = gateway.link("cloud")
    assert link["reason"] and link["next_retry"], link
    gateway.restart()
    route = gateway.route("cloud")
    assert route["queued"] == 50 and balanced(route), route
    broker.start()
    collector.wait_count(51, 30)
    assert [t for t, _ in collector.distinct()] == [f"telemetry/{n}" for n in range(1, 52)]
    until(lambda: gateway.route("cloud")["queued"] == 0, "the queue is empty", every=0.1)
    assert balanced(gateway.route("cloud"))
    collector.stop()


def test_inbound_is_acknowledged_only_when_it_is_safe(daemon, upstream):
    """Killed with messages on their way in: the upstream still has what was not taken."""
    broker = upstream().start()
    gateway = daemon(config=upstreams(f"mqtt://127.0.0.1:{broker.port}", [IN])).start()
    gateway.wait_link("cloud")
    with raw.Connection(gateway.ports["mqtt"]) as near:
        near.connect("near", clean=False)
        assert near.subscribe(("commands/#", 1)) == [1]
    far = Client("far", broker.port).connect()
    for n in range(100):
        far.publish("commands/x", b"%d" % n)
    gateway.kill()
    for n in range(100, 150):
        far.publish("commands/x", b"%d" % n)
    gateway.start()
    got = []
    with raw.Connection(gateway.ports["mqtt"]) as near:
        assert near.connect("near", clean=False).session_present
        while not got or got[-1] != 149:
            message = near.expect(raw.PUBLISH, 20)
            near.send(raw.puback(message.packet_id))
            got.append(int(message.payload))
    assert sorted(set(got)) == list(range(150)), sorted(set(range(150)) - set(got))
    firsts = list(dict.fromkeys(got))
    assert firsts == sorted(firsts)
    far.disconnect()


def test_what_came_in_does_not_go_out_again(daemon, upstream):
    broker = upstream().start()
    both = {"filter": "shared/#", "qos": 1}
    routes = [{**both, "direction": "out"}, {**both, "direction": "in"}]
    gateway = daemon(config=upstreams(f"mqtt://127.0.0.1:{broker.port}", routes)).start()
    gateway.wait_link("cloud")
    far = Client("far", broker.port).connect()
    near = Client("near", gateway.ports["mqtt"]).connect()
    far.subscribe("shared/#", 1)
    near.subscribe("shared/#", 1)
    far.publish("shared/a", b"1")
    assert near.next()[:2] == ("shared/a", b"1")
    near.publish("shared/marker", b"m")
    seen = far.until_topic("shared/marker")
    assert [m.topic for m in seen] == ["shared/a", "shared/marker"]
    near.disconnect()
    far.disconnect()


def test_pause_and_resume(daemon, upstream):
    broker = upstream().start()
    gateway = daemon(config=upstreams(f"mqtt://127.0.0.1:{broker.port}", [OUT])).start()
    gateway.wait_link("cloud")
    far = Client("far", broker.port).connect()
    far.subscribe("#", 1)
    gateway.ctl_ok("bridge", "pause", "cloud")
    gateway.wait_link("cloud", "paused")
    near = Client("near", gateway.ports["mqtt"]).connect()
    near.publish("telemetry/a", b"1")
    assert gateway.route("cloud")["queued"] == 1
    gateway.ctl_ok("bridge", "resume", "cloud")
    assert far.next()[:2] == ("telemetry/a", b"1")
    assert gateway.ctl("bridge", "pause", "nowhere").returncode == 1
    near.disconnect()
    far.disconnect()


@pytest.mark.parametrize("on_full", ["reject", "drop-oldest", "drop-new"])
def test_a_full_queue_does_what_it_is_told(daemon, upstream, on_full):
    broker = upstream()
    route = {**OUT, "on_full": on_full, "max_messages": 10}
    gateway = daemon(config=upstreams(f"mqtt://127.0.0.1:{broker.port}", [route])).start()
    refused = 0
    with raw.Connection(gateway.ports["mqtt"]) as link:
        link.connect("near")
        for n in range(15):
            link.send(raw.publish("telemetry/x", json.dumps({"n": n}).encode(), qos=1, packet_id=n + 1))
            try:
                link.expect(raw.PUBACK)
            except raw.Closed:
                refused = n
                break
    status = gateway.route("cloud")
    assert status["queued"] == 10 and balanced(status), status
    if on_full == "reject":
        # 3.1.1 has no negative PUBACK: the connection ends at the eleventh.
        assert refused == 10
        assert status["accepted"] == 10, status
    else:
        assert refused == 0
        assert status["dropped"] == {"queue-full": 5}, status
    broker.start()
    collector = Collector("collector", broker.port, "telemetry/#").start()
    collector.wait_count(10, 30)
    numbers = [json.loads(p)["n"] for _, p in collector.distinct()]
    assert numbers == (list(range(5, 15)) if on_full == "drop-oldest" else list(range(10)))
    collector.stop()
