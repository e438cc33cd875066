"""The gateway, a folder on a real disk, and what is beyond the bridge."""

import os
import pathlib
import shutil
import tempfile

import pytest
from far.broker import Broker
from far.proxy import Proxy
from harness.binaries import ROOT
from harness.daemon import Daemon
from harness.fixtures import (  # noqa: F401 - pytest finds them here
    binaries,
    chance,
    pytest_runtest_makereport,
    tidy,
)
from harness.mosquitto import Mosquitto


@pytest.fixture
def disk():
    """A folder beside the build: /tmp may be memory."""
    base = pathlib.Path(os.environ.get("IOTEDGE_DISK") or ROOT / "target")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="bridge-", dir=base))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def daemon(binaries, disk):
    """A factory: `daemon(config=...)` makes a gateway that is not started yet."""
    count = 0

    def make(**how):
        nonlocal count
        count += 1
        return Daemon(binaries, disk / f"gateway{count}", **how)

    return make


@pytest.fixture
def far():
    """A factory of scripted brokers; they are started."""
    made = []

    def make(answers=None, **how):
        made.append(Broker(answers, **how).start())
        return made[-1]

    yield make
    for one in made:
        one.stop()


@pytest.fixture
def network():
    """A factory of proxies; they are started."""
    made = []

    def make(target, seed=0):
        made.append(Proxy(target, seed).start())
        return made[-1]

    yield make
    for one in made:
        one.stop()


@pytest.fixture
def mosquitto(tmp_path):
    """A factory of mosquittos that are not started yet."""
    return lambda name="upstream": Mosquitto(tmp_path / name, name=name)
