"""Who watches the devices of a house sees them come and go, as far as a policy lets it."""

import json
import re

import pytest

from harness import raw
from harness.clients import Client, Refused
from harness.daemon import allow
from harness.process import Process

ARN = "arn:aws:iot:local:000000000000:"
DEVICE = allow(
    (["iot:Connect"], [ARN + "client/device*"]),
    (["iot:Publish", "iot:Receive"], [ARN + "topic/devices/*"]),
    (["iot:Subscribe"], [ARN + "topicfilter/devices/*"]),
)
# As in the guide, with iot:Receive on topics.
MONITOR = allow(
    (["iot:Connect"], [ARN + "client/monitor*"]),
    (["iot:Subscribe"], [ARN + "topicfilter/$aws/events/*"]),
    (["iot:Receive"], [ARN + "topic/$aws/events/presence/*"]),
)
PRESENCE = "$aws/events/presence/"
RULE = {
    "sql": "SELECT clientId AS who, eventType AS what FROM '$aws/events/presence/+/+'",
    "awsIotSqlVersion": "2016-03-23",
    "actions": [
        {"republish": {"topic": "status/${clientId}", "roleArn": "arn:aws:iam::1:role/r", "qos": 1}}
    ],
}
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@pytest.fixture
def gateway(daemon):
    policies = {"device": DEVICE, "monitor": MONITOR}
    return daemon(policies=policies, rules={"status": RULE}).start()


def device(gateway, name, identity, **how):
    return Client(name, gateway.ports["mqtts"], identity=identity, **how).connect()


def watch(gateway, name="watcher", filter="$aws/events/#", **how):
    """Someone on the open port, who may hear everything."""
    watcher = Client(name, gateway.ports["mqtt"], **how).connect()
    assert watcher.subscribe(filter) == 1
    return watcher


def told(message):
    return message.topic, json.loads(message.payload)


def about(watcher, client_id, count):
    """The next events of one client."""
    found = []
    while len(found) < count:
        topic, body = told(watcher.next())
        if body["clientId"] == client_id:
            found.append((topic.removeprefix("$aws/events/"), body))
    return found


def test_a_monitor_sees_devices_come_and_go(gateway):
    """mosquitto_sub with a certificate, under a policy for presence events."""
    watching, identity = gateway.cert("monitor", policy="monitor"), gateway.cert("d", policy="device")
    argv = ["stdbuf", "-oL", "mosquitto_sub", "-h", "localhost", "-p", gateway.ports["mqtts"]]
    argv += ["--cafile", watching.ca, "--cert", watching.certificate, "--key", watching.key]
    argv += ["-i", "monitor", "-d", "-q", "1", "-t", "$aws/events/#", "-F", "%t %p"]
    monitor = Process(argv, "mosquitto_sub")
    monitor.wait_for_line("Subscribed")
    client = device(gateway, "device-7", identity)
    assert client.subscribe("devices/7/#") == 1
    client.disconnect()

    line = rf"^\{PRESENCE}(\w+)/device-7 (.*)"
    came = monitor.wait_for_line(line.replace(r"(\w+)", "connected"))
    went = monitor.wait_for_line(line.replace(r"(\w+)", "disconnected"))
    came, went = json.loads(came[1]), json.loads(went[1])
    session = came["sessionIdentifier"]
    assert UUID.fullmatch(session)
    same = {
        "clientId": "device-7",
        "sessionIdentifier": session,
        "principalIdentifier": identity.id,
        "versionNumber": came["versionNumber"],
    }
    now = came["timestamp"]
    assert came == {**same, "timestamp": now, "eventType": "connected", "ipAddress": "127.0.0.1"}
    assert went.pop("timestamp") >= now > 1_700_000_000_000
    assert went == {
        **same,
        "eventType": "disconnected",
        "clientInitiatedDisconnect": True,
        "disconnectReason": "CLIENT_INITIATED_DISCONNECT",
    }
    # The policy leaves out what the device subscribed to.
    assert "subscriptions/" not in monitor.log.replace("'$aws/events/#'", "")
    monitor.popen.terminate()


def test_the_reason_says_how_a_connection_ended(gateway):
    watcher = watch(gateway, filter=PRESENCE + "disconnected/#")
    port = gateway.ports["mqtt"]

    raw_clients = {
        "CONNECTION_LOST": lambda link: link.close(),
        "CLIENT_ERROR": lambda link: link.send(b"\x00\x00"),
        "CLIENT_INITIATED_DISCONNECT": lambda link: link.send(raw.disconnect()),
    }
    for reason, end in raw_clients.items():
        with raw.Connection(port) as link:
            link.connect("c")
            end(link)
            [(topic, body)] = about(watcher, "c", 1)
        assert body["disconnectReason"] == reason
        assert body["clientInitiatedDisconnect"] == (reason == "CLIENT_INITIATED_DISCONNECT")

    with raw.Connection(port) as link:
        link.connect("sleepy", keep_alive=1)
        [(_, body)] = about(watcher, "sleepy", 1)
        assert body["disconnectReason"] == "MQTT_KEEP_ALIVE_TIMEOUT"

    identity = gateway.cert("d", policy="device")
    client = device(gateway, "device-1", identity)
    client._paho.publish("forbidden", b"", 1)
    [(_, body)] = about(watcher, "device-1", 1)
    assert body["disconnectReason"] == "AUTH_ERROR"

    client = device(gateway, "device-1", identity)
    gateway.ctl_ok("cert", "revoke", identity.id)
    [(_, body)] = about(watcher, "device-1", 1)
    assert body["disconnectReason"] == "FORBIDDEN_ACCESS"


def test_a_takeover_is_told_in_its_order(gateway):
    watcher = watch(gateway)
    first = Client("twin", gateway.ports["mqtt"]).connect()
    second = Client("twin", gateway.ports["mqtt"]).connect()
    first.wait_gone()
    events = about(watcher, "twin", 3)
    assert [topic for topic, _ in events] == [
        "presence/connected/twin", "presence/disconnected/twin", "presence/connected/twin",
    ]
    old, end, new = (body for _, body in events)
    assert end["disconnectReason"] == "DUPLICATE_CLIENTID"
    assert old["versionNumber"] == end["versionNumber"] < new["versionNumber"]
    second.disconnect()


def test_subscriptions_are_told_with_their_filters(gateway):
    watcher = watch(gateway, filter="$aws/events/subscriptions/#")
    client = Client("reader", gateway.ports["mqtt"]).connect()
    client._paho.subscribe([("foo/bar", 1), ("device/+", 0)])
    client.subscribe("$aws/nonsense")
    client.unsubscribe("foo/bar")
    (subscribed, what), (unsubscribed, gone) = about(watcher, "reader", 2)
    assert (subscribed, unsubscribed) == (
        "subscriptions/subscribed/reader", "subscriptions/unsubscribed/reader",
    )
    assert (what["topics"], gone["topics"]) == (["foo/bar", "device/+"], ["foo/bar"])
    assert what["sessionId"] == what["sessionIdentifier"] == gone["sessionId"]
    assert what["principalIdentifier"].startswith("anonymous:")
    client.disconnect()


def test_a_device_that_may_not_connect_is_told_of(gateway):
    watcher = watch(gateway, filter=PRESENCE + "connect_failed/+")
    identity = gateway.cert("d", policy="device")
    with pytest.raises(Refused):
        device(gateway, "somebody-else", identity)
    with pytest.raises(Refused):
        device(gateway, "device-2", identity, will=("not/mine", b"gone", 1, False))
    for name in ("somebody-else", "device-2"):
        topic, body = told(watcher.next())
        assert topic == PRESENCE + "connect_failed/" + name
        assert body.pop("timestamp") and UUID.fullmatch(body.pop("sessionIdentifier"))
        assert body == {
            "clientId": name,
            "eventType": "connect_failed",
            "connectFailureReason": "AUTHORIZATION_FAILED",
            "principalIdentifier": identity.id,
            "ipAddress": "127.0.0.1",
        }


def test_a_rule_makes_a_status_of_presence(gateway):
    reader = Client("reader", gateway.ports["mqtt"]).connect()
    assert reader.subscribe("status/device-1") == 1
    identity = gateway.cert("d", policy="device")
    device(gateway, "device-1", identity).disconnect()
    assert [json.loads(m.payload) for m in reader.collect(2)] == [
        {"who": "device-1", "what": "connected"},
        {"who": "device-1", "what": "disconnected"},
    ]


def test_events_wait_for_a_session_and_their_versions_grow_over_restarts(gateway):
    watch(gateway, filter=PRESENCE + "+/c", clean=False).disconnect()
    for _ in range(2):
        Client("c", gateway.ports["mqtt"]).connect().disconnect()
        gateway.restart()
    watcher = Client("watcher", gateway.ports["mqtt"], clean=False).connect()
    assert watcher.session_present
    bodies = [told(m)[1] for m in watcher.collect(4)]
    assert [b["eventType"] for b in bodies] == ["connected", "disconnected"] * 2
    versions = [b["versionNumber"] for b in bodies]
    assert versions[0] == versions[1] < versions[2] == versions[3]


def test_iotedgectl_makes_no_events_and_a_setting_ends_them(gateway):
    watcher = watch(gateway, filter=PRESENCE + "#")
    gateway.ctl_ok("publish", "a", "x", "-r", "-q", "1")
    assert gateway.ctl_ok("subscribe", "a", "-n", "1")
    Client("marker", gateway.ports["mqtt"]).connect().disconnect()
    topic, _ = told(watcher.next())
    assert topic == PRESENCE + "connected/marker"

    gateway.stop()
    gateway.config["broker"] = {"lifecycle_events": False}
    gateway.write()
    gateway.start()
    watcher = Client("quiet", gateway.ports["mqtt"]).connect()
    assert watcher.subscribe("$aws/events/#") == 1
    assert watcher.subscribe("marker") == 1
    Client("c", gateway.ports["mqtt"]).connect().disconnect()
    watcher.publish("marker", b"")
    assert [m.topic for m in watcher.until_topic("marker")] == ["marker"]
