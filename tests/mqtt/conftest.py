"""One broker for all conformance tests, and names that no other test uses."""

import pytest
from conformance import bench, brokers
from harness import process


def pytest_addoption(parser):
    parser.addoption(
        "--broker", choices=sorted(brokers.MAKES), default="iotedge",
        help="run the conformance tests on this broker; mosquitto shows that they are right",
    )
    parser.addoption(
        "--transport", choices=["tcp", "ws"], default="tcp",
        help="what the conformance tests' packets travel in; ws is WebSocket frames",
    )


@pytest.fixture(scope="session")
def broker(request, tmp_path_factory):
    it = brokers.start(request.config.getoption("broker"), tmp_path_factory.mktemp("mqtt"))
    yield it
    it.stop()


@pytest.fixture
def mqtt(request, broker):
    """The bench of a test; those in `v5/` speak version 5."""
    make = bench.Bench5 if request.path.parent.name == "v5" else bench.Bench
    it = make(broker, frames=request.config.getoption("transport") == "ws")
    yield it
    it.close()
    assert broker.process.running, "the broker has died"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """The last lines of the brokers' logs, when a test fails."""
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for child in process.started:
            report.sections.append((child.name, "\n".join(child.log.splitlines()[-40:])))
