"""The gateway, a folder on a real disk, and what is beyond the bridge."""

import pytest
from far.broker import Broker
from far.proxy import Proxy
from harness.fixtures import (  # noqa: F401 - pytest finds them here
    binaries,
    chance,
    disk,
    gateways,
    pytest_runtest_makereport,
    tidy,
)
from harness.mosquitto import Mosquitto


@pytest.fixture
def daemon(binaries, disk):
    """A factory of gateways that are not started yet, on a real disk."""
    return gateways(binaries, disk)


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
