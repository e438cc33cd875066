"""`iotedged --dev` prints what to type next, and that works when it is typed."""

import json
import re
import shlex
import shutil
import stat

import pytest

from harness.netns import Loopback
from harness.wait import until

TYPED = re.compile(r"^\s*(?:\$ )?((?:mosquitto_pub|mosquitto_sub|curl)\s.*)$")


def commands(log):
    """The lines to type, with continued lines joined."""
    out, open_line = [], ""
    for line in log.splitlines():
        line = open_line + line.strip() if open_line else line
        if line.endswith("\\"):
            open_line = line[:-1]
            continue
        open_line = ""
        if match := TYPED.match(line):
            out.append(match.group(1).strip())
    return out


def secure_pub(lines):
    """The first publisher that shows a certificate."""
    return next(t for t in lines if t.startswith("mosquitto_pub") and "--cert" in t)


class Newcomer:
    """A shell in an empty folder, and a gateway started from there."""

    def __init__(self, binaries, folder, *argv):
        self.binaries = binaries
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.net = Loopback()
        self.argv = [binaries.iotedged, "--dev", *argv]

    def start(self):
        self.gateway = self.net.start(self.argv, "iotedged --dev", cwd=self.folder)
        self.gateway.wait_for_line(r"\bcurl\b", deadline=30)
        until(lambda: self.type("curl -sf http://127.0.0.1:9883/readyz").returncode == 0, "ready")
        return self

    def type(self, line, **how):
        return self.net.run(["sh", "-c", line], cwd=self.folder, **how)

    def stop(self):
        assert self.gateway.terminate() == 0, self.gateway.log


@pytest.fixture
def newcomer(binaries, tmp_path):
    return Newcomer(binaries, tmp_path / "empty", "--data-dir", "iotedge-data").start()


def subscriber_hears(newcomer, subscribe, publish):
    """Both lines as printed: the first in one window, the second in another."""
    child = newcomer.net.start(["sh", "-c", f"exec {subscribe}"], "mosquitto_sub", cwd=newcomer.folder)

    def heard():
        # The window of mosquitto_sub shows nothing before a message: type until it does.
        done = newcomer.type(publish)
        assert done.returncode == 0, f"{publish}\n{done.stdout}{done.stderr}"
        assert child.running, child.log
        return child.log

    text = until(heard, f"{subscribe}\nhears\n{publish}", every=0.1)
    child.terminate()
    return text


def test_make_run_lines(newcomer):
    lines = commands(newcomer.gateway.log)
    subs = [t for t in lines if t.startswith("mosquitto_sub")]
    pubs = [t for t in lines if t.startswith("mosquitto_pub")]
    curls = [t for t in lines if t.startswith("curl")]
    assert subs and pubs and curls, newcomer.gateway.log
    for line in subs + pubs:
        words = shlex.split(line)
        if "--cafile" in words or "8883" in words:
            assert {"--cafile", "--cert", "--key"} <= set(words), line
            for option in ("--cafile", "--cert", "--key"):
                path = words[words.index(option) + 1]
                assert not path.startswith("/"), f"paths are relative to where it was started: {line}"
                assert (newcomer.folder / path).exists(), path
    assert any("--cert" in t for t in subs), "a subscriber with a certificate is shown"

    # Each subscriber hears what the matching publisher says.
    heard = 0
    for sub in subs:
        words = shlex.split(sub)
        filter = words[words.index("-t") + 1]
        for pub in pubs:
            words = shlex.split(pub)
            topic = words[words.index("-t") + 1]
            if matches(filter, topic):
                assert subscriber_hears(newcomer, sub, pub)
                heard += 1
    assert heard, (subs, pubs)
    for pub in pubs:
        done = newcomer.type(pub)
        assert done.returncode == 0, f"{pub}\n{done.stdout}{done.stderr}"

    for curl in curls:
        done = newcomer.type(curl)
        assert done.returncode == 0, f"{curl}\n{done.stdout}{done.stderr}"
        answer = json.loads(done.stdout[done.stdout.index("{"):])
        if "/shadow" in curl:
            assert "state" in answer, f"{curl}\n{done.stdout}"
    newcomer.stop()


def matches(filter, topic):
    """Whether an MQTT filter matches a topic (4.7)."""
    f, t = filter.split("/"), topic.split("/")
    if t[0].startswith("$") and f[0] in ("#", "+"):
        return False
    for i, level in enumerate(f):
        if level == "#":
            return True
        if i >= len(t) or level not in ("+", t[i]):
            return False
    return len(f) == len(t)


def test_the_lines_still_work_after_a_restart(newcomer):
    before = commands(newcomer.gateway.log)
    newcomer.stop()
    newcomer.start()
    assert commands(newcomer.gateway.log) == before
    pub = secure_pub(before)
    done = newcomer.type(pub)
    assert done.returncode == 0, done.stderr
    newcomer.stop()


def test_keys_are_for_the_owner_only(newcomer):
    keys = [p for p in (newcomer.folder / "iotedge-data").rglob("*") if p.suffix == ".key" or "key" in p.stem]
    assert keys
    for key in keys:
        if key.is_file():
            assert stat.S_IMODE(key.stat().st_mode) & 0o077 == 0, key


def test_dev_listens_on_the_loopback_only(newcomer):
    listening = newcomer.type("cat /proc/net/tcp /proc/net/tcp6").stdout
    local = {f.split()[1] for f in listening.splitlines() if len(f.split()) > 3 and f.split()[3] == "0A"}
    ports = {int(address.split(":")[1], 16) for address in local}
    assert {1883, 8883, 8443} <= ports, ports
    assert all(a.startswith("0100007F") or a.endswith("1000000:" + a.split(":")[1]) for a in local), local


def test_the_device_may_not_do_more_than_the_lines_show(newcomer):
    pub = secure_pub(commands(newcomer.gateway.log))
    words = shlex.split(pub)
    words[words.index("-t") + 1] = "$aws/things/some-other-thing/shadow/update"
    if "-q" not in words:
        words += ["-q", "1"]
    newcomer.type(shlex.join(words))
    newcomer.gateway.wait_for_line(r"some-other-thing")
    newcomer.stop()


@pytest.mark.skipif(not shutil.which("mosquitto_pub"), reason="mosquitto-clients is not installed")
def test_a_taken_port_is_said_so(binaries, tmp_path):
    it = Newcomer(binaries, tmp_path / "empty", "--data-dir", "data")
    other = it.net.start(
        ["socat", "-d", "-d", "tcp-listen:8883,bind=127.0.0.1", "pipe"],
        "squatter",
    )
    other.wait_for_line("listening on")
    gateway = it.net.start(it.argv, "iotedged --dev", cwd=it.folder)
    assert gateway.wait(20) not in (0, -9)
    assert "8883" in gateway.log, gateway.log
