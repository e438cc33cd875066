"""The programs, a folder on a real disk, and the logs when something fails."""

import os
import pathlib
import shutil
import tempfile

import pytest
from harness.binaries import ROOT
from harness.daemon import Daemon
from harness.fixtures import (  # noqa: F401 - pytest finds them here
    binaries,
    chance,
    pytest_runtest_makereport,
    tidy,
)


@pytest.fixture
def disk():
    """A folder beside the build: /tmp may be memory."""
    base = pathlib.Path(os.environ.get("IOTEDGE_DISK") or ROOT / "target")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="robustness-", dir=base))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def daemon(binaries, disk):
    """A factory: `daemon(config=...)` makes a gateway that is not started yet."""
    return lambda **how: Daemon(binaries, disk / "gateway", **how)
