"""What every story has: the programs, a way to start them, and their logs when it fails."""

import os
import random

import pytest

from harness import process
from harness.binaries import Binaries
from harness.daemon import Daemon
from harness.mosquitto import Mosquitto
from harness.serial_line import SerialLine


@pytest.fixture(scope="session")
def binaries():
    return Binaries()


@pytest.fixture(autouse=True)
def _tidy():
    """Nothing that a story starts outlives it."""
    process.started.clear()
    yield
    for child in process.started:
        child.destroy()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.failed and report.when in ("setup", "call"):
        for child in process.started:
            lines = child.log.splitlines()
            cut = [f"... {len(lines) - 150} lines before"] if len(lines) > 150 else []
            title = f"{child.name} (pid {child.pid}, exit {child.popen.poll()})"
            report.sections.append((title, "\n".join(cut + lines[-150:])))


@pytest.fixture
def daemon(binaries, tmp_path):
    """A factory: `daemon(rules=..., config=...)` makes a gateway that is not started yet."""
    count = 0

    def make(**how):
        nonlocal count
        count += 1
        return Daemon(binaries, tmp_path / f"gateway{count}", **how)

    return make


@pytest.fixture
def gateway(daemon):
    """A gateway on the default configuration, ready."""
    return daemon().start()


@pytest.fixture
def upstream(tmp_path):
    """A factory of mosquittos that are not started yet."""

    def make(name="upstream", tls=None):
        return Mosquitto(tmp_path / name, tls=tls, name=name)

    return make


@pytest.fixture
def serial_line(tmp_path):
    return SerialLine(tmp_path / "serial")


@pytest.fixture
def chance():
    """Randomness that can be repeated: IOTEDGE_STORY_SEED=N."""
    seed = int(os.environ.get("IOTEDGE_STORY_SEED") or random.SystemRandom().randrange(2**32))
    print(f"seed: IOTEDGE_STORY_SEED={seed}")
    return random.Random(seed)
