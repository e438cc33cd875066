"""One broker for all conformance tests, and names that no other test uses."""

import pytest

pytest.register_assert_rewrite("both")

from conformance import bench, brokers
from harness.fixtures import pytest_runtest_makereport  # noqa: F401 - pytest finds it here


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
