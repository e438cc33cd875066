"""One broker for all conformance tests, and names that no other test uses."""

import itertools

import pytest
from conformance import brokers, wire
from harness import process


def pytest_addoption(parser):
    parser.addoption(
        "--broker", choices=sorted(brokers.MAKES), default="iotedge",
        help="run the conformance tests on this broker; mosquitto shows that they are right",
    )


@pytest.fixture(scope="session")
def broker(request, tmp_path_factory):
    it = brokers.start(request.config.getoption("broker"), tmp_path_factory.mktemp("mqtt"))
    yield it
    it.stop()


class Bench:
    """The clients of one test. Client ids and topics of different tests have nothing in common."""

    _numbers = itertools.count(1)

    def __init__(self, broker):
        self.broker = broker
        self._name = f"t{next(self._numbers)}"
        self._clients = []
        self._guests = itertools.count(1)

    def id(self, name=""):
        """A client id of this test's own, of letters and digits only."""
        return f"{self._name}x{name}"

    def topic(self, name="a"):
        """A topic or filter of this test's own: `NAME` below a level that nobody else uses."""
        return f"open/{self._name}/{name}"

    def open(self, port=None):
        """A connection on which nothing has been said."""
        client = wire.Client(port or self.broker.port)
        self._clients.append(client)
        return client

    def client(self, name=None, port=None, **how):
        """A connected client; without a name, a new one."""
        client = self.open(port)
        client.connect(self.id(name or f"guest{next(self._guests)}"), **how)
        return client

    def subscriber(self, *filters, name=None, **how):
        """A connected client with subscriptions (filter, qos), all granted as asked."""
        client = self.client(name, **how)
        assert client.subscribe(*filters) == [qos for _, qos in filters]
        return client

    def away(self, name, *filters):
        """A stored session with these subscriptions and no connection."""
        self.subscriber(*filters, name=name, clean=False).leave()

    def back(self, name, **how):
        """The stored session again."""
        client = self.client(name, clean=False, **how)
        assert client.session_present
        return client

    def ends(self, *data, **how):
        """A client that says this after CONNECT is thrown out without another word."""
        client = self.client(**how)
        client.send(*data)
        client.thrown_out()

    def refused(self, *data):
        """A connection that begins with this is closed; what was said on it."""
        client = self.open()
        client.send(*data)
        return client.closed()

    def close(self):
        for client in self._clients:
            client.close()


@pytest.fixture
def mqtt(broker):
    bench = Bench(broker)
    yield bench
    bench.close()
    assert broker.process.running, "the broker has died"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """The last lines of the brokers' logs, when a test fails."""
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for child in process.started:
            report.sections.append((child.name, "\n".join(child.log.splitlines()[-40:])))
