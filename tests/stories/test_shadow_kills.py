"""`kill -9` in the midst of thousands of shadow updates."""

import json
import os
import random

import pytest

from harness import raw

UPDATES = 10_000
THINGS = 40
KILLS = 6
# Unanswered ones: fewer for each thing than shadow.max_in_flight.
AHEAD = THINGS * 8


def name(thing):
    return f"thing-{thing}"


class Fleet:
    """What was asked of each shadow, and what the gateway has said of it."""

    def __init__(self):
        self.asked = 0
        self.answered = 0
        self.version = [0] * THINGS
        self.number = [-1] * THINGS
        self.last_asked = [-1] * THINGS

    def run(self, link, until):
        """Updates until so many are accepted, or the gateway is gone."""
        link.connect("fleet")
        assert link.subscribe(("$aws/things/+/shadow/update/+", 1)) == [1]
        open_requests, before = 0, self.answered
        while self.answered < until:
            while open_requests < AHEAD and self.asked < UPDATES + before:
                link.send(self.next_update())
                open_requests += 1
            packet = link.receive()
            if packet.kind != raw.PUBLISH:
                continue
            link.send(raw.puback(packet.packet_id))
            _, _, thing, _, _, answer = packet.topic.split("/")
            if answer == "accepted":
                self.accepted(int(thing.removeprefix("thing-")), json.loads(packet.payload))
                self.answered += 1
                open_requests -= 1
            assert answer != "rejected", packet.payload

    def next_update(self):
        thing = self.asked % THINGS
        number = self.asked
        self.asked += 1
        self.last_asked[thing] = number
        state = {"reported": {"n": number, f"k{number % 7}": {"deep": [number]}}}
        topic = f"$aws/things/{name(thing)}/shadow/update"
        # The packet id may come again: the gateway acknowledges each before the second use.
        body = json.dumps({"state": state}).encode()
        return raw.publish(topic, body, qos=1, packet_id=number % 60_000 + 1)

    def accepted(self, thing, answer):
        assert answer["version"] > self.version[thing], "versions only grow"
        self.version[thing] = answer["version"]
        self.number[thing] = answer["state"]["reported"]["n"]


def stamped(state, metadata):
    """Each leaf has its timestamp, and nothing else has one."""
    if isinstance(state, dict):
        return state.keys() == metadata.keys() and all(
            stamped(value, metadata[key]) for key, value in state.items()
        )
    if isinstance(state, list):
        return len(state) == len(metadata) and all(map(stamped, state, metadata))
    return metadata.keys() == {"timestamp"}


def check(gateway, fleet):
    """All that was accepted is there, whole; more than that only if it was asked."""
    for thing in range(THINGS):
        document = gateway.ctl_json("shadow", "get", name(thing))
        number = document["state"]["reported"]["n"]
        assert document["version"] >= fleet.version[thing]
        assert fleet.number[thing] <= number <= fleet.last_asked[thing]
        assert document["state"]["reported"][f"k{number % 7}"] == {"deep": [number]}
        assert stamped(document["state"], document["metadata"])
        # Accepted, perhaps, without that its answer came through.
        fleet.version[thing] = document["version"]
        fleet.number[thing] = number


@pytest.mark.parametrize("sync", ["full", "50ms"])
def test_every_accepted_update_survives(daemon, sync):
    seed = int(os.environ.get("SEED", random.randrange(1 << 30)))
    print("seed", seed)
    chance = random.Random(seed)
    points = sorted(chance.sample(range(200, UPDATES - 200), KILLS))
    gateway = daemon(config={"store": {"sync": sync}}).start()
    fleet = Fleet()
    for point in points:
        with raw.Connection(gateway.ports["mqtt"]) as link:
            fleet.run(link, point)
            gateway.kill()
        gateway.start()
        check(gateway, fleet)
    with raw.Connection(gateway.ports["mqtt"]) as link:
        fleet.run(link, UPDATES)
    check(gateway, fleet)
