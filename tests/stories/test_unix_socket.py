"""Local processes on a Unix socket: known by their user, held by the listener's policy."""

import os
import queue
import socket
import stat

import paho.mqtt.client as paho
import pytest

from harness.clients import Client
from harness.daemon import allow
from harness.process import Process, run

LOCAL = allow(
    (["iot:Connect"], ["*"]),
    (["iot:Publish", "iot:Receive", "iot:RetainPublish"], ["arn:aws:iot:*:*:topic/local/*"]),
    (["iot:Subscribe"], ["arn:aws:iot:*:*:topicfilter/local/*"]),
)


@pytest.fixture
def gateway(daemon):
    """Not started; `path` is the socket that its local listener has."""
    it = daemon(policies={"local": LOCAL})
    it.path = it.socket.with_name("mqtt.sock")
    it.config["listener"].append({
        "protocol": "unix", "address": str(it.path), "auth": "peer", "policy": "local",
    })
    it.write()
    return it


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


def answers(path):
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def test_mosquitto_and_paho_talk_over_the_socket(gateway):
    gateway.start()
    assert mode(gateway.path) == 0o660
    sub = Process(
        ["stdbuf", "-oL", "mosquitto_sub", "--unix", gateway.path, "-t", "local/#", "-q", "1",
         "-C", "2", "-v", "-d"],
        "mosquitto_sub",
    )
    sub.wait_for_line("Subscribed")
    done = run(["mosquitto_pub", "--unix", gateway.path, "-t", "local/a", "-q", "1", "-m", "hello"])
    assert done.returncode == 0, done.stderr
    got = queue.SimpleQueue()
    client = paho.Client(
        paho.CallbackAPIVersion.VERSION2, "p", transport="unix", protocol=paho.MQTTv5)
    client.on_connect = lambda *_: client.subscribe("local/#", 1)
    client.on_subscribe = lambda *_: client.publish("local/b", "from paho", 1)
    client.on_message = lambda _c, _d, m: got.put((m.topic, m.payload))
    client.connect(str(gateway.path), 1883)
    client.loop_start()
    try:
        assert got.get(timeout=10) == ("local/b", b"from paho")
    finally:
        client.disconnect()
        client.loop_stop()
    sub.wait_for_line("local/a hello")
    sub.wait_for_line("local/b from paho")


def test_the_kernel_says_who_it_is_and_the_policy_what_it_may_do(gateway):
    gateway.start()
    who = f"uid:{os.getuid()}@{gateway.path}"
    run(["mosquitto_pub", "--unix", gateway.path, "-i", "me", "-t", "local/a", "-m", "x"])
    gateway.log_explains("connected", who)
    gateway.log_explains("connected", "remote=pid ")
    run(["mosquitto_pub", "--unix", gateway.path, "-i", "me", "-t", "other/a", "-m", "x"])
    gateway.log_explains("policy     local", "PolicyDenied", who, "iot:Publish", "other/a")
    # The open listener's policy is not the socket's.
    hears = Client("hears", gateway.ports["mqtt"]).connect()
    hears.subscribe("#", 1)
    hears.publish("other/a", b"y")
    assert hears.next()[:2] == ("other/a", b"y")
    hears.disconnect()


def test_a_reload_changes_what_local_users_may_do(gateway):
    gateway.start()
    gateway.policies["wide"] = allow((["iot:*"], ["*"]))
    gateway.config["listener"][-1]["policy"] = "wide"
    gateway.write()
    gateway.ctl_ok("reload")
    hears = Client("hears", gateway.ports["mqtt"]).connect()
    hears.subscribe("#", 1)
    run(["mosquitto_pub", "--unix", gateway.path, "-t", "other/a", "-m", "x"])
    assert hears.next()[:2] == ("other/a", b"x")
    hears.disconnect()


def test_anonymous_and_a_mode_of_ones_own(gateway):
    gateway.config["listener"][-1].update(auth="anonymous", mode="0600")
    gateway.write()
    gateway.start()
    assert mode(gateway.path) == 0o600
    done = run(["mosquitto_pub", "--unix", gateway.path, "-t", "local/a", "-q", "1", "-m", "x"])
    assert done.returncode == 0, done.stderr
    gateway.log_explains("connected", f"anonymous:{gateway.path}")


def test_the_file_goes_with_the_daemon_and_comes_back_after_a_kill(gateway):
    gateway.start()
    gateway.stop()
    assert not gateway.path.exists()
    gateway.start()
    gateway.kill()
    assert gateway.path.exists() and not answers(gateway.path)
    gateway.start()
    assert answers(gateway.path)


def test_what_is_not_its_own_is_not_touched(gateway):
    def refused():
        gateway.spawn()
        assert gateway.process.wait() == 1
        gateway.log_has("cannot listen on")
        return gateway.process.log

    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(gateway.path))
        other.listen()
        assert "in use" in refused()
        assert answers(gateway.path)
    gateway.path.unlink()
    gateway.path.write_text("precious")
    assert "no socket" in refused()
    assert gateway.path.read_text() == "precious"
    gateway.path.unlink()
    # Nor is what somebody else has put there since.
    gateway.start()
    gateway.path.unlink()
    gateway.path.write_text("new")
    gateway.stop()
    assert gateway.path.read_text() == "new"
