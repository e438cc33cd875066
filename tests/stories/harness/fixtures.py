"""What the suites have in common. A conftest.py takes what it needs:
`from harness.fixtures import pytest_runtest_makereport, tidy`."""

import os
import pathlib
import random
import shutil
import tempfile

import pytest

from . import process
from .binaries import ROOT, Binaries
from .daemon import Daemon

# Of how many processes the logs are shown, and how much of each.
PROCESSES, LINES = 6, 150


@pytest.fixture(scope="session")
def binaries():
    return Binaries()


@pytest.fixture(autouse=True)
def tidy():
    """Nothing that a test starts outlives it."""
    process.started.clear()
    yield
    for child in process.started:
        child.destroy()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """The logs of what was started last, when a test fails."""
    outcome = yield
    report = outcome.get_result()
    if not report.failed:
        return
    for child in process.started[-PROCESSES:]:
        lines = child.log.splitlines()
        cut = [f"... {len(lines) - LINES} lines before"] if len(lines) > LINES else []
        title = f"{child.name} (pid {child.pid}, exit {child.popen.poll()})"
        report.sections.append((title, "\n".join(cut + lines[-LINES:])))


def gateways(binaries, folder):
    """A factory: `make(rules=..., config=...)` makes a gateway that is not started yet."""
    count = 0

    def make(**how):
        nonlocal count
        count += 1
        return Daemon(binaries, folder / f"gateway{count}", **how)

    return make


@pytest.fixture
def daemon(binaries, tmp_path):
    """A factory: see `gateways`."""
    return gateways(binaries, tmp_path)


@pytest.fixture
def disk():
    """A folder beside the build: /tmp may be memory."""
    base = pathlib.Path(os.environ.get("IOTEDGE_DISK") or ROOT / "target")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="disk-", dir=base))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def chance():
    """Randomness that can be repeated: IOTEDGE_STORY_SEED=N."""
    seed = int(os.environ.get("IOTEDGE_STORY_SEED") or random.SystemRandom().randrange(2**32))
    print(f"seed: IOTEDGE_STORY_SEED={seed}")
    return random.Random(seed)
