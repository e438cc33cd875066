"""Lines of a serial port become messages."""

import json

import pytest

from harness.clients import Client
from harness.wait import until


def port(line, **keys):
    return {
        "serial": [
            {"name": "meter", "path": str(line.far), "baud": 9600, "format": "text",
             "topic": "sensors/meter", **keys}
        ]
    }


def serial(gateway):
    return gateway.ctl_json("status")["serial"][0]


def is_open(gateway):
    until(lambda: serial(gateway)["state"] == "reading", "the port is open", every=0.05)


@pytest.fixture
def reading(daemon, serial_line):
    """Starts a gateway on a port that is there, with someone who hears what comes."""
    clients = []

    def start(**keys):
        serial_line.plug()
        gateway = daemon(config=port(serial_line, **keys)).start()
        is_open(gateway)
        client = Client("reader", gateway.ports["mqtt"]).connect()
        client.subscribe("sensors/#", 1)
        clients.append(client)
        return gateway, client, serial_line

    yield start
    for client in clients:
        client.disconnect()


def test_text_lines(reading):
    _, client, line = reading()
    line.write(b"first\nsecond\r\nthird")
    assert [m.payload for m in client.collect(2)] == [b"first", b"second"]
    line.write(b" part\n")
    assert client.next()[:3] == ("sensors/meter", b"third part", 1)


def test_json_lines(reading):
    gateway, client, line = reading(format="json")
    line.write(b'{"t": 21.5}\nnot json\n{"t": 22}\n')
    assert [json.loads(m.payload) for m in client.collect(2)] == [{"t": 21.5}, {"t": 22}]
    gateway.log_has(r"meter")


def test_csv_columns_become_json(reading):
    _, client, line = reading(format="csv", columns=["time", "temperature", "unit"])
    line.write(b"12,21.5,C\n13,22,C\n")
    rows = [json.loads(m.payload) for m in client.collect(2)]
    assert rows == [
        {"time": 12, "temperature": 21.5, "unit": "C"},
        {"time": 13, "temperature": 22, "unit": "C"},
    ]


def test_the_port_goes_away_and_comes_back(reading):
    gateway, client, line = reading()
    line.write(b"before\n")
    assert client.next().payload == b"before"
    line.unplug()
    until(lambda: serial(gateway)["state"] == "absent", "the loss is seen", every=0.05)
    line.plug()
    is_open(gateway)
    line.write(b"after\n")
    assert client.next().payload == b"after"


def test_a_port_that_is_not_there_yet(daemon, serial_line):
    gateway = daemon(config=port(serial_line)).start()
    status = serial(gateway)
    assert status["state"] == "absent"
    serial_line.plug()
    is_open(gateway)


def test_a_line_that_never_ends_does_not_fill_the_memory(reading):
    gateway, client, line = reading()
    for _ in range(64):
        line.write(b"x" * 4096)
    line.write(b"\nafter\n")
    seen = client.next()
    while seen.payload != b"after":
        assert len(seen.payload) <= 128 * 1024
        seen = client.next()
    assert gateway.alive
