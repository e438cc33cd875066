"""A gateway with the profile aws-iot, and devices of both versions."""

import pytest
from conformance import bench, wire, wire5
from harness.binaries import Binaries
from harness.daemon import Daemon

# Behind `roomy`: the cloud's behaviour without the limits that make tests wait.
ROOMY = {
    "profile": "aws-iot",
    "max_connects_per_client": "unlimited",
    "max_publish_rate": "unlimited",
    "max_delivery_rate": "unlimited",
    "max_bytes_rate": "unlimited",
}


class Cloud:
    """What the tests of this folder run on."""

    tells_why = True

    def __init__(self, folder, broker):
        self.daemon = Daemon(Binaries(), folder, config={"broker": broker})
        self.daemon.start()
        self.port, self.process = self.daemon.ports["mqtt"], self.daemon.process

    def stop(self):
        self.daemon.stop()
        assert "panicked" not in self.process.log


@pytest.fixture(scope="session")
def strict(tmp_path_factory):
    """The profile as it is."""
    it = Cloud(tmp_path_factory.mktemp("strict"), {"profile": "aws-iot"})
    yield it
    it.stop()


@pytest.fixture(scope="session")
def roomy(tmp_path_factory):
    it = Cloud(tmp_path_factory.mktemp("roomy"), ROOMY)
    yield it
    it.stop()


class Old(bench.Bench):
    """Devices that speak 3.1.1."""

    version = 4
    hello = staticmethod(wire.connect)

    @staticmethod
    def publish(topic, payload=b"", qos=1, retain=False):
        return wire.publish(topic, payload, qos, 1, retain)

    @staticmethod
    def subscribe(*filters):
        return wire.subscribe(filters)

    @staticmethod
    def unsubscribe(*filters):
        return wire.unsubscribe(filters)

    def is_refused(self, *data, code=None, old=None):
        """CONNECT is answered with this reason code, which is `old` here, and closed."""
        said = [answer.code for answer in self.refused(*data)]
        assert said == ([] if old is None else [old])

    def is_thrown_out(self, client, *data, code=None):
        """Who says this is thrown out, with this reason code if there is one in the version."""
        client.send(*data)
        client.thrown_out()


class New(bench.Bench5):
    """Devices that speak version 5."""

    version = 5
    hello = staticmethod(wire5.connect)

    @staticmethod
    def publish(topic, payload=b"", qos=1, retain=False):
        return wire5.publish(topic, payload, qos=qos, retain=retain)

    @staticmethod
    def subscribe(*filters):
        return wire5.subscribe(filters)

    @staticmethod
    def unsubscribe(*filters):
        return wire5.unsubscribe(filters)

    def is_refused(self, *data, code=None, old=None):
        client = self.open()
        client.send(*data)
        [answer] = client.closed()
        assert (answer.kind, answer.code) == (wire.CONNACK, code)
        assert answer.one(wire5.REASON_STRING)

    def is_thrown_out(self, client, *data, code=None):
        client.send(*data)
        [said] = client.closed()
        assert (said.kind, said.code) == (wire.DISCONNECT, code)
        assert said.one(wire5.REASON_STRING)


def _bench(make, cloud):
    it = make(cloud)
    yield it
    it.close()
    assert cloud.process.running, "the broker has died"


@pytest.fixture(params=[Old, New], ids=["v311", "v5"])
def aws(request, roomy):
    """Devices of one version, then of the other."""
    yield from _bench(request.param, roomy)


@pytest.fixture
def aws5(roomy):
    yield from _bench(New, roomy)


@pytest.fixture
def aws311(roomy):
    yield from _bench(Old, roomy)


@pytest.fixture(params=[Old, New], ids=["v311", "v5"])
def paced(request, strict):
    """Devices of one version, then of the other, at the cloud's own pace."""
    yield from _bench(request.param, strict)


@pytest.fixture
def paced5(strict):
    yield from _bench(New, strict)


@pytest.fixture
def paced311(strict):
    yield from _bench(Old, strict)
