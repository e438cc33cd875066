"""What a listener says for itself, others do not: limits of its own, several protocols on its port."""

import os
import pathlib
import socket
import time

import pytest
from conformance import wire, wire5
from harness.daemon import ALLOW_ALL
from harness.ports import free_port
from harness.raw import Connection
from harness.wait import until


@pytest.fixture
def doors(daemon):
    """A gateway with a listener of these keys; the ports of the open one and of that one."""
    opened = []

    def make(**keys):
        port = free_port()
        gateway = daemon()
        gateway.config["listener"].append({
            "protocol": "mqtt", "address": f"127.0.0.1:{port}", "auth": "anonymous",
            "policy": "open", **keys,
        })
        gateway.write()
        gateway.start()

        def dial(port, kind=wire5.Client):
            opened.append(kind(port))
            return opened[-1]

        return dial, gateway.ports["mqtt"], port

    yield make
    for client in opened:
        client.close()


def test_max_qos_holds_on_its_listener(doors):
    dial, wide, narrow = doors(max_qos=0)
    client = dial(narrow)
    assert client.connect("c").one(wire5.MAXIMUM_QOS) == 0
    assert client.subscribe(("a", 1)) == [0]
    client.publish("a", b"0", qos=0)
    assert client.take().payload == b"0"
    client.send(wire5.publish("a", b"1", qos=1))
    client.thrown_out(0x9B)
    old = dial(narrow, wire.Client)
    old.connect("old")
    assert old.subscribe(("a", 1)) == [0]
    old.send(wire.publish("a", b"1", 1, 7))
    old.thrown_out()
    will = dial(narrow, wire5.Client)
    will.send(wire5.connect("will", will=("a", b"", 1, ())))
    will.thrown_out(0x9B, wire.CONNACK)
    client = dial(wide)
    client.connect("c")
    assert client.subscribe(("a", 1)) == [1]
    assert client.publish("a", b"1", qos=1) == 0


def test_max_topic_alias_holds_on_its_listener(doors):
    dial, wide, narrow = doors(max_topic_alias=2)
    assert dial(wide).connect("w").one(wire5.ALIAS_MAXIMUM) == 32
    client = dial(narrow)
    assert client.connect("c", (wire5.ALIAS_MAXIMUM, 10)).one(wire5.ALIAS_MAXIMUM) == 2
    client.subscribe(("a/+", 0))
    for name in "xyzxyz":
        client.publish(f"a/{name}", b"", qos=0)
    got = [client.take() for _ in range(6)]
    assert [(m.topic, m.all(wire5.ALIAS)) for m in got] == [
        ("a/x", [1]), ("a/y", [2]), ("a/z", []), ("", [1]), ("", [2]), ("a/z", []),
    ]
    client.send(wire5.publish("a/x", b"", (wire5.ALIAS, 3)))
    client.thrown_out(0x94)


def test_a_listener_may_want_client_ids(doors):
    dial, wide, narrow = doors(allow_empty_client_id=False)
    for clean in (True, False):
        old = dial(narrow, wire.Client)
        old.send(wire.connect("", clean=clean))
        [answer] = old.closed()
        assert (answer.kind, answer.code) == (wire.CONNACK, 2)
    new = dial(narrow)
    new.send(wire5.connect(""))
    new.thrown_out(0x85, wire.CONNACK)
    dial(narrow).connect("named")
    dial(wide, wire.Client).connect("")
    assert dial(wide).connect("").one(wire5.ASSIGNED_ID)


def test_max_connections_counts_those_of_its_listener(doors):
    dial, wide, narrow = doors(max_connections=2)
    first, second = dial(narrow), dial(narrow)
    first.connect("first")
    second.connect("second")
    for _ in range(3):
        assert dial(narrow).closed() == []
    dial(wide).connect("elsewhere")
    first.leave()

    def connected():
        client = dial(narrow, wire.Client)
        try:
            client.connect("third")
        except (wire.Closed, ConnectionError):
            return False
        return True

    until(connected, "the place of the client that left is free")


def metric(gateway, name, protocol="MQTT"):
    _, text = gateway.admin("/metrics")
    wanted = f'iotedge_{name}_total{{protocol="{protocol}"}} '
    return next(int(line[len(wanted):]) for line in text.splitlines() if line.startswith(wanted))


def test_a_flood_of_connections_is_cut_to_its_rate_and_told_once(daemon):
    port = free_port()
    gateway = daemon()
    gateway.config["listener"].append({
        "protocol": "mqtt", "address": f"127.0.0.1:{port}", "auth": "anonymous",
        "policy": "open", "max_connection_rate": 5,
    })
    gateway.write()
    gateway.start()
    start = time.monotonic()
    flood = [socket.create_connection(("127.0.0.1", port)) for _ in range(200)]
    for n, link in enumerate(flood):
        link.settimeout(0.2)
        try:
            link.sendall(wire.connect(f"c{n}"))
        except OSError:
            pass
    taken = sum(answered(link) for link in flood)
    assert 5 <= taken <= 5 + 5 * (time.monotonic() - start)
    # Those on another listener do not feel it.
    with wire.Client(gateway.ports["mqtt"]) as other:
        other.connect("other")
    assert metric(gateway, "connect_throttle") == 200 - taken
    lines = [line for line in gateway.process.log.splitlines() if "max_connection_rate" in line]
    assert 1 <= len(lines) <= 2 + time.monotonic() - start
    assert f"127.0.0.1:{port}" in lines[0]


def answered(link):
    with link:
        try:
            return link.recv(4)[:1] == b"\x20"
        except OSError:
            return False


@pytest.mark.parametrize("kind", ["mqtt", "mqtts", "https", "shared"])
def test_two_hundred_stalled_handshakes_let_a_new_client_in_at_once(daemon, kind):
    gateway = daemon()
    port = gateway.ports.get(kind) or free_port()
    if kind == "shared":
        gateway.config["listener"].append({
            "protocol": ["mqtts", "wss", "https"], "address": f"127.0.0.1:{port}",
            "auth": "certificate",
        })
    gateway.policies["all"] = ALLOW_ALL
    gateway.write()
    gateway.start()
    device = None
    if kind != "mqtt":
        device = gateway.cert("d1", policy="all", thing="d1")
    # Half of them silent, half with the beginning of a ClientHello.
    stalled = [socket.create_connection(("127.0.0.1", port)) for _ in range(200)]
    for link in stalled[::2]:
        link.sendall(b"\x16\x03\x01\x02\x00\x01" if device else b"\x10\x20\x00")
    start = time.monotonic()
    if kind == "https":
        assert gateway.https("POST", "/topics/a?qos=1", device, b"x")[0] == 200
    else:
        with Connection(port, device) as client:
            client.connect("new")
            client.ping()
    assert time.monotonic() - start < 2
    for link in stalled:
        link.close()


def test_without_file_descriptors_it_waits_and_goes_on(daemon):
    gateway = daemon()
    # Room for itself and a few clients.
    gateway.spawn(before=["prlimit", "--nofile=64:64"])
    gateway.wait_ready()
    with wire.Client(gateway.ports["mqtt"]) as client:
        client.connect("there")
        many = [socket.create_connection(("127.0.0.1", gateway.ports["mqtt"])) for _ in range(100)]
        gateway.log_has("accept failed.*os error 24")
        ticks = cpu_seconds(gateway.process.pid)
        start = time.monotonic()
        # For two seconds who is there is served, and nothing spins.
        while time.monotonic() - start < 2:
            client.ping()
            time.sleep(0.1)
        assert cpu_seconds(gateway.process.pid) - ticks < 0.5
        failed = [line for line in gateway.process.log.splitlines() if "accept failed" in line]
        assert len(failed) < 6
        for link in many:
            link.close()

        def back():
            with wire.Client(gateway.ports["mqtt"]) as late:
                try:
                    late.connect("late")
                except (wire.Closed, TimeoutError, ConnectionError):
                    return False
                return True

        until(back, "a new client comes in")
        client.ping()


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
