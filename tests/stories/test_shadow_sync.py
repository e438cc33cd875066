"""Shadows are kept together with those of the cloud: another gateway that plays it, over TLS, with a
certificate and a policy."""

import pytest

from harness.shadow_pair import Pair, delete, state, update
from harness.wait import until


@pytest.fixture
def pair(daemon):
    return Pair(daemon)


def test_what_one_side_says_the_other_has(pair):
    update(pair.edge, {"reported": {"color": "red"}})
    pair.same({"reported": {"color": "red"}})
    update(pair.cloud, {"desired": {"color": "green"}})
    pair.same({"desired": {"color": "green"}, "reported": {"color": "red"}})
    update(pair.edge, {"reported": {"color": "green"}})
    pair.same({"desired": {"color": "green"}, "reported": {"color": "green"}})
    for name in ("cfg", "net-1"):
        update(pair.edge, {"reported": {"name": name}}, name)
        pair.same({"reported": {"name": name}}, name)
    update(pair.edge, {"reported": {"x": 1}}, "other")
    pair.in_step()
    assert state(pair.cloud, "other") is None, "it is not selected"
    assert pair.edge.ctl_json("shadow", "conflicts") == []
    # Nothing goes to and fro.
    sent = pair.status()["sent"]
    update(pair.edge, {"reported": {"color": "blue"}})
    pair.same({"desired": {"color": "green"}, "reported": {"color": "blue"}})
    pair.in_step()
    assert pair.status()["sent"] == sent + 1


def test_both_change_in_an_outage(pair):
    update(pair.edge, {"desired": {"a": 0}, "reported": {"a": 0}})
    pair.same({"desired": {"a": 0}, "reported": {"a": 0}})
    pair.in_step()
    pair.offline()
    update(pair.edge, {"desired": {"a": 1, "here": 1}, "reported": {"a": 1}})
    update(pair.cloud, {"desired": {"a": 2, "there": 1}, "reported": {"a": 2}})
    pair.online()
    pair.same({"desired": {"a": 2, "here": 1, "there": 1}, "reported": {"a": 1}})
    [entry] = until(lambda: pair.edge.ctl_json("shadow", "conflicts"), "it is noted", every=0.1)
    assert entry["shadow"] == "lamp"
    assert [(leaf["path"], leaf["local_won"]) for leaf in entry["leaves"]] == [
        ("desired.a", False), ("reported.a", True),
    ]
    # The journal outlives a kill; what the user sees says who lost what.
    pair.edge.kill()
    pair.edge.start()
    text = pair.edge.ctl_ok("shadow", "conflicts")
    assert "desired.a: 2 of the cloud stands, 1 is lost" in str(text), text
    pair.edge.ctl_ok("shadow", "conflicts", "--clear")
    assert pair.edge.ctl_json("shadow", "conflicts") == []


def test_deleted_and_made_again(pair):
    update(pair.edge, {"reported": {"old": 1}}, "cfg")
    pair.same({"reported": {"old": 1}}, "cfg")
    pair.in_step()
    delete(pair.edge, "cfg")
    pair.same(None, "cfg")
    pair.in_step()
    update(pair.cloud, {"desired": {"new": 1}}, "cfg")
    pair.same({"desired": {"new": 1}}, "cfg")
    pair.in_step()
    delete(pair.cloud, "cfg")
    pair.same(None, "cfg")
    pair.in_step()
    # Deleted here while the cloud is away, and changed there: the change is the later word.
    update(pair.edge, {"reported": {"x": 1}}, "cfg")
    pair.same({"reported": {"x": 1}}, "cfg")
    pair.in_step()
    pair.offline()
    delete(pair.edge, "cfg")
    update(pair.cloud, {"desired": {"y": 1}}, "cfg")
    pair.online()
    pair.same({"desired": {"y": 1}, "reported": {"x": 1}}, "cfg")


def test_kills_on_either_side(pair):
    for round in range(6):
        update(pair.edge, {"reported": {"round": round, f"e{round}": 1}})
        update(pair.cloud, {"desired": {"round": round, f"c{round}": 1}})
        victim = (pair.edge, pair.cloud)[round % 2]
        victim.kill()
        survivor = (pair.cloud, pair.edge)[round % 2]
        if survivor is pair.edge:
            update(survivor, {"reported": {"alone": round}})
        else:
            update(survivor, {"desired": {"alone": round}})
        victim.start()
        pair.edge.wait_link("cloud")
    pair.same({
        "desired": {"round": 5, "alone": 4, **{f"c{n}": 1 for n in range(6)}},
        "reported": {"round": 5, "alone": 5, **{f"e{n}": 1 for n in range(6)}},
    })


def test_a_storm_of_updates_goes_up_as_few(daemon):
    pair = Pair(daemon, rate=5)
    pair.in_step()
    before = pair.status()["requests"]
    for n in range(100):
        update(pair.edge, {"reported": {"n": n}})
    pair.same({"reported": {"n": 99}})
    assert pair.status()["requests"] - before < 100


def test_one_way_alone(daemon):
    pair = Pair(daemon, select=[
        {"thing": "lamp", "direction": "up"},
        {"thing": "lamp", "classic": False, "named": ["cfg"], "direction": "down"},
    ])
    update(pair.edge, {"reported": {"a": 1}})
    pair.same({"reported": {"a": 1}})
    pair.in_step()
    update(pair.cloud, {"reported": {"a": 2}})
    pair.same({"reported": {"a": 1}})
    update(pair.cloud, {"desired": {"b": 1}}, "cfg")
    pair.same({"desired": {"b": 1}}, "cfg")
    pair.in_step()
    update(pair.edge, {"desired": {"b": 2, "c": 3}}, "cfg")
    pair.same({"desired": {"b": 1}}, "cfg")


def test_what_the_cloud_refuses_is_told_and_blocks_nothing(daemon):
    pair = Pair(daemon)
    # The cloud's limit is the default; the gateway's own is the same, but is counted before a merge.
    update(pair.edge, {"reported": {"a": "x" * 5000}})
    pair.same({"reported": {"a": "x" * 5000}})
    pair.in_step()
    pair.offline()
    update(pair.edge, {"reported": {"b": "x" * 2500}})
    update(pair.cloud, {"desired": {"c": "x" * 2500}})
    pair.online()
    entry = until(lambda: pair.edge.ctl_json("shadow", "conflicts"), "it is noted", every=0.1)[-1]
    assert "maximum size" in entry["text"], entry
    update(pair.edge, {"reported": {"n": 1}}, "cfg")
    pair.same({"reported": {"n": 1}}, "cfg")
    assert pair.status()["refused"] == 1
    update(pair.edge, {"reported": {"b": None}})
    pair.same({"desired": {"c": "x" * 2500}, "reported": {"a": "x" * 5000}})


def test_few_subscriptions_are_enough_for_many_shadows(daemon):
    pair = Pair(daemon, max_subscriptions=2)
    for n in range(6):
        update(pair.edge, {"reported": {"n": n}}, f"net-{n}")
    for n in range(6):
        pair.same({"reported": {"n": n}}, f"net-{n}")
    assert pair.cloud.ctl_json("status")["subscriptions"] <= 2


@pytest.mark.parametrize("shadows, reason", [
    ({"select": [{"thing": "a*"}, {"thing": "*b"}]}, "selects some of the shadows"),
    ({"select": [{"thing": "a", "classic": False}]}, "neither the classic shadow nor named ones"),
    ({"select": []}, "at least one"),
    ({"select": [{"thing": "a b"}]}, "a name has"),
    ({"select": [{"thing": "a"}], "wildcard": True, "max_subscriptions": 3}, "says nothing"),
    ({"select": [{"thing": "a", "direction": "sideways"}]}, "direction"),
    ({"select": [{"thing": "a"}], "speed": 3}, "is not a known key"),
])
def test_contradictions_are_refused(daemon, shadows, reason):
    gateway = daemon(config={"upstream": [{"name": "cloud", "url": "mqtt://localhost:1", "shadows": shadows}]})
    process = gateway.spawn()
    assert process.wait() == 1
    assert reason in process.log, process.log


def test_aws_iot_core_takes_fifty_subscriptions_of_routes_and_shadows(daemon):
    gateway = daemon(config={"upstream": [{
        "name": "cloud",
        "kind": "aws-iot-core",
        "url": "mqtts://localhost:1",
        "username": "x",
        "route": [{"direction": "in", "name": "down", "filter": "down/#"}],
        "shadows": {"select": [{"thing": "a"}], "max_subscriptions": 50},
    }]})
    process = gateway.spawn()
    assert process.wait() == 1
    assert "inbound routes need 1 and those of shadows 50" in process.log, process.log


def test_metrics_say_how_far_it_is(pair):
    update(pair.edge, {"reported": {"n": 1}})
    pair.same({"reported": {"n": 1}})
    pair.in_step()
    metrics = pair.edge.admin("/metrics")[1]
    for name, value in (("shadows", 2), ("in_step", 2), ("sent", 1), ("conflicts", 0)):
        line = next(l for l in metrics.splitlines() if f"shadow_sync_{name}{{" in l)
        assert 'upstream="cloud"' in line and line.endswith(f" {value}"), line
