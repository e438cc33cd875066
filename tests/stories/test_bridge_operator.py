"""What an operator of the bridge sees and says: pauses, metrics, the log, tests of a link."""

import os
import pwd
import re

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
