"""Workers that share a stream of jobs, with the clients that people have."""

import collections
import queue

import paho.mqtt.client as paho
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from harness import raw
from harness.clients import Client
from harness.daemon import ALLOW_ALL, allow
from harness.process import Process
from harness.traffic import Publisher
from harness.wait import until

COUNT = 900
JOBS = "$share/workers/jobs/#"


class Sub:
    """mosquitto_sub as a worker with a session; it comes back by itself."""

    def __init__(self, gateway, name, version, *more):
        port = gateway.ports["mqtt"]
        argv = ["stdbuf", "-oL", "mosquitto_sub", "-h", "localhost", "-p", port, "-i", name,
                "-V", version, "-q", 1, "-c", "-t", JOBS, *more]
        self.process = Process(argv, name)

    def jobs(self):
        return [int(line) for line in self.process.lines if line.isdigit()]


class Paho:
    """A version 5 worker of paho's whose session stays for an hour; it comes back by itself."""

    def __init__(self, gateway, name):
        self._jobs = []
        self._paho = paho.Client(paho.CallbackAPIVersion.VERSION2, name, protocol=paho.MQTTv5)
        self._paho.reconnect_delay_set(1, 1)
        self._paho.on_connect = self._on_connect
        self._paho.on_message = lambda c, u, message: self._jobs.append(int(message.payload))
        self._granted = queue.SimpleQueue()
        self._paho.on_subscribe = lambda c, u, mid, codes, p: self._granted.put(codes[0].value)
        stays = Properties(PacketTypes.CONNECT)
        stays.SessionExpiryInterval = 3600
        self._paho.connect("localhost", gateway.ports["mqtt"], clean_start=False, properties=stays)
        self._paho.loop_start()
        assert self._granted.get(timeout=10) == 1

    def _on_connect(self, client, _data, flags, _code, _properties):
        if not flags.session_present:
            client.subscribe(JOBS, 1)

    def jobs(self):
        return list(self._jobs)

    def leave(self):
        self._paho.disconnect()
        self._paho.loop_stop()


@pytest.mark.slow
def test_workers_share_every_job_over_kills(daemon, chance):
    gateway = daemon(policies={"all": ALLOW_ALL}).start()
    device = gateway.cert("source", policy="all")
    mosquittos = [Sub(gateway, "m5", "mqttv5", "-x", 3600), Sub(gateway, "m311", "mqttv311")]
    workers = [*mosquittos, Paho(gateway, "paho")]
    until(lambda: gateway.ctl_json("status")["subscriptions"] == 3, "all workers are there")
    publisher = Publisher(
        "source", gateway.ports["mqtts"], device, "jobs/t",
        [b"%d" % n for n in range(COUNT)], per_second=400,
    ).start()
    publisher.wait_acked(200, deadline=30)
    shares = [len(worker.jobs()) for worker in workers]
    assert min(shares) > 40, f"each has its part: {shares}"
    for low in (200, 500):
        publisher.wait_acked(low + chance.randrange(100), deadline=30)
        gateway.kill()
        gateway.start()
    publisher.join(60)
    publisher.stop()

    def missing():
        return set(range(COUNT)) - {job for worker in workers for job in worker.jobs()}

    until(lambda: not missing(), "every acknowledged job has come", 30)
    times = collections.Counter(job for worker in workers for job in worker.jobs())
    again = sum(count - 1 for count in times.values())
    print(f"{again} jobs came again; {[len(worker.jobs()) for worker in workers]}")
    assert again <= 2 * (3 + 1) * 100, "only what was not acknowledged at a kill comes again"
    until(lambda: gateway.ctl_json("status")["queued"] == 0, "nothing waits")
    workers[2].leave()
    gateway.stop()


def test_what_nobody_takes_waits_for_whoever_comes(gateway):
    with raw.Connection(gateway.ports["mqtt"]) as worker:
        worker.connect("worker", clean=False)
        assert worker.subscribe((JOBS, 1)) == [1]
    source = Client("source", gateway.ports["mqtt"]).connect()
    for n in range(5):
        source.publish("jobs/t", b"%d" % n)
    status = gateway.ctl_json("status")
    assert (status["subscriptions"], status["queued"]) == (1, 5)
    gateway.kill()
    gateway.start()
    assert gateway.ctl_json("status")["queued"] == 5
    helper = Client("helper", gateway.ports["mqtt"]).connect()
    assert helper.subscribe(JOBS) == 1
    assert [message.payload for message in helper.collect(5)] == [b"%d" % n for n in range(5)]
    until(lambda: gateway.ctl_json("status")["queued"] == 0, "nothing waits")
    helper.unsubscribe(JOBS)
    with raw.Connection(gateway.ports["mqtt"]) as worker:
        assert worker.connect("worker", clean=False).session_present
        worker.ping()
        assert gateway.ctl_json("status")["subscriptions"] == 1


def test_a_policy_names_the_group(daemon):
    policy = allow(
        (["iot:Connect"], ["*"]),
        (["iot:Subscribe"], ["arn:aws:iot:*:*:topicfilter/$share/workers/jobs/*"]),
        (["iot:Receive"], ["arn:aws:iot:*:*:topic/jobs/*"]),
    )
    gateway = daemon(policies={"worker": policy, "all": ALLOW_ALL}).start()
    identity = gateway.cert("worker", policy="worker")
    worker = Client("worker", gateway.ports["mqtts"], identity).connect()
    assert worker.subscribe("$share/workers/jobs/#") == 1
    assert worker.subscribe("$share/others/jobs/#") == 128
    assert worker.subscribe("jobs/#") == 128
    # No shared subscription, and to 3.1.1 a filter all the same: refused alone.
    assert worker.subscribe("$share/workers") == 128
    source = Client("source", gateway.ports["mqtt"]).connect()
    source.publish("jobs/1", b"x")
    assert worker.next().payload == b"x"
