"""What routes of an upstream carry, how long, in what order, and what they keep aside."""

import gzip
import json
import queue

import paho.mqtt.client as paho
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from harness.clients import Client
from harness.daemon import allow
from harness.traffic import Collector
from harness.wait import until

OUT = {"direction": "out", "filter": "telemetry/#"}


def upstream_of(port, *routes, **more):
    return [{"name": "cloud", "url": f"mqtt://127.0.0.1:{port}", "client_id": "gw", "keep_alive": 5,
             "route": list(routes), **more}]


def balanced(route):
    return route["accepted"] == route["delivered"] + route["queued"] + sum(route["dropped"].values())


class Five:
    """A version 5 client that hands out what comes."""

    def __init__(self, client_id, port):
        self.messages, self._acks, up = queue.SimpleQueue(), queue.SimpleQueue(), queue.SimpleQueue()
        self.paho = paho.Client(
            paho.CallbackAPIVersion.VERSION2, client_id, protocol=paho.MQTTv5,
            reconnect_on_failure=False,
        )
        self.paho.on_connect = lambda *_: up.put(True)
        self.paho.on_message = lambda _c, _u, message: self.messages.put(message)
        self.paho.on_publish = lambda _c, _u, _mid, code, _p: self._acks.put(code.value)
        self.paho.on_subscribe = lambda *_: up.put(True)
        self.paho.connect("127.0.0.1", port)
        self.paho.loop_start()
        self._up = up
        up.get(timeout=10)

    def subscribe(self, filter):
        self.paho.subscribe(filter, 1)
        self._up.get(timeout=10)
        return self

    def publish(self, topic, payload, expiry=None, user=()):
        """The reason code of its PUBACK."""
        properties = Properties(PacketTypes.PUBLISH)
        if expiry:
            properties.MessageExpiryInterval = expiry
        for pair in user:
            properties.UserProperty = pair
        self.paho.publish(topic, payload, 1, properties=properties)
        return self._acks.get(timeout=10)

    def next(self):
        return self.messages.get(timeout=15)

    def close(self):
        self.paho.disconnect()
        self.paho.loop_stop()


def test_a_version_5_publisher_hears_that_a_queue_is_full(daemon, upstream):
    route = {**OUT, "on_full": "reject", "max_messages": 3}
    gateway = daemon(config={"upstream": upstream_of(upstream().port, route)}).start()
    near = Five("near", gateway.ports["mqtt"])
    codes = [near.publish("telemetry/x", b"%d" % n) for n in range(5)]
    assert [code for code in codes if code >= 0x80] == [0x97, 0x97], codes
    assert balanced(gateway.route("cloud")) and gateway.route("cloud")["queued"] == 3
    near.close()


def test_what_waits_too_long_is_counted_and_gone_over_a_restart(daemon, upstream):
    broker = upstream()
    gateway = daemon(config={"upstream": upstream_of(broker.port, {**OUT, "ttl": "2s"})}).start()
    near = Client("near", gateway.ports["mqtt"]).connect()
    for n in range(5):
        near.publish("telemetry/old", b"%d" % n)
    gateway.restart()
    route = until(
        lambda: (r := gateway.route("cloud"))["queued"] == 0 and r, "all have expired", every=0.1
    )
    assert route["dropped"] == {"expired": 5} and balanced(route), route
    broker.start()
    collector = Collector("collector", broker.port, "telemetry/#").start()
    gateway.wait_link("cloud")
    near = Client("near2", gateway.ports["mqtt"]).connect()
    near.publish("telemetry/new", b"{}")
    collector.wait_count(1, 20)
    assert [topic for topic, _ in collector.distinct()] == ["telemetry/new"]
    collector.stop()


def test_version_5_properties_go_both_ways(daemon, upstream):
    broker = upstream().start()
    routes = [OUT, {"direction": "in", "filter": "commands/#"}]
    gateway = daemon(config={"upstream": upstream_of(broker.port, *routes, mqtt_version="5")}).start()
    gateway.wait_link("cloud")
    far = Five("far", broker.port).subscribe("telemetry/#")
    near = Five("near", gateway.ports["mqtt"]).subscribe("commands/#")
    near.publish("telemetry/x", b"up", expiry=600, user=[("unit", "C")])
    came = far.next()
    assert ("unit", "C") in came.properties.UserProperty
    assert 590 <= came.properties.MessageExpiryInterval <= 600
    far.publish("commands/x", b"down", expiry=600, user=[("who", "me")])
    came = near.next()
    assert came.payload == b"down" and ("who", "me") in came.properties.UserProperty
    assert came.properties.MessageExpiryInterval <= 600
    near.close()
    far.close()


def test_what_an_upstream_refuses_is_kept_listed_and_sent_again(daemon):
    """The upstream is a gateway whose policy allows one topic and not the other."""
    may = allow((["iot:Connect", "iot:Subscribe", "iot:Receive"], ["*"]),
                (["iot:Publish"], ["arn:aws:iot:*:*:topic/telemetry/good"]))
    far = daemon(policies={"open": may}).start()
    config = upstream_of(far.ports["mqtt"], OUT, mqtt_version="5")
    gateway = daemon(config={"upstream": config}).start()
    gateway.wait_link("cloud")
    listener = Client("listener", far.ports["mqtt"]).connect()
    listener.subscribe("#", 1)
    near = Client("near", gateway.ports["mqtt"]).connect()
    near.publish("telemetry/bad", b"refused")
    near.publish("telemetry/good", b"taken")
    assert listener.next()[:2] == ("telemetry/good", b"taken")
    letters = until(lambda: gateway.ctl_json("bridge", "dead-letters", "list"), "it is kept", every=0.1)
    assert len(letters) == 1 and letters[0]["topic"] == "telemetry/bad", letters
    assert "0x87" in letters[0]["reason"], letters
    route = gateway.route("cloud")
    assert route["dropped"] == {"upstream-refused": 1} and balanced(route), route
    (waiting,) = gateway.ctl_json("bridge", "queue", "--upstream", "cloud")
    assert waiting["dead_letters"] == 1 and waiting["queued"] == 0, waiting

    # Its policy is mended.
    far.stop()
    far.policies["open"] = allow((["iot:*"], ["*"]))
    far.write()
    far.start()
    gateway.wait_link("cloud")
    listener = Client("listener", far.ports["mqtt"]).connect()
    listener.subscribe("#", 1)
    gateway.ctl_ok("bridge", "dead-letters", "replay", "--all")
    assert listener.next()[:2] == ("telemetry/bad", b"refused")
    assert gateway.ctl_json("bridge", "dead-letters", "list") == []
    route = until(lambda: (r := gateway.route("cloud"))["queued"] == 0 and r, "it is gone", every=0.1)
    assert balanced(route) and route["delivered"] == 2, route


def test_the_queue_shows_what_waits_and_how_long(daemon, upstream):
    gateway = daemon(config={"upstream": upstream_of(upstream().port, OUT)}).start()
    near = Client("near", gateway.ports["mqtt"]).connect()
    for n in range(4):
        near.publish(f"telemetry/{n}", b"12345")
    (waiting,) = gateway.ctl_json("bridge", "queue", "--peek", "2")
    assert waiting["queued"] == 4 and waiting["oldest_at"] > 0, waiting
    assert [head["topic"] for head in waiting["heads"]] == ["telemetry/0", "telemetry/1"]
    assert waiting["heads"][0]["bytes"] == 5 and waiting["heads"][0]["client_id"] == "near"
    assert "telemetry/0" in gateway.ctl_ok("bridge", "queue", "--peek", "1")
    assert gateway.ctl("bridge", "queue", "--upstream", "nowhere").returncode == 1


def joined(daemon, version, routes):
    """Two gateways that each have the other as their upstream."""
    one, other = daemon(), daemon()
    for here, there, name, peer in ((one, other, "one", "other"), (other, one, "other", "one")):
        here.config["upstream"] = [{
            "name": "peer", "url": f"mqtt://127.0.0.1:{there.ports['mqtt']}", "client_id": name,
            "keep_alive": 5, "mqtt_version": version, "route": routes(peer),
        }]
        here.write()
        here.start()
    for gateway in (one, other):
        gateway.wait_link("peer", deadline=30)
    clients = [Client("watcher", g.ports["mqtt"]).connect() for g in (one, other)]
    for client in clients:
        client.subscribe("shared/#", 1)
    return one, other, *clients


@pytest.mark.parametrize("version", ["3.1.1", "5"])
def test_gateways_that_send_each_other_the_same_topics_send_nothing_back(daemon, version):
    def routes(peer):
        named = {"not_from": [peer]} if version == "3.1.1" else {}
        return [{"direction": "out", "filter": "shared/#", **named}]

    one, other, near, far = joined(daemon, version, routes)
    for n in range(20):
        near.publish("shared/a", b"%d" % n)
    assert [m.payload for m in far.collect(20)] == [b"%d" % n for n in range(20)]
    # What would come back has come before what was sent after it.
    far.publish("shared/end", b"")
    seen = [m.payload for m in near.until_topic("shared/end") if m.topic == "shared/a"]
    assert seen == [b"%d" % n for n in range(20)]


def test_gateways_that_bridge_both_ways_over_version_5_end_every_circle(daemon):
    def routes(_):
        return [{"direction": way, "filter": "shared/#"} for way in ("out", "in")]

    one, other, near, far = joined(daemon, "5", routes)
    near.publish("shared/a", b"x")
    far.until_topic("shared/a")
    # It comes to rest: nothing more comes in anywhere.
    def taken():
        ways = ("out", "in")
        return [g.route("peer", way)["accepted"] for g in (one, other) for way in ways]

    seen = []
    until(lambda: seen.append(taken()) or seen[-20:] == [seen[-1]] * 20, "it ends", every=0.05)
    assert max(seen[-1]) <= 4, seen[-1]


@pytest.mark.parametrize("version", ["3.1.1", "5"])
def test_one_link_both_ways_brings_each_message_once(daemon, upstream, version):
    broker = upstream().start()
    routes = [{"direction": way, "filter": "shared/#"} for way in ("out", "in")]
    config = upstream_of(broker.port, *routes, mqtt_version=version)
    gateway = daemon(config={"upstream": config}).start()
    gateway.wait_link("cloud")
    far = Client("far", broker.port).connect()
    near = Client("near", gateway.ports["mqtt"]).connect()
    far.subscribe("shared/#", 1)
    near.subscribe("shared/#", 1)
    for n in range(20):
        near.publish("shared/a", b"%d" % n)
    far.collect(20)
    far.publish("shared/end", b"")
    seen = [m.payload for m in near.until_topic("shared/end") if m.topic == "shared/a"]
    assert seen == [b"%d" % n for n in range(20)]


def test_topics_of_the_cloud_pass_through_with_any_payload(daemon, upstream):
    broker = upstream().start()
    routes = [
        {"direction": "out", "filter": "$aws/things/+/jobs/+/update"},
        {"direction": "out", "filter": "$aws/alexa/ais/#"},
        {"direction": "in", "filter": "$aws/things/+/jobs/notify-next"},
    ]
    gateway = daemon(config={"upstream": upstream_of(broker.port, *routes)}).start()
    gateway.wait_link("cloud")
    far = Client("far", broker.port).connect()
    near = Client("near", gateway.ports["mqtt"]).connect()
    far.subscribe("$aws/things/#", 1)
    far.subscribe("$aws/alexa/#", 1)
    near.subscribe("$aws/things/pump/jobs/notify-next", 1)
    binary = bytes(range(256)) * 16
    near.publish("$aws/alexa/ais/v1/9/microphone", binary)
    assert far.next()[:2] == ("$aws/alexa/ais/v1/9/microphone", binary)
    near.publish("$aws/things/pump/jobs/j1/update", b'{"status":"SUCCEEDED"}')
    assert far.next().topic == "$aws/things/pump/jobs/j1/update"
    far.publish("$aws/things/pump/jobs/notify-next", b'{"execution":{}}')
    assert near.next()[:2] == ("$aws/things/pump/jobs/notify-next", b'{"execution":{}}')


def test_payloads_are_packed_on_the_way(daemon, upstream):
    broker = upstream().start()
    out = {**OUT, "compress": "gzip", "remote_topic": "site/${topic(2)}"}
    back = {"direction": "in", "filter": "site/+", "local_topic": "back/${topic(2)}", "decompress": True}
    sender = daemon(config={"upstream": upstream_of(broker.port, out)}).start()
    receiver = daemon(config={"upstream": [{**upstream_of(broker.port, back)[0], "client_id": "two"}]})
    receiver.start()
    for gateway in (sender, receiver):
        gateway.wait_link("cloud")
    far = Client("far", broker.port).connect()
    far.subscribe("site/#", 1)
    end = Client("end", receiver.ports["mqtt"]).connect()
    end.subscribe("back/#", 1)
    near = Client("near", sender.ports["mqtt"]).connect()
    text = b"reading;" * 500
    near.publish("telemetry/d1", text)
    packed = far.next()
    assert packed.topic == "site/d1" and gzip.decompress(packed.payload) == text
    assert end.next()[:2] == ("back/d1", text)


def test_fresh_messages_pass_a_backlog_when_the_route_says_so(daemon, upstream):
    broker = upstream()
    route = {**OUT, "order": "topic", "fresh_share": 90}
    config = upstream_of(broker.port, route)
    gateway = daemon(config={"upstream": config, "broker": {"max_inflight": 1}}).start()
    near = Client("near", gateway.ports["mqtt"]).connect()
    backlog = 3000
    for n in range(backlog):
        near.publish("telemetry/slow", b'{"n": %d}' % n)
    collector = Collector("collector", broker.port, "telemetry/#")
    broker.start()
    collector.start()
    collector.wait_count(5, 30)
    near.publish("telemetry/alarm", b"{}")
    collector.wait_count(backlog + 1, 60)
    messages = collector.distinct()
    at = [topic for topic, _ in messages].index("telemetry/alarm")
    assert at < backlog, "the alarm came last"
    slow = [json.loads(payload)["n"] for topic, payload in messages if topic == "telemetry/slow"]
    assert slow == list(range(backlog))
    collector.stop()


def kept(port, filter):
    """What a new subscriber is given as retained, by topic; a last publish ends the wait."""
    client = Client("looker", port).connect()
    client.subscribe(filter)
    client.subscribe("end/#")
    client.publish("end/x", b"")
    found = {m.topic: m.payload for m in client.until_topic("end/x")[:-1] if m.retain}
    client.disconnect()
    return found


@pytest.mark.parametrize("version, restart", [("3.1.1", False), ("3.1.1", True), ("5", False)])
def test_state_on_both_sides_ends_up_the_same_after_an_outage(daemon, upstream, version, restart):
    broker = upstream().start()
    both = [{"direction": way, "filter": "state/#", "name": way} for way in ("out", "in")]
    config = {"upstream": upstream_of(broker.port, *both, mqtt_version=version)}
    gateway = daemon(config=config).start()
    gateway.wait_link("cloud")
    near, far = Client("near", gateway.ports["mqtt"]).connect(), Client("far", broker.port).connect()
    for topic in ("lamp", "blind", "door", "idle"):
        near.publish(f"state/{topic}", b"old", retain=True)
    until(lambda: len(kept(broker.port, "state/#")) == 4, "the state is upstream", 15)
    gateway.ctl_ok("bridge", "pause", "cloud")
    gateway.wait_link("cloud", "paused")
    near.publish("state/lamp", b"new", retain=True)
    near.publish("state/blind", b"", retain=True)
    far.publish("state/door", b"of another", retain=True)
    seen = Client("seen", gateway.ports["mqtt"]).connect()
    seen.subscribe("state/#")
    assert len(seen.collect(3)) == 3, "what is retained"
    if restart:
        gateway.restart()
    gateway.ctl_ok("bridge", "resume", "cloud")
    gateway.wait_link("cloud")
    want = {"state/lamp": b"new", "state/door": b"of another", "state/idle": b"old"}
    until(lambda: kept(broker.port, "state/#") == want, "upstream has it", 15)
    until(lambda: kept(gateway.ports["mqtt"], "state/#") == want, "the gateway has it", 15)
    if not restart:
        # As a message that the session upstream has kept, and as what is retained.
        news = {(message.topic, message.payload) for message in seen.drain()}
        assert news == {("state/door", b"of another")}, "nothing else has changed"
        near.disconnect()
        seen.disconnect()
    far.disconnect()


def test_a_burst_into_a_full_queue_that_drops_the_oldest_keeps_the_newest(daemon, upstream):
    route = {**OUT, "on_full": "drop-oldest", "max_messages": 5}
    broker = upstream().start()
    config = {"upstream": upstream_of(broker.port, route), "store": {"sync": "50ms"}}
    gateway = daemon(config=config).start()
    gateway.wait_link("cloud")
    gateway.ctl_ok("bridge", "pause", "cloud")
    gateway.wait_link("cloud", "paused")
    near, far = Client("near", gateway.ports["mqtt"]).connect(), Client("far", broker.port).connect()
    far.subscribe("telemetry/#")
    # All at once: their commits are due together.
    sent = [near._paho.publish("telemetry/x", b"%d" % n, 1) for n in range(15)]
    for one in sent:
        one.wait_for_publish(10)
    status = gateway.route("cloud")
    assert status["dropped"] == {"queue-full": 10} and balanced(status), status
    gateway.ctl_ok("bridge", "resume", "cloud")
    assert [message.payload for message in far.collect(5)] == [b"%d" % n for n in range(10, 15)]
    near.disconnect()
    far.disconnect()


def test_what_waits_for_a_route_that_is_taken_out_is_counted(daemon, upstream):
    gateway = daemon(config={"upstream": upstream_of(upstream().port, OUT)}).start()
    near = Client("near", gateway.ports["mqtt"]).connect()
    for n in range(3):
        near.publish("telemetry/x", b"%d" % n)
    gateway.stop()
    gateway.config["upstream"][0]["route"][0] = {**OUT, "filter": "other/#"}
    gateway.write()
    gateway.start()
    assert gateway.ctl_json("status")["dropped"]["taker-removed"] == 3
