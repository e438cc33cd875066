"""What every story has: the programs, a way to start them, and their logs when it fails."""

import pytest

from harness.c import Programs
from harness.fixtures import (  # noqa: F401 - pytest finds them here
    binaries,
    chance,
    daemon,
    pytest_runtest_makereport,
    tidy,
)
from harness.mosquitto import Mosquitto
from harness.serial_line import SerialLine


@pytest.fixture(scope="session")
def c_programs(tmp_path_factory):
    return Programs(tmp_path_factory.mktemp)


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
