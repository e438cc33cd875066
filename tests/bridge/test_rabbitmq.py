"""The preset for RabbitMQ against the real server. `make test-rabbitmq` installs it; without it these are
skipped."""

import pytest
from far import rabbitmq
from far.gateway import balanced, config, knock, numbered, numbers, publish
from harness import pki, raw
from harness.wait import until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not rabbitmq.installed(), reason=rabbitmq.MISSING),
]
OUT = {"direction": "out", "filter": "t/#", "qos": 1}
IN = {"direction": "in", "filter": "down/#", "qos": 1}


@pytest.fixture
def server(tmp_path):
    made = []

    def make(**how):
        made.append(rabbitmq.RabbitMQ(tmp_path / f"rabbitmq{len(made)}", **how))
        return made[-1].start()

    yield make
    for one in made:
        one.end()


@pytest.fixture
def login(tmp_path):
    file = tmp_path / "password"
    file.write_text("secret\n")
    return {"kind": "rabbitmq", "username": "gateway", "password_file": str(file)}


class Far(raw.Connection):
    """A client of the server that keeps what it is given."""

    def __init__(self, server, name="far", identity=None, filters=None):
        super().__init__(server.port, identity, deadline=30.0)
        who = {} if identity else {"user": "gateway", "password": "secret"}
        self.connect(name, clean=False, **who)
        # A session that goes on has its subscription, and may give what it has before a SUBACK.
        if filters:
            assert self.subscribe((filters, 1)) == [1]

    def take(self, count):
        got = []
        while len(got) < count:
            packet = self.expect(raw.PUBLISH, 30)
            got.append(packet)
            if packet.qos:
                self.send(raw.puback(packet.packet_id))
        return got


def test_out_and_in_with_user_and_password(daemon, server, login):
    there = server()
    gateway = daemon(config=config(there.port, OUT, IN, **login)).start()
    gateway.wait_link("cloud", deadline=60)
    with Far(there, filters="t/#") as far, raw.Connection(gateway.ports["mqtt"]) as near:
        near.connect("watcher")
        near.subscribe(("down/#", 1))
        publish(gateway, numbered(0, 500))
        assert numbers(p.payload for p in far.take(500)) == list(range(500))
        for n in range(100):
            far.send(raw.publish("down/x", b"%d" % n, 1, n + 1))
        assert [int(near.expect(raw.PUBLISH, 30).payload) for _ in range(100)] == list(range(100))
    steps = gateway.ctl_json("bridge", "test", "cloud")
    steps = steps["steps"] if isinstance(steps, dict) else steps
    assert all(step["ok"] for step in steps), steps
    route = gateway.route("cloud")
    assert route["delivered"] == 500 and not route["dropped"] and balanced(route), route


def test_a_wrong_password_is_told(daemon, server, login, tmp_path):
    there = server()
    (tmp_path / "password").write_text("wrong")
    gateway = daemon(config=config(there.port, OUT, **login)).start()
    link = gateway.wait_link("cloud", "misconfigured", deadline=60)
    assert "bad user name or password" in link["reason"], link


def test_a_client_certificate(daemon, server, tmp_path):
    authority = pki.make_ca(tmp_path / "pki", "ca")
    tls = pki.sign(tmp_path / "pki", "server", authority, san="DNS:localhost,IP:127.0.0.1")
    device = pki.sign(tmp_path / "pki", "gateway", authority)
    there = server(tls=tls)
    gateway = daemon(config=config(
        there.port, OUT, kind="rabbitmq", url=f"mqtts://localhost:{there.port}",
        ca=str(device.ca), certificate=str(device.certificate), key=str(device.key),
    )).start()
    gateway.wait_link("cloud", deadline=60)
    with Far(there, identity=device, filters="t/#") as far:
        publish(gateway, numbered(0, 50))
        assert numbers(p.payload for p in far.take(50)) == list(range(50))


def test_it_restarts_in_the_middle_of_a_backlog(daemon, server, login):
    """What it has acknowledged is in its durable queue, what it has not comes again, in order."""
    there = server()
    with Far(there, filters="t/#"):
        pass
    gateway = daemon(config=config(there.port, OUT, max_rate=500, **login)).start()
    gateway.wait_link("cloud", deadline=60)
    publish(gateway, numbered(0, 3000))
    until(lambda: gateway.route("cloud")["delivered"] >= 300, "some are there", 60, every=0.05)
    there.stop()
    assert gateway.route("cloud")["queued"] > 0, "the backlog was too short"
    there.start()
    knock(gateway)
    until(lambda: gateway.route("cloud")["queued"] == 0, "the queue is empty", 90, every=0.2)
    seen = []
    with Far(there) as far:
        while not seen or seen[-1] != 2999:
            seen += numbers(p.payload for p in far.take(1))
    firsts = list(dict.fromkeys(seen))
    assert firsts == list(range(3000))
    assert len(seen) - 3000 <= 10 * 2, "no more than the preset's window comes twice"
    route = gateway.route("cloud")
    assert route["delivered"] == 3000 and not route["dropped"] and balanced(route), route


def test_what_it_does_with_retained_messages_and_quality(daemon, server, login):
    """The limits that the handbook names: it keeps a retained message for its very topic, gives it to no
    filter with wildcards, and a subscription has at most QoS 1."""
    there = server()
    gateway = daemon(config=config(there.port, OUT, **login)).start()
    gateway.wait_link("cloud", deadline=60)
    with raw.Connection(gateway.ports["mqtt"]) as near:
        near.connect("near")
        near.send(raw.publish("t/kept", b"state", 1, 1, retain=True))
        near.expect(raw.PUBACK)
    until(lambda: gateway.route("cloud")["delivered"] == 1, "it is there", every=0.1)
    with Far(there, "one", filters="t/kept") as far:
        (packet,) = far.take(1)
        assert packet.payload == b"state" and packet.flags & 1
    with Far(there, "two", filters="t/+") as far:
        far.send(raw.publish("t/mark", b"", 1, 1))
        assert far.take(1)[0].topic == "t/mark"
        assert far.subscribe(("t/#", 2)) == [1]
