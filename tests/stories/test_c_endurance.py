"""The C programs under sanitizers, over many rounds, with threads, and with a gateway that goes away
and comes back."""

import json
import shutil

import pytest

from harness.daemon import allow
from harness.process import Process
from harness.wait import Late

DEVICE = allow((["iot:*"], ["*"]))
THING = "AWS-IoT-C-SDK"
# Not -Og or -O2: they warn where the instrumentation has hidden what is known.
SANITIZED = "-O1 -fsanitize=address,undefined -fno-sanitize-recover=undefined"


@pytest.fixture
def certificates(daemon, tmp_path):
    """A gateway, and a folder with the file names of the SDK."""
    gateway = daemon(policies={"sdk": DEVICE}).start()
    device = gateway.cert("sdk", policy="sdk")
    folder = tmp_path / "sdk-certs"
    folder.mkdir()
    shutil.copy(device.ca, folder / "rootCA.crt")
    shutil.copy(device.certificate, folder / "cert.pem")
    shutil.copy(device.key, folder / "privkey.pem")
    return gateway, folder


@pytest.fixture
def start(c_programs, certificates):
    gateway, folder = certificates

    def start(name, count, optimise="-O2", **env):
        command = [c_programs(optimise) / name, "-h", "localhost", "-p", gateway.ports["mqtts"]]
        env = {"LD_LIBRARY_PATH": str(c_programs.library), "ASAN_OPTIONS": "detect_leaks=1", **env}
        return Process([*command, "-c", folder, "-x", count], name, env=env)

    return start


def sanitized(child, deadline=90):
    code = child.wait(deadline)
    for word in ("AddressSanitizer", "LeakSanitizer", "runtime error"):
        assert word not in child.log, child.log
    assert code == 0, child.log


@pytest.mark.parametrize(
    "name", ["subscribe_publish", "subscribe_publish_cpp", "v1_subscribe_publish", "threads", "grow"]
)
def test_programs_that_publish_are_clean_under_the_sanitizers(start, name):
    sanitized(start(name, 3, SANITIZED))


@pytest.mark.parametrize("name", ["shadow", "v1_shadow"])
def test_programs_with_a_shadow_are_clean_under_the_sanitizers(start, certificates, name):
    gateway, _ = certificates
    child = start(name, 20, SANITIZED)
    child.wait_for_line(r"Update Accepted !!", deadline=60)
    gateway.ctl_ok("shadow", "update", THING, '{"state":{"desired":{"windowOpen":true}}}')
    child.wait_for_line(r"Delta - Window state changed to 1", deadline=60)
    sanitized(child)


@pytest.mark.parametrize("name", ["shadow_echo", "v1_shadow_echo"])
def test_programs_that_echo_are_clean_under_the_sanitizers(start, certificates, name):
    gateway, _ = certificates
    child = start(name, 1, SANITIZED)
    child.wait_for_line(r"Listening for deltas", deadline=60)
    wanted = {"state": {"desired": {"x": [1, {"b": 2.5}]}}}
    gateway.ctl_ok("shadow", "update", THING, json.dumps(wanted))
    sanitized(child)


def test_what_needs_no_network_is_clean_under_the_sanitizers(c_programs):
    child = Process(
        [c_programs(SANITIZED) / "offline"], "offline",
        env={"LD_LIBRARY_PATH": str(c_programs.library)},
    )
    sanitized(child)


def test_clients_that_come_and_go_leave_nothing_behind(start):
    # Without the allocator's own caches, whose blocks look used: not a byte more is.
    child = start("grow", 100, GLIBC_TUNABLES="glibc.malloc.tcache_count=0")
    assert child.wait(120) == 0, child.log
    child.wait_for_line(r"100 rounds: \d+ bytes before, \d+ after")


def test_threads_share_clients_and_every_message_comes_back_once(start):
    child = start("threads", 40)
    assert child.wait(120) == 0, child.log
    for number in (1, 2):
        child.wait_for_line(rf"sdkTest/threads/{number}: 120 messages")


def test_a_program_that_listens_goes_on_when_the_gateway_comes_back(start, certificates):
    """`kill -9` while it yields: it connects and subscribes again, and hears of the next delta."""
    gateway, _ = certificates
    child = start("shadow_echo", 1)
    child.wait_for_line(r"Listening for deltas", deadline=30)
    gateway.kill()
    gateway.start()
    code = None
    # What comes before it is back is not for it: deltas are sent to those who listen.
    for number in range(60):
        wanted = {"state": {"desired": {"x": number}}}
        gateway.ctl_ok("shadow", "update", THING, json.dumps(wanted))
        try:
            code = child.wait(1)
            break
        except Late:
            continue
    assert code == 0, child.log
    shadow = json.loads(gateway.ctl_ok("shadow", "get", THING))
    assert shadow["state"]["reported"] == shadow["state"]["desired"]
