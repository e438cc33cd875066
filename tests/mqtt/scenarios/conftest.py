"""Real clients with names that no other test uses."""

import itertools

import pytest
from conformance import real


class Cast:
    """The clients of one scenario."""

    _numbers = itertools.count(1)

    def __init__(self, broker):
        self.broker = broker
        self._name = f"s{next(self._numbers)}"
        self._clients = []

    def topic(self, name=""):
        """A topic or filter of this scenario's own."""
        return f"scenes/{self._name}/{name}"

    def client(self, name, version=5, port=None, **how):
        """A client that is not connected yet."""
        client = real.Client(port or self.broker.port, f"{self._name}{name}", version, **how)
        self._clients.append(client)
        return client

    def close(self):
        for client in self._clients:
            client.close()


@pytest.fixture
def cast(broker):
    it = Cast(broker)
    yield it
    it.close()
    assert broker.process.running, "the broker has died"
