"""What an operator of the bridge sees and says: pauses, metrics, the log, tests of a link."""

import json
import os
import pwd
import re

from harness import pki
from harness.clients import Client
from harness.ports import free_port
from harness.wait import until

OUT = {"direction": "out", "filter": "t/#"}


def cloud(port, *routes, name="cloud", **more):
    return {"name": name, "url": f"mqtt://127.0.0.1:{port}", "route": list(routes), **more}


def me():
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"user {os.getuid()}"


def test_a_pause_survives_restarts_and_says_who_and_when(daemon, upstream):
    broker = upstream().start()
    gateway = daemon(config={"upstream": [cloud(broker.port, OUT)]}).start()
    gateway.wait_link("cloud")
    gateway.ctl_ok("bridge", "pause", "cloud")
    before = gateway.link("cloud")
    assert before["paused"]["by"] == me() and before["reason"] == f"paused by {me()}", before
    for again in (gateway.restart, lambda: (gateway.kill(), gateway.start())):
        again()
        gateway.wait_link("cloud", "paused")
        link = gateway.link("cloud")
        assert link["paused"] == before["paused"], link
        assert link["since"] == before["paused"]["since"] and link["connects"] == 0, link
    # A test connects all the same, and leaves the pause as it is.
    gateway.ctl_ok("bridge", "test", "cloud")
    gateway.wait_link("cloud", "paused")
    gateway.ctl_ok("bridge", "resume", "cloud")
    gateway.wait_link("cloud")
    assert "paused" not in gateway.link("cloud")
    gateway.restart()
    gateway.wait_link("cloud")


def test_resume_tries_at_once_what_waits_for_its_next_try(daemon, upstream, tmp_path):
    gone = free_port()
    password = tmp_path / "password"
    password.write_text("wrong\n")
    gateway = daemon(config={"upstream": [
        cloud(gone, OUT, username="u", password_file=str(password)),
    ]}).start()
    gateway.wait_link("cloud", "backing-off")
    password.write_text("")
    gateway.ctl_ok("bridge", "resume", "cloud")
    gateway.wait_link("cloud", "misconfigured", deadline=5)
    # Its next try is a minute or more away.
    password.write_text("right\n")
    gateway.ctl_ok("bridge", "resume", "cloud")
    gateway.wait_link("cloud", "backing-off", deadline=5)
    gateway.log_has(r'WARN.*Misconfigured.*next_retry="?20\d\d-\d\d-\d\dT')


def test_routes_of_two_upstreams_are_series_of_their_own(daemon, upstream):
    one, two = upstream().start(), upstream().start()
    gateway = daemon(config={"upstream": [
        cloud(one.port, OUT, name="one", daily_bytes="1MiB"), cloud(two.port, OUT, name="two"),
    ]}).start()
    for name in ("one", "two"):
        gateway.wait_link(name)
    client = Client("near", gateway.ports["mqtt"]).connect()
    client.publish("t/x", b"1")

    def series():
        lines = [l for l in gateway.admin("/metrics")[1].splitlines() if l and not l.startswith("#")]
        found = dict(l.rsplit(" ", 1) for l in lines)
        assert len(found) == len(lines), "a series is there twice"
        return found

    labels = 'upstream="{}",route="out:t/#",direction="out"'
    for name in ("one", "two"):
        until(lambda: series()[f"iotedge_route_delivered_total{{{labels.format(name)}}}"] == "1", name)
    found = series()
    assert found['iotedge_upstream_state{upstream="one",state="connected"}'] == "1"
    assert int(found['iotedge_upstream_day_bytes{upstream="one"}']) > 20, found
    assert found['iotedge_upstream_daily_limit_bytes{upstream="one"}'] == "1048576"
    assert 'iotedge_upstream_day_bytes{upstream="two"}' not in found
    assert found['iotedge_route_dead_letters{upstream="two",route="out:t/#"}'] == "0"
    assert re.search(r"one has spent .* of today's 1.0 MiB", gateway.ctl_ok("bridge", "status"))


def trial(gateway):
    done = gateway.ctl("bridge", "test", "cloud", "--json")
    assert done.stdout.endswith("}\n"), done
    steps = json.loads(done.stdout)["steps"]
    assert [step["ok"] for step in steps[:-1]] == [True] * (len(steps) - 1), steps
    assert (done.returncode == 0) == steps[-1]["ok"], done
    return {step["layer"]: step["text"] for step in steps}, steps[-1]


def test_a_test_of_a_link_says_what_it_found_and_what_is_wrong(daemon, upstream, tmp_path):
    authority = pki.make_ca(tmp_path / "pki", "cloud-ca")
    server = pki.sign(tmp_path / "pki", "server", authority, san="DNS:localhost,IP:127.0.0.1")
    device = pki.sign(tmp_path / "pki", "gateway", authority)
    broker = upstream(tls=server).start()
    secure = {
        "url": f"mqtts://localhost:{broker.port}", "ca": str(device.ca),
        "certificate": str(device.certificate), "key": str(device.key),
    }
    gateway = daemon(config={"upstream": [{**cloud(0, OUT), **secure}]}).start()
    gateway.wait_link("cloud")
    found, last = trial(gateway)
    assert last["layer"] == "subscribe", last
    assert "127.0.0.1" in found["DNS"] and found["TCP"].endswith(f":{broker.port}"), found
    assert re.search(r"TLSv1_3, \w+, certificate of .*server.* by .*cloud-ca.* until 20", found["TLS"])
    assert "session" in found["CONNACK"], found
    gateway.stop()

    def wrong(port, **more):
        other = daemon(config={"upstream": [cloud(port, OUT, **more)]}).start()
        _, last = trial(other)
        other.stop()
        assert not last["ok"], last
        return last["layer"], last["text"]

    layer, text = wrong(broker.port)
    assert layer == "CONNACK" and "TLS (mqtts://" in text, (layer, text)
    closed = free_port()
    layer, text = wrong(broker.port, proxy=f"http://127.0.0.1:{closed}")
    assert layer == "proxy" and str(closed) in text, (layer, text)
    broker.stop()

    locked = upstream()
    locked.config.write_text(locked.config.read_text().replace("anonymous true", "anonymous false"))
    locked.start()
    layer, text = wrong(locked.port)
    assert layer == "CONNACK" and "not authorized (CONNACK 5)" in text and "password_file" in text, text


def test_what_a_queue_loses_is_in_the_log(daemon):
    gateway = daemon(config={"upstream": [
        cloud(free_port(), {**OUT, "name": "r", "on_full": "drop-new", "max_messages": 1}),
    ]}).start()
    client = Client("near", gateway.ports["mqtt"]).connect()
    for n in range(3):
        client.publish("t/x", str(n).encode())
    gateway.log_has(r"WARN.*lost messages.*upstream=\"?cloud.*route=\"?r\b.*queue-full.*messages=[12]\b")


def test_what_the_route_makes_no_topic_of_is_told_as_a_dead_letter(daemon, upstream):
    broker = upstream().start()
    route = {"direction": "out", "filter": "t/#", "remote_topic": "o/${topic(4)}"}
    gateway = daemon(config={"upstream": [cloud(broker.port, route)]}).start()
    gateway.wait_link("cloud")
    client = Client("near", gateway.ports["mqtt"]).connect()
    client.publish("t/x", b"1")
    gateway.log_has(r"WARN.*dead letters.*upstream-refused.*messages=1\b")
    letters = gateway.ctl_json("bridge", "dead-letters", "list")
    assert '"t/x": it has no level 4' in letters[0]["reason"], letters
    assert 'iotedge_route_dead_letters{upstream="cloud",route="out:t/#"} 1' in gateway.admin("/metrics")[1]
