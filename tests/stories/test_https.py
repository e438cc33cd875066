"""The data plane over HTTPS with a client certificate."""

import http.client
import json
import ssl

import pytest

from harness.clients import Client
from harness.daemon import allow


@pytest.fixture
def home(daemon):
    gateway = daemon(policies={"all": allow((["iot:*"], ["*"]))}).start()
    device = gateway.cert("d1", policy="all", thing="d1")
    client = Client("hears", gateway.ports["mqtt"]).connect()
    client.subscribe("#", 1)
    yield gateway, device, client
    client.disconnect()


def test_publish(home):
    gateway, device, client = home
    status, text = gateway.https("POST", "/topics/a/b?qos=1", device, b'{"x":1}')
    assert status == 200, text
    assert client.next()[:2] == ("a/b", b'{"x":1}')
    status, _ = gateway.https("POST", "/topics/a%2Fc", device, b"encoded")
    assert status == 200
    assert client.next()[:2] == ("a/c", b"encoded")
    for path in ("/topics/", "/topics/a/%23", "/topics/a/%2B/b", "/topics/a%00b", "/topics/a?qos=7"):
        status, text = gateway.https("POST", path, device, b"x")
        assert status in (400, 403, 404), (path, status, text)
    status, _ = gateway.https("PUT", "/topics/a", device, b"x")
    assert status in (404, 405)
    client.publish("marker", b"m")
    assert client.next().topic == "marker"


def test_a_qos_1_publish_is_durable_when_it_is_answered(home):
    gateway, device, client = home
    sleeper = Client("sleeper", gateway.ports["mqtt"], clean=False).connect()
    sleeper.subscribe("jobs/#", 1)
    sleeper.disconnect()
    for n in range(20):
        status, _ = gateway.https("POST", "/topics/jobs/x?qos=1", device, b"%d" % n)
        assert status == 200
    gateway.kill()
    client.wait_gone()
    gateway.start()
    sleeper = Client("sleeper", gateway.ports["mqtt"], clean=False).connect()
    assert [int(m.payload) for m in sleeper.collect(20)] == list(range(20))
    sleeper.disconnect()


def test_read_a_shadow(home):
    gateway, device, client = home
    status, text = gateway.https("GET", "/things/d1/shadow", device)
    assert status == 404 and json.loads(text)["message"], text
    client.publish("$aws/things/d1/shadow/update", b'{"state":{"reported":{"t":1}}}')
    status, text = gateway.https("GET", "/things/d1/shadow", device)
    assert status == 200
    assert json.loads(text)["state"] == {"reported": {"t": 1}}


def test_no_certificate_no_answer(home):
    gateway, device, _ = home
    nobody = ssl.create_default_context(cafile=str(device.ca))
    link = http.client.HTTPSConnection("localhost", gateway.ports["https"], context=nobody, timeout=10)
    try:
        link.request("GET", "/things/d1/shadow")
        status = link.getresponse().status
    except (OSError, http.client.HTTPException):
        status = None
    assert status in (None, 401, 403)
