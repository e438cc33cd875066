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


class Devices:
    """What devices of both versions say in the same words."""

    @property
    def hello(self):
        return self.wire.connect

    def publish(self, topic, payload=b"", qos=1, retain=False):
        return self.wire.publish(topic, payload, qos=qos, retain=retain)

    def subscribe(self, *filters):
        return self.wire.subscribe(filters)

    def unsubscribe(self, *filters):
        return self.wire.unsubscribe(filters)


class Old(Devices, bench.Bench):
    """Devices that speak 3.1.1."""

    name, version = "v311", 4

    def is_refused(self, *data, code=None, old=None):
        """CONNECT is answered with this reason code, which is `old` here, and closed."""
        said = [answer.code for answer in self.refused(*data)]
        assert said == ([] if old is None else [old])

    def is_thrown_out(self, client, *data, code=None):
        """Who says this is thrown out, with this reason code if there is one in the version."""
        client.send(*data)
        client.thrown_out()


class New(Devices, bench.Bench5):
    """Devices that speak version 5."""

    name, version = "v5", 5

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


def _devices(cloud, *makes):
    """A fixture: devices of each of these versions, one after the other, on that gateway."""
    several = {"params": makes, "ids": [make.name for make in makes]} if makes[1:] else {}

    @pytest.fixture(**several)
    def devices(request):
        on = request.getfixturevalue(cloud)
        it = getattr(request, "param", makes[0])(on)
        yield it
        it.close()
        assert on.process.running, "the broker has died"

    return devices


aws, aws311, aws5 = (_devices("roomy", *makes) for makes in ((Old, New), (Old,), (New,)))
# At the cloud's own pace.
paced, paced311, paced5 = (_devices("strict", *makes) for makes in ((Old, New), (Old,), (New,)))
