"""The last word of a device, whatever happens to the gateway."""

import json

import paho.mqtt.client as paho
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from harness import raw
from harness.clients import Client
from harness.wait import until

UPDATE = "$aws/things/lamp/shadow/update"
# As today's guide has it, "Detecting a device is connected".
RULE = {
    "sql": "SELECT * FROM 'my/things/lamp/update'",
    "awsIotSqlVersion": "2016-03-23",
    "actions": [{"republish": {"topic": "$" + UPDATE, "roleArn": "arn:aws:iam::1:role/r", "qos": 1}}],
}
GONE = json.dumps({"state": {"reported": {"connected": "false"}}}).encode()


class Device:
    """A version 5 client with a session of an hour and a will on `wills/NAME`."""

    def __init__(self, gateway, name, delay):
        self._paho = paho.Client(
            paho.CallbackAPIVersion.VERSION2, name, protocol=paho.MQTTv5, reconnect_on_failure=False
        )
        properties = Properties(PacketTypes.WILLMESSAGE)
        properties.WillDelayInterval = delay
        self._paho.will_set(f"wills/{name}", b"gone", 1, properties=properties)
        self._port = gateway.ports["mqtt"]

    def connect(self):
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 3600
        self._paho.connect("localhost", self._port, clean_start=False, properties=properties)
        until(lambda: self._paho.loop(0.1) == 0 and self._paho.is_connected(), "CONNACK")
        return self

    def break_off(self):
        self._paho.socket().close()

    def leave_for_ever(self):
        """DISCONNECT that ends the session: whatever will still waits in it is due."""
        properties = Properties(PacketTypes.DISCONNECT)
        properties.SessionExpiryInterval = 0
        self._paho.disconnect(properties=properties)
        until(lambda: self._paho.loop(0.1) != 0, "the connection has ended")


def watch(gateway):
    watcher = Client("watcher", gateway.ports["mqtt"]).connect()
    assert watcher.subscribe("wills/#") == 1
    return watcher


def ended(gateway, name):
    """Returns when the gateway has seen the connection end."""
    gateway.log_explains("disconnected", f"client_id={name}")


def again(gateway, how):
    if how == "kill":
        gateway.kill()
        gateway.start()
    else:
        gateway.restart()


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_will_that_waits_comes_after_a_restart(gateway, how):
    Device(gateway, "late", 2).connect().break_off()
    ended(gateway, "late")
    again(gateway, how)
    assert watch(gateway).next().topic == "wills/late"


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_device_that_is_back_after_a_restart_has_no_will(gateway, how):
    device = Device(gateway, "back", 3600).connect()
    device.break_off()
    ended(gateway, "back")
    again(gateway, how)
    watcher = watch(gateway)
    Device(gateway, "back", 3600).connect().leave_for_ever()
    watcher.publish("wills/marker", b"")
    assert [m.topic for m in watcher.until_topic("wills/marker")] == ["wills/marker"]


def test_a_power_cut_of_the_gateway_is_the_end_of_its_connections(gateway):
    """The status that a device keeps for others is right again when the gateway is back."""
    lasting, fleeting = (raw.Connection(gateway.ports["mqtt"]) for _ in range(2))
    lasting.connect("lasting", clean=False, will=("wills/lasting", b"offline", 1, True))
    lasting.send(raw.publish("wills/lasting", b"online", qos=1, retain=True))
    lasting.expect(raw.PUBACK)
    fleeting.connect("fleeting", will=("wills/fleeting", b"offline", 1, True))
    with lasting, fleeting:
        gateway.kill()
    gateway.start()
    watcher = watch(gateway)
    message = watcher.next()
    if message.payload == b"online":
        message = watcher.next()
    assert (message.topic, message.payload) == ("wills/lasting", b"offline")
    # A session that ends with its connection ends with the process, its will too.
    watcher.publish("wills/marker", b"")
    assert [m.topic for m in watcher.until_topic("wills/marker")] == ["wills/marker"]


def test_a_will_on_a_shadow_topic_is_for_subscribers_and_not_for_the_shadow(daemon):
    gateway = daemon(rules={"last_word": RULE}).start()
    watcher = Client("watcher", gateway.ports["mqtt"]).connect()
    assert watcher.subscribe("$aws/things/lamp/shadow/#") == 1
    with raw.Connection(gateway.ports["mqtt"]) as link:
        link.connect("lamp", will=(UPDATE, GONE, 1, False))
    message = watcher.next()
    assert (message.topic, message.payload) == (UPDATE, GONE)
    # A rule makes an update of a will on an ordinary topic.
    with raw.Connection(gateway.ports["mqtt"]) as link:
        link.connect("lamp", will=("my/things/lamp/update", GONE, 1, False))
    topics = [m.topic for m in watcher.until_topic(UPDATE + "/documents")]
    assert topics[0] == UPDATE and UPDATE + "/accepted" in topics
    assert UPDATE + "/rejected" not in topics
    shadow = gateway.ctl_json("shadow", "get", "lamp")
    assert shadow["state"]["reported"] == {"connected": "false"}
    assert shadow["version"] == 1, "the will itself was no update"


def test_the_reserved_wills_of_2016_are_forgotten(daemon):
    gateway = daemon(config={"broker": {"reserved_wills": "ignore"}}).start()
    watcher = Client("watcher", gateway.ports["mqtt"]).connect()
    assert watcher.subscribe("$aws/things/lamp/shadow/#") == 1
    assert watcher.subscribe("marker") == 1
    with raw.Connection(gateway.ports["mqtt"]) as link:
        link.connect("lamp", will=(UPDATE, GONE, 1, False))
    gateway.log_explains("ignored", "client_id=", "lamp")
    ended(gateway, "lamp")
    watcher.publish("marker", b"")
    assert [m.topic for m in watcher.until_topic("marker")] == ["marker"]
