"""Shadows and outages: what was said on either side while nobody could hear it, however long that
took and whatever was killed meanwhile; what a cloud does not take; two gateways below one cloud."""

import json
import random
import time

import pytest

from harness.clients import Client
from harness.daemon import allow
from harness.shadow_pair import Pair, delete, edge_of, state, update
from harness.wait import until

REQUESTS = "$aws/things/lamp/shadow/+"


def device(gateway, client_id="device"):
    return Client(client_id, gateway.ports["mqtt"]).connect()


def report(client, section, **leaves):
    document = json.dumps({"state": {section: leaves}})
    client.publish("$aws/things/lamp/shadow/update", document.encode())


def restart(gateway):
    gateway.kill()
    gateway.start()


@pytest.mark.parametrize("version", ["3.1.1", "5"])
def test_a_shadow_that_changed_a_thousand_times_goes_up_once(daemon, version):
    pair = Pair(daemon, upstream={"mqtt_version": version})
    update(pair.edge, {"reported": {"n": 0}})
    pair.same({"reported": {"n": 0}})
    pair.in_step()
    pair.offline()
    client = device(pair.edge)
    for n in range(1, 1001):
        report(client, "reported", n=n)
    watcher = device(pair.cloud, "watcher")
    watcher.subscribe(REQUESTS)
    pair.online()
    pair.same({"reported": {"n": 1000}})
    pair.in_step()
    asked = [message.topic.rsplit("/", 1)[1] for message in watcher.drain()]
    assert asked == ["get", "update"]
    version = json.loads(pair.cloud.ctl_ok("shadow", "get", "lamp", "--json"))["version"]
    assert version == 2


def test_catching_up_after_both_were_killed_in_an_outage(daemon):
    pair = Pair(daemon)
    update(pair.edge, {"desired": {"a": 0}, "reported": {"a": 0}})
    update(pair.edge, {"reported": {"old": 1}}, "cfg")
    pair.same({"reported": {"old": 1}}, "cfg")
    pair.in_step()
    pair.cloud.kill()
    update(pair.edge, {"reported": {"a": 1, "first": 1}})
    restart(pair.edge)
    update(pair.edge, {"reported": {"second": 1}})
    delete(pair.edge, "cfg")
    pair.edge.kill()
    # The cloud is back before the gateway, and says something of its own.
    pair.cloud.start()
    update(pair.cloud, {"desired": {"a": 2}})
    restart(pair.cloud)
    pair.edge.start()
    pair.same({"desired": {"a": 2}, "reported": {"a": 1, "first": 1, "second": 1}})
    pair.same(None, "cfg")
    pair.in_step()
    assert pair.edge.ctl_json("shadow", "conflicts") == [], "nobody has contradicted anybody"


def test_deletions_in_an_outage_arrive_and_what_is_made_again_stays(daemon):
    pair = Pair(daemon)
    names = ["net-here", "net-there", "net-both", "net-again", "net-again-there"]
    for name in names:
        update(pair.edge, {"reported": {"old": 1}}, name)
    for name in names:
        pair.same({"reported": {"old": 1}}, name)
    pair.in_step()
    pair.offline()
    delete(pair.edge, "net-here")
    delete(pair.cloud, "net-there")
    delete(pair.edge, "net-both")
    delete(pair.cloud, "net-both")
    delete(pair.edge, "net-again")
    update(pair.edge, {"reported": {"new": 1}}, "net-again")
    delete(pair.cloud, "net-again-there")
    update(pair.cloud, {"desired": {"new": 1}}, "net-again-there")
    restart(pair.edge)
    pair.online()
    pair.same(None, "net-here")
    pair.same(None, "net-there")
    pair.same(None, "net-both")
    pair.same({"reported": {"new": 1}}, "net-again")
    pair.same({"desired": {"new": 1}}, "net-again-there")
    pair.in_step()
    # Whoever made it again goes on where the deleted one was.
    for gateway in (pair.edge, pair.cloud):
        for name in ("net-again", "net-again-there"):
            done = gateway.ctl_ok("shadow", "get", "lamp", "--name", name, "--json")
            assert json.loads(done)["version"] >= 2
    restart(pair.edge)
    pair.edge.wait_link("cloud")
    pair.in_step()
    pair.same(None, "net-here")
    pair.same(None, "net-there")


def test_the_far_end_sees_no_more_requests_than_the_rate(daemon):
    pair = Pair(daemon, rate=10)
    pair.offline()
    for n in range(30):
        update(pair.edge, {"reported": {"n": n}}, f"net-{n}")
    watcher = device(pair.cloud, "watcher")
    watcher.subscribe("$aws/things/lamp/shadow/name/+/+")
    pair.online()
    times = []
    # Each is asked for, made, and compared once more without a request.
    while len(times) < 60:
        message = watcher.next()
        if message.topic.rsplit("/", 1)[1] in ("get", "update"):
            times.append(time.monotonic())
    pair.in_step()
    assert times[-1] - times[0] > 3.5, "60 requests, ten at once and ten a second"
    for n, since in enumerate(times):
        count = sum(1 for at in times[n:] if at - since <= 1.0)
        assert count <= 10 + 10 + 3, f"{count} in a second"


def test_what_the_cloud_finds_too_large_waits_and_is_told_once(daemon):
    pair = Pair(daemon, cloud={"shadow": {"max_document_bytes": "1KiB"}})
    update(pair.edge, {"reported": {"a": "x" * 2000}})
    entry = until(lambda: pair.edge.ctl_json("shadow", "conflicts"), "it is noted", every=0.1)
    assert "the cloud refuses it" in entry[0]["text"] and "(413)" in entry[0]["text"], entry
    update(pair.edge, {"reported": {"n": 1}}, "cfg")
    pair.same({"reported": {"n": 1}}, "cfg")
    status = pair.status()
    assert (status["refused"], status["shadows"] - status["in_step"]) == (1, 1), status
    # A new connection may be to one that takes more: it is tried again, and told no second time.
    pair.offline()
    pair.online()
    until(lambda: pair.status()["refusals"] > status["refusals"], "it is tried again", every=0.1)
    assert len(pair.edge.ctl_json("shadow", "conflicts")) == 1
    update(pair.edge, {"reported": {"a": "short"}})
    pair.same({"reported": {"a": "short"}})
    pair.in_step()


def test_a_cloud_without_a_policy_for_shadows_keeps_no_message_back(daemon):
    policy = allow(
        (["iot:Connect"], ["arn:aws:iot:*:*:client/edge"]),
        (["iot:Publish"], ["arn:aws:iot:*:*:topic/up/*"]),
        (["iot:Subscribe", "iot:Receive"], ["*"]),
    )
    cloud = daemon(policies={"edge": policy}).start()
    watcher = device(cloud, "watcher")
    watcher.subscribe("up/#")
    route = {"direction": "out", "name": "up", "filter": "up/#"}
    edge = edge_of(cloud, daemon, upstream={"route": [route]})
    client = device(edge)
    update(edge, {"reported": {"x": 1}})
    sent = [f"{n}".encode() for n in range(200)]
    for payload in sent:
        client.publish("up/x", payload)
        time.sleep(0.02)
    got = set()
    while len(got) < len(sent):
        got.add(watcher.next(deadline=30).payload)
    edge.log_has("shadows wait, so that routes go on")
    edge.wait_link("cloud")
    connects = edge.link("cloud")["connects"]
    client.publish("up/x", b"last")
    while watcher.next(deadline=30).payload != b"last":
        pass
    assert edge.link("cloud")["connects"] == connects, "the link is left alone"
    assert edge.ctl_json("bridge", "dead-letters", "list") == []


def test_two_gateways_and_their_cloud_agree(daemon):
    pair = Pair(daemon)
    second = edge_of(pair.cloud, daemon, "edge2")
    gateways = [pair.edge, second, pair.cloud]
    clients = [device(gateway) for gateway in gateways]
    dice = random.Random(7)
    last = {}
    for round in range(60):
        who = dice.randrange(3)
        section = dice.choice(["desired", "reported"])
        last[section, f"of-{who}"] = round
        report(clients[who], section, shared=round, **{f"of-{who}": round})
        if round == 30:
            for gateway in (pair.edge, second):
                gateway.ctl_ok("bridge", "pause", "cloud")
        if round == 45:
            for gateway in (pair.edge, second):
                gateway.ctl_ok("bridge", "resume", "cloud")

    def agree():
        states = [state(gateway) for gateway in gateways]
        return states[0] == states[1] == states[2] and states[0]

    agreed = until(agree, "all three have the same", deadline=30, every=0.1)
    # What one alone says is what it has said last.
    for (section, leaf), value in last.items():
        assert agreed[section][leaf] == value, (leaf, agreed)

    def sent():
        return [gateway.link("cloud")["shadows"]["sent"] for gateway in (pair.edge, second)]

    def rest():
        links = [gateway.link("cloud")["shadows"] for gateway in (pair.edge, second)]
        return all(link["in_step"] == link["shadows"] for link in links)

    until(rest, "both are in step", every=0.1)
    before = sent()
    report(clients[2], "desired", shared="end")
    until(lambda: all(state(g)["desired"]["shared"] == "end" for g in gateways), "it arrives", every=0.1)
    until(rest, "both are in step", every=0.1)
    assert sent() == before, "what came from the cloud does not go back"
    report(clients[0], "reported", shared="here")
    until(lambda: all(state(g)["reported"]["shared"] == "here" for g in gateways), "it arrives", every=0.1)
    until(rest, "both are in step", every=0.1)
    assert sent() == [before[0] + 1, before[1]]


def test_wildcards_bring_shadows_of_which_nobody_here_has_heard(daemon):
    things = "$aws/things/*"
    policy = allow(
        (["iot:Connect"], ["arn:aws:iot:*:*:client/edge"]),
        (["iot:Publish", "iot:Receive"], [f"arn:aws:iot:*:*:topic/{things}"]),
        (["iot:Subscribe"], [f"arn:aws:iot:*:*:topicfilter/{things}"]),
    )
    select = [{"thing": "la*", "named": ["net-*"]}]
    pair = Pair(daemon, policy=policy, select=select, wildcard=True)
    update(pair.edge, {"reported": {"here": 1}})
    pair.same({"reported": {"here": 1}})
    update(pair.cloud, {"desired": {"there": 1}}, "net-new")
    pair.same({"desired": {"there": 1}}, "net-new")
    update(pair.cloud, {"desired": {"there": 1}}, "other")
    pair.in_step()
    assert state(pair.edge, "other") is None
    assert pair.cloud.ctl_json("status")["subscriptions"] == 2


def test_a_pattern_of_things_finds_those_that_come_later(daemon):
    select = [{"thing": "l*", "named": ["net-*"]}]
    pair = Pair(daemon, select=select, wildcard=False)
    assert pair.status()["shadows"] == 0
    update(pair.edge, {"reported": {"n": 1}}, "net-late")
    pair.same({"reported": {"n": 1}}, "net-late")
    update(pair.edge, {"reported": {"n": 1}}, "other")
    pair.in_step()
    assert state(pair.cloud, "other") is None
