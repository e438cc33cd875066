"""The broker's own counters on $SYS, to whoever may read them."""

import re
import sqlite3

import pytest

from harness import raw
from harness.clients import Client
from harness.daemon import allow
from harness.process import Process
from harness.wait import until

ARN = "arn:aws:iot:local:000000000000:"
READER = allow(
    (["iot:Connect"], [ARN + "client/*"]),
    (["iot:Subscribe"], [ARN + "topicfilter/$SYS/*"]),
    (["iot:Receive"], [ARN + "topic/$SYS/broker/clients/*"]),
)
NOBODY = allow((["iot:Connect"], [ARN + "client/*"]))


@pytest.fixture
def gateway(daemon):
    policies = {"reader": READER, "nobody": NOBODY}
    return daemon(policies=policies, config={"broker": {"sys_interval": "1s"}}).start()


def counters(gateway, count=49):
    """What a new subscriber gets at once, by topic behind $SYS/broker/."""
    with raw.Connection(gateway.ports["mqtt"]) as link:
        link.connect("counting")
        assert link.subscribe(("$SYS/#", 0)) == [0]
        found = {}
        while len(found) < count:
            got = link.expect(raw.PUBLISH)
            found[got.topic.removeprefix("$SYS/broker/")] = got.payload.decode()
    return found


def test_the_counters_count(gateway):
    with raw.Connection(gateway.ports["mqtt"]) as link:
        link.connect("busy")
        assert link.subscribe(("t", 1)) == [1]
        for n in range(10):
            link.send(raw.publish("t", b"x" * 100, qos=1, packet_id=n + 1, retain=n == 0))
        seen = [link.receive().kind for _ in range(20)]
        assert seen.count(raw.PUBACK) == seen.count(raw.PUBLISH) == 10

        def is_counted(found):
            """The topics are told one after another: some of them may be of a tick before."""
            number = {name: float(value) for name, value in found.items() if value.isdecimal()}
            # CONNECT, SUBSCRIBE and ten publishes; CONNACK, SUBACK, ten PUBACKs and ten publishes.
            return (
                number["messages/received"] >= 12
                and number["messages/sent"] >= 22
                and number["publish/messages/received"] >= 10
                and number["publish/messages/sent"] >= 10
                and min(number["bytes/received"], number["bytes/sent"]) > 1000
                and number["retained messages/count"] >= 1
                and number["clients/connected"] >= 1
                and float(found["load/publish/received/1min"]) > 0
            )

        def counted():
            # A load is of what comes between two ticks.
            link.send(raw.publish("t", b"more", qos=1, packet_id=99))
            assert {link.receive().kind, link.receive().kind} == {raw.PUBACK, raw.PUBLISH}
            found = counters(gateway)
            return is_counted(found) and found

        found = until(counted, "the counters have caught up", 30, every=0.2)
    assert re.fullmatch(r"iotedge \d+\.\d+\.\d+", found["version"])
    assert re.fullmatch(r"\d+ seconds", found["uptime"])


def test_mosquitto_sub_is_kept_informed(gateway):
    argv = ["stdbuf", "-oL", "mosquitto_sub", "-h", "localhost", "-p", gateway.ports["mqtt"]]
    argv += ["-t", "$SYS/broker/uptime", "-F", "%r %p"]
    watcher = Process(argv, "mosquitto_sub")
    first = watcher.wait_for_line(r"^. (\d+) seconds")
    later = watcher.wait_for_line(r"^0 (\d+) seconds", since=1)
    assert int(later[1]) > int(first[1])
    latecomer = Process(argv, "who comes later")
    latecomer.wait_for_line(r"^1 \d+ seconds")
    for process in (watcher, latecomer):
        process.popen.terminate()


def test_policies_say_who_may_read_them(gateway):
    reader, nobody = gateway.cert("r", policy="reader"), gateway.cert("n", policy="nobody")
    client = Client("r", gateway.ports["mqtts"], identity=reader).connect()
    assert client.subscribe("$SYS/#", 0) == 0
    found = {client.next().topic for _ in range(5)}
    assert found == {
        f"$SYS/broker/clients/{name}"
        for name in ("connected", "disconnected", "total", "maximum", "expired")
    }
    client.disconnect()
    client = Client("n", gateway.ports["mqtts"], identity=nobody).connect()
    assert client.subscribe("$SYS/#", 0) == 128
    client.disconnect()


def test_nobody_but_the_broker_publishes_them(gateway):
    with raw.Connection(gateway.ports["mqtt"]) as link:
        link.connect("liar")
        link.send(raw.publish("$SYS/broker/uptime", b"0 seconds", qos=1, retain=True))
        assert link.closed() == []
    done = gateway.ctl("publish", "$SYS/broker/uptime", "0 seconds", "-r")
    assert done.returncode == 1 and "reserved" in done.stderr


def test_they_never_touch_the_disk_and_can_be_switched_off(gateway):
    assert counters(gateway)
    gateway.stop()
    database = sqlite3.connect(gateway.data_dir / "queue.db")
    assert database.execute("SELECT count(*) FROM retained").fetchone() == (0,)
    database.close()
    gateway.config["broker"] = {"sys_interval": "0s"}
    gateway.write()
    gateway.start()
    with raw.Connection(gateway.ports["mqtt"]) as link:
        link.connect("counting")
        assert link.subscribe(("$SYS/#", 0)) == [0]
        link.ping()
