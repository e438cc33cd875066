"""Shadows from the command line."""

import json

from harness import raw
from harness.process import Process


def update(gateway, thing, state, *name):
    gateway.ctl_ok("shadow", "update", thing, *name, json.dumps({"state": state}))


def test_list_shows_what_is_there_and_no_deleted_ones(gateway):
    assert gateway.ctl_json("shadow", "list") == []
    # `lamp-2` lies between `lamp` and `lamp/...` in the store's order.
    for thing in ("lamp", "lamp-2", "zoo"):
        update(gateway, thing, {"reported": {"n": 1}})
    update(gateway, "lamp", {"reported": {"n": 2}}, "--name", "cfg")
    update(gateway, "lamp", {"reported": {"n": 3}}, "--name", "old")
    gateway.ctl_ok("shadow", "delete", "lamp", "--name", "old")
    listed = gateway.ctl_json("shadow", "list")
    assert [(s["thing"], s.get("name"), s["version"]) for s in listed] == [
        ("lamp", None, 1), ("lamp-2", None, 1), ("lamp", "cfg", 1), ("zoo", None, 1),
    ]
    assert all(s["timestamp"] > 1_700_000_000 for s in listed)
    ours = gateway.ctl_json("shadow", "list", "lamp")
    assert [s.get("name") for s in ours] == [None, "cfg"]
    assert gateway.ctl_json("shadow", "list", "nobody") == []


def test_list_goes_on_where_one_answer_ends(gateway):
    names = [f"thing-{n:04}" for n in range(1203)]
    with raw.Connection(gateway.ports["mqtt"]) as link:
        link.connect("filler")
        for n, name in enumerate(names, start=1):
            topic = f"$aws/things/{name}/shadow/update"
            link.send(raw.publish(topic, b'{"state":{"desired":{"n":1}}}', qos=1, packet_id=n))
        for _ in names:
            link.expect(raw.PUBACK)
    assert [s["thing"] for s in gateway.ctl_json("shadow", "list")] == names


def test_watch_prints_each_state_as_it_is_stored(gateway):
    watch = Process(
        [gateway.binaries.iotedgectl, "--socket", gateway.socket, "shadow", "watch", "lamp", "-n", "4"],
        "watch",
    )
    # Nothing says that it listens: it is there when it prints.
    n = 0
    while not watch.lines:
        n += 1
        update(gateway, "lamp", {"reported": {"n": n}})
        update(gateway, "other", {"reported": {"n": -1}})
    update(gateway, "lamp", {"reported": {"n": "last"}})
    gateway.ctl_ok("shadow", "delete", "lamp")
    update(gateway, "lamp", {"reported": {"n": "again"}})
    assert watch.wait(10) == 0
    news = [json.loads(line) for line in watch.lines]
    assert len(news) == 4
    versions = [s["version"] for s in news if "deleted" not in s]
    assert versions == sorted(set(versions))
    assert all(s["state"]["reported"]["n"] != -1 for s in news if "deleted" not in s)
