"""How an upstream is reached: which layer fails, what is told, and by which ways it goes."""

import json

import pytest
from harness.clients import Client
from harness.daemon import allow
from harness.ports import free_port
from harness.wait import until

OUT = {"direction": "out", "filter": "telemetry/#"}
IN = {"direction": "in", "filter": "commands/#"}


def link(url, *routes, **more):
    return {"upstream": [{"name": "cloud", "url": url, "route": list(routes), **more}]}


def test_bridge_test_names_the_layer_and_the_link_goes_on(daemon, upstream):
    broker = upstream().start()
    gateway = daemon(config=link(f"mqtt://127.0.0.1:{broker.port}", OUT, IN)).start()
    gateway.wait_link("cloud")
    steps = gateway.ctl_json("bridge", "test", "cloud")["steps"]
    assert [s["layer"] for s in steps] == ["DNS", "TCP", "CONNACK", "subscribe"], steps
    assert all(s["ok"] for s in steps), steps
    gateway.wait_link("cloud")
    broker.stop()
    failed = gateway.ctl("bridge", "test", "cloud")
    assert failed.returncode == 1 and "TCP" in failed.stderr + failed.stdout, failed
    assert gateway.ctl("bridge", "test", "nowhere").returncode == 1
    broker.start()
    gateway.wait_link("cloud")


@pytest.mark.parametrize("version", ["3.1.1", "5"])
def test_bridge_test_tries_a_policy_for_publishing_on_request(daemon, version):
    actions = ["iot:Connect", "iot:Subscribe", "iot:Receive"]
    may = allow((actions, ["*"]), (["iot:Publish"], ["arn:aws:iot:*:*:topic/site7/*"]))
    far = daemon(policies={"site": may}, listener={})
    far.config["listener"][0]["policy"] = "site"
    far.write()
    far.start()
    gateway = daemon(config=link(f"mqtt://127.0.0.1:{far.ports['mqtt']}", OUT, mqtt_version=version)).start()
    gateway.wait_link("cloud")
    steps = gateway.ctl_json("bridge", "test", "cloud", "--publish", "site7/x")["steps"]
    assert steps[-1]["layer"] == "policy" and all(s["ok"] for s in steps), steps
    failed = gateway.ctl("bridge", "test", "cloud", "--publish", "site8/x")
    assert failed.returncode == 1 and "policy fails" in failed.stderr and "site8/x" in failed.stderr, failed
    assert gateway.ctl("bridge", "test", "cloud", "--publish", "site8/#").returncode == 1
    gateway.wait_link("cloud")


def test_another_gateway_is_reached_over_web_socket_with_mqtt_5(daemon):
    far = daemon()
    port = free_port()
    far.config["listener"].append({
        "protocol": "ws", "address": f"127.0.0.1:{port}", "auth": "anonymous", "policy": "open",
    })
    far.write()
    far.start()
    near = daemon(config=link(f"ws://127.0.0.1:{port}", OUT, mqtt_version="5"))
    near.start()
    near.wait_link("cloud")
    listener = Client("far", far.ports["mqtt"]).connect()
    listener.subscribe("telemetry/#", 1)
    client = Client("near", near.ports["mqtt"]).connect()
    client.publish("telemetry/x", b"21")
    assert listener.next()[:2] == ("telemetry/x", b"21")


def test_states_are_told_at_once(daemon, upstream):
    broker = upstream().start()
    gateway = daemon(config=link(f"mqtt://127.0.0.1:{broker.port}", OUT)).start()
    gateway.wait_link("cloud")
    client = Client("near", gateway.ports["mqtt"]).connect()
    client.subscribe("$SYS/upstream/+/state", 0)

    def told():
        message = client.next()
        assert message.topic == "$SYS/upstream/cloud/state"
        told = json.loads(message.payload)
        assert told["upstream"] == "cloud", told
        return told["state"]

    assert told() == "connected", "whoever comes later hears the last one"
    gateway.ctl_ok("bridge", "pause", "cloud")
    assert told() == "paused"
    gateway.ctl_ok("bridge", "resume", "cloud")
    assert [told() for _ in range(4)] == ["resolving", "connecting", "handshaking", "connected"]
    status = until(lambda: gateway.link("cloud"), "the status")
    assert status["bytes_sent"] > 0 and status["bytes_received"] > 0, status
