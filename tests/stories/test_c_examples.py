"""The examples of `include/examples` do what the handbook says, against a real gateway."""

import json
import subprocess

import pytest

from harness.clients import Client
from harness.daemon import allow
from harness.process import Process

THING = "lamp-1"


@pytest.fixture
def gateway(daemon):
    """With a Unix socket for local programs; not started."""
    it = daemon(policies={"local": allow((["iot:*"], ["*"]))})
    it.path = it.socket.with_name("mqtt.sock")
    it.config["listener"].append({
        "protocol": "unix", "address": str(it.path), "auth": "peer", "policy": "local",
    })
    it.write()
    return it


def start(c_programs, name, *argv, stdin=subprocess.DEVNULL, before=()):
    return Process(
        [*before, c_programs("-O2") / name, *argv], name, stdin=stdin,
        env={"LD_LIBRARY_PATH": str(c_programs.library)},
    )


def shadow(gateway):
    return json.loads(gateway.ctl_ok("shadow", "get", THING))["state"]


def test_hello_over_the_unix_socket_and_over_tls(gateway, c_programs):
    gateway.start()
    child = start(c_programs, "hello", gateway.path)
    assert child.wait(30) == 0, child.log
    assert "demo/hello: hello" in child.log and f"connected to {gateway.path}" in child.log
    device = gateway.cert("hello", policy="local")
    child = start(
        c_programs, "hello", "localhost", gateway.ports["mqtts"], device.ca, device.certificate,
        device.key,
    )
    assert child.wait(30) == 0, child.log
    assert "demo/hello: hello" in child.log


def test_the_lamp_switches_by_its_shadow_and_by_its_button(gateway, c_programs):
    gateway.start()
    lamp = start(c_programs, "shadow_lamp", gateway.path, THING, stdin=subprocess.PIPE)
    lamp.wait_for_line("lamp off", deadline=20)
    gateway.ctl_ok("shadow", "update", THING, '{"state":{"desired":{"lamp":{"on":true}}}}')
    lamp.wait_for_line("lamp on", deadline=20)
    mark = lamp.mark()
    lamp.popen.stdin.write(b"\n")
    lamp.popen.stdin.flush()
    lamp.wait_for_line("lamp off", deadline=20, since=mark)
    lamp.popen.stdin.close()
    assert lamp.wait(20) == 0, lamp.log
    # The button took the wish away; the report is in the shadow when the program ends.
    state = shadow(gateway)
    assert state["reported"] == {"lamp": {"on": False}}
    assert "delta" not in state


def test_the_lamp_comes_back_after_a_restart_of_the_gateway(gateway, c_programs):
    gateway.start()
    lamp = start(c_programs, "shadow_lamp", gateway.path, THING, stdin=subprocess.PIPE)
    lamp.wait_for_line("lamp off", deadline=20)
    gateway.kill()
    gateway.start()

    # Whether it is back or not: it asks for what it has missed.
    gateway.ctl_ok("shadow", "update", THING, '{"state":{"desired":{"lamp":{"on":true}}}}')
    lamp.wait_for_line("lamp on", deadline=20)
    lamp.popen.stdin.close()
    assert lamp.wait(20) == 0, lamp.log


def test_the_logger_loses_no_line_over_a_kill_of_the_gateway(gateway, c_programs):
    gateway.start()
    reader = Client("reader", gateway.ports["mqtt"], clean=False).connect()
    assert reader.subscribe("log/lines", 1) == 1
    reader.disconnect()
    logger = start(c_programs, "logger", gateway.path, "log/lines", stdin=subprocess.PIPE)
    gateway.log_has("client_id=logger")
    lines = [f"line {number}" for number in range(3000)]
    write = logger.popen.stdin.write
    for number, line in enumerate(lines):
        write(line.encode() + b"\n")
        if number in (700, 1900):
            logger.popen.stdin.flush()
            gateway.kill()
            gateway.start()
    logger.popen.stdin.close()
    assert logger.wait(60) == 0, logger.log
    assert "3000 stored, 0 lost" in logger.log
    gateway.kill()
    gateway.start()
    reader = Client("reader", gateway.ports["mqtt"], clean=False).connect()
    got = []
    while set(got) != set(lines):
        got.append(reader.next(20).payload.decode())
    # In order; what was under way at a kill may be there twice.
    first = list(dict.fromkeys(got))
    assert first == lines
    reader.disconnect()
