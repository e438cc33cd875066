"""Connections that say nothing cost next to nothing.

`make idle` opens 10,000; the short form fewer. From several addresses of the loopback: one has too
few ports.
"""

import os
import resource
import select
import socket
import time

import pytest
from conformance import wire, wire5
from gauges import cpu, held, mb

COUNT = int(os.environ.get("IOTEDGE_IDLE_CONNECTIONS", "500"))
# Seconds that are looked at.
QUIET = float(os.environ.get("IOTEDGE_IDLE_SECONDS", "5"))
# Bytes of memory for each with its subscription, and the part of one processor for all. Without optimisation a
# connection's state machine is several times as large.
EACH, ALL = (3_600 if COUNT >= 10_000 else 7_000), 0.01


UPGRADE = (
    b"GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Protocol: mqtt\r\n\r\n"
)


def framed(data):
    """In one binary frame, with a mask that changes nothing."""
    assert len(data) < 126
    return bytes([0x82, 0x80 | len(data)]) + bytes(4) + data


def open_one(port, n, transport):
    link = socket.socket()
    link.bind((f"127.0.0.{2 + n % 20}", 0))
    link.connect(("127.0.0.1", port))
    name, filter = f"idle-{n}", f"idle/{n % 100}/{n}"
    if n % 2:
        data = wire5.connect(name, keep_alive=1200) + wire5.subscribe([(filter, 1)])
    else:
        data = wire.connect(name, keep_alive=1200) + wire.subscribe([(filter, 1)])
    link.sendall(UPGRADE + framed(data) if transport == "ws" else data)
    return link


def payload(data):
    """What is in the server's frames, behind its answer to the handshake."""
    _, _, data = data.partition(b"\r\n\r\n")
    out = b""
    while len(data) >= 2:
        out, data = out + data[2 : 2 + data[1]], data[2 + data[1] :]
    return out


def answered(link, n, transport):
    """CONNACK and SUBACK have come."""
    raw = data = b""
    link.settimeout(20)
    while len(data) < 9 or data[data[1] + 2] >> 4 != wire.SUBACK or len(data) < data[1] + 2 + 5:
        more = link.recv(4096)
        assert more, f"connection {n} is closed after {raw!r}"
        raw += more
        data = payload(raw) if transport == "ws" else raw


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["tcp", "ws"])
def test_idle_connections_are_cheap(daemon, transport):
    need = COUNT + 1000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert hard in (resource.RLIM_INFINITY,) or hard >= need, f"ulimit -Hn is {hard}"
    # The daemon inherits it.
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, need), hard))
    gateway = daemon(config={
        "log": {"level": "error"}, "broker": {"max_connections": COUNT + 10},
    })
    gateway.config["listener"][0]["max_connections"] = COUNT + 10
    if transport == "ws":
        gateway.config["listener"][0]["protocol"] = "ws"
    gateway.write()
    gateway.start()
    pid, port = gateway.process.pid, gateway.ports["mqtt"]
    small = held(pid)
    links = []
    try:
        began = time.monotonic()
        for start in range(0, COUNT, 100):
            some = [open_one(port, n, transport) for n in range(start, min(start + 100, COUNT))]
            links += some
            for n, link in enumerate(some, start):
                answered(link, n, transport)
        took = time.monotonic() - began
        settled = time.monotonic() + 2
        while cpu_grows(pid) and time.monotonic() < settled + 30:
            pass
        size, before, began = held(pid), cpu(pid), time.monotonic()
        time.sleep(QUIET)
        used = (cpu(pid) - before) / (time.monotonic() - began)
        each = (size - small) / COUNT
        print(f"{COUNT} connections over {transport} in {took:.1f} s; data {mb(small)} before, {mb(size)} with them, "
              f"{each:.0f} bytes each; {used * 100:.2f} % of one processor over {QUIET:.0f} s")
        poll = select.poll()
        for link in links:
            poll.register(link, select.POLLIN)
        assert poll.poll(0) == [], "somebody was told something, or thrown out"
        assert gateway.ctl_json("status")["clients"] == COUNT
        assert each < EACH
        assert used < ALL
        # The last of them is as alive as the first.
        for link in (links[0], links[-1]):
            ping, pong = wire.pingreq(), b"\xd0\x00"
            if transport == "ws":
                ping, pong = framed(ping), b"\x82\x02" + pong
            link.sendall(ping)
            assert link.recv(4) == pong
    finally:
        for link in links:
            link.close()
    gateway.stop()


def cpu_grows(pid):
    """Whether it is still busy with what came last."""
    before = cpu(pid)
    time.sleep(0.5)
    return cpu(pid) - before > 0.01
