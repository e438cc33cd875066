"""A data directory that was copied, as a backup is restored or a card is cloned: two gateways of one past."""

import json
import shutil

from far.gateway import config, publish
from harness import raw


def test_a_copied_gateway_is_another_one(daemon, far, mosquitto):
    """What one sends through a common upstream is no loop for the other, and keys are not given twice."""
    upstream = mosquitto().start()
    route = {"filter": "t/#", "qos": 1}

    def joined(name):
        routes = [{**route, "direction": "out", "idempotency_key": "json:key"}, {**route, "direction": "in"}]
        return daemon(config=config(upstream.port, *routes, client_id=name, mqtt_version="5"))

    one = joined("one").start()
    one.wait_link("cloud")
    one.stop()
    other = joined("other")
    shutil.copytree(one.data_dir, other.data_dir)
    one.start()
    other.start()
    for gateway in (one, other):
        gateway.wait_link("cloud")
    with raw.Connection(one.ports["mqtt"]) as near, raw.Connection(other.ports["mqtt"]) as beyond:
        near.connect("watcher")
        near.subscribe(("t/#", 1))
        beyond.connect("watcher")
        beyond.subscribe(("t/#", 1))
        publish(one, [("t/from-one", b'{"n":1}')], name="p1")
        assert near.expect(raw.PUBLISH).topic == "t/from-one"
        first = beyond.expect(raw.PUBLISH, 20)
        assert first.topic == "t/from-one"
        publish(other, [("t/from-other", b'{"n":2}')], name="p2")
        back = near.expect(raw.PUBLISH, 20)
        assert back.topic == "t/from-other"
    keys = [json.loads(packet.payload)["key"].rsplit("-", 1)[0] for packet in (first, back)]
    assert keys[0] != keys[1], keys
    assert not other.route("cloud", "in")["dropped"]
    assert "a name of its own now" in other.process.log and "a name of its own now" not in one.process.log
    name = keys[1]
    other.restart()
    other.wait_link("cloud")
    with raw.Connection(one.ports["mqtt"]) as near:
        near.connect("watcher")
        near.subscribe(("t/#", 1))
        publish(other, [("t/again", b"{}")], name="p2")
        again = near.expect(raw.PUBLISH, 20)
        assert json.loads(again.payload)["key"].startswith(name), "it keeps the new one"
