"""The programs, a folder on a real disk, and the logs when something fails."""

import os
import pathlib
import random
import shutil
import tempfile

import pytest
from harness import process
from harness.binaries import ROOT, Binaries
from harness.daemon import Daemon


@pytest.fixture(autouse=True)
def _tidy():
    """Nothing that a test starts outlives it."""
    process.started.clear()
    yield
    for child in process.started:
        child.destroy()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.failed and report.when == "call":
        for child in process.started[-3:]:
            title = f"{child.name} (pid {child.pid}, exit {child.popen.poll()})"
            report.sections.append((title, "\n".join(child.log.splitlines()[-60:])))


@pytest.fixture
def disk():
    """A folder beside the build: /tmp may be memory."""
    base = pathlib.Path(os.environ.get("IOTEDGE_DISK") or ROOT / "target")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="robustness-", dir=base))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def daemon(disk):
    """A factory: `daemon(config=...)` makes a gateway that is not started yet."""
    return lambda **how: Daemon(Binaries(), disk / "gateway", **how)


@pytest.fixture
def chance():
    """Randomness that can be repeated: IOTEDGE_STORY_SEED=N."""
    seed = int(os.environ.get("IOTEDGE_STORY_SEED") or random.SystemRandom().randrange(2**32))
    print(f"seed: IOTEDGE_STORY_SEED={seed}")
    return random.Random(seed)
