"""The programs, a folder on a real disk, and the logs when something fails."""

import pytest
from harness.fixtures import (  # noqa: F401 - pytest finds them here
    binaries,
    chance,
    disk,
    gateways,
    pytest_runtest_makereport,
    tidy,
)


@pytest.fixture
def daemon(binaries, disk):
    """A factory of gateways that are not started yet, on a real disk."""
    return gateways(binaries, disk)
