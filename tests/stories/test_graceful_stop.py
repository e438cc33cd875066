"""SIGTERM ends it quickly and well; what was promised is there afterwards."""

import signal
import time

import pytest

from harness import raw
from harness.clients import Client
from harness.daemon import is_open
from harness.process import Process


def test_sigterm_ends_with_0_and_keeps_what_is_durable(gateway):
    with raw.Connection(gateway.ports["mqtt"]) as link:
        link.connect("sleeper", clean=False)
        assert link.subscribe(("t", 1)) == [1]
    client = Client("c", gateway.ports["mqtt"]).connect()
    client.publish("t", b"kept")
    client.publish("state", b"on", retain=True)
    began = time.monotonic()
    gateway.stop()
    assert time.monotonic() - began < 3
    client.wait_gone()
    assert not any(is_open(port) for port in gateway.ports.values())
    assert not gateway.socket.exists()
    gateway.start()
    with raw.Connection(gateway.ports["mqtt"]) as link:
        assert link.connect("sleeper", clean=False).session_present
        assert link.expect(raw.PUBLISH).payload == b"kept"
    with raw.Connection(gateway.ports["mqtt"]) as link:
        link.connect("new")
        assert link.subscribe(("state", 1)) == [1]
        assert link.expect(raw.PUBLISH).payload == b"on"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_with_many_clients_and_halves_of_handshakes(gateway, number):
    links = [raw.Connection(gateway.ports["mqtt"]) for _ in range(100)]
    for n, link in enumerate(links):
        link.connect(f"c{n}")
    links += [raw.Connection(gateway.ports["mqtts"]) for _ in range(20)]
    links += [raw.Connection(gateway.ports["https"]) for _ in range(20)]
    began = time.monotonic()
    gateway.process.signal(number)
    assert gateway.process.wait(10) == 0, gateway.process.log
    assert time.monotonic() - began < 3
    for link in links:
        link.closed(1)


def test_a_second_start_on_the_same_data_is_refused(gateway, binaries):
    second = Process([binaries.iotedged, "--config", gateway.file], "second")
    code = second.wait(15)
    assert code not in (0, -9, -6), second.log
    assert "panicked" not in second.log
    assert gateway.alive
    client = Client("c", gateway.ports["mqtt"]).connect()
    client.publish("t", b"still here")
    client.disconnect()
    assert gateway.ctl("status").returncode == 0


def test_health_tells_the_truth(gateway):
    assert gateway.admin("/healthz")[0] == 200
    assert gateway.admin("/readyz")[0] == 200
    status, text = gateway.admin("/metrics")
    assert status == 200 and "# TYPE" in text
    gateway.stop()
    assert gateway.admin("/healthz")[0] == 0
