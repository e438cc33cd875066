"""A gateway of one's own, and the logs when something fails."""

import pytest
from harness import process
from harness.binaries import Binaries
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
    if report.failed:
        for child in process.started:
            report.sections.append((child.name, "\n".join(child.log.splitlines()[-60:])))


@pytest.fixture
def daemon(tmp_path):
    return lambda **how: Daemon(Binaries(), tmp_path / "gateway", **how)
