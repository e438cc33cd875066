"""The power goes at any operation of the store; the disk has what was synced, and of the rest what it
likes, torn and out of order. Nothing acknowledged is lost (mosquitto 2639).

IOTEDGE_POWER_CUTS says how often (`make power-cuts`: 2,000), IOTEDGE_STORY_SEED repeats a run.
"""

import os
import pathlib
import signal
import subprocess
import sys
import textwrap

import pytest
from far.gateway import balanced, config, numbered, numbers, publish
from far.power import CUT, Disk, build
from harness import raw
from harness.wait import until

CUTS = int(os.environ.get("IOTEDGE_POWER_CUTS", "50"))
# After so many cuts all that waits is drained and compared.
LOOK = 10


@pytest.fixture(scope="session")
def shim(tmp_path_factory):
    return build(tmp_path_factory.mktemp("power"))


class Run:
    """A gateway whose power goes again and again, with one publisher that never repeats itself."""

    def __init__(self, gateway, broker, disk, chance):
        self.gateway, self.broker, self.disk, self.chance = gateway, broker, disk, chance
        self.sent, self.acked, self.cuts, self.early = 0, set(), 0, 0
        self.seen = 0

    def publish_until_dark(self, most):
        """Publishes with a window until the power goes; after `most` messages it goes at once."""
        window, waiting = self.chance.randrange(1, 40), {}
        gateway = self.gateway
        try:
            with raw.Connection(gateway.ports["mqtt"]) as link:
                link.connect("near")
                while True:
                    while len(waiting) < window and most:
                        packet_id = self.sent % 60_000 + 1
                        waiting[packet_id] = self.sent
                        payload = numbered(self.sent, self.sent + 1)[0][1]
                        link.send(raw.publish(f"t/{self.sent % 3}", payload, 1, packet_id))
                        self.sent += 1
                        most -= 1
                    if not most:
                        # Not at a moment of rest: what was sent last is being committed.
                        gateway.process.signal(CUT)
                    self.acked.add(waiting.pop(link.expect(raw.PUBACK).packet_id))
        except (OSError, raw.Closed):
            pass

    def cycle(self):
        gateway, chance = self.gateway, self.chance
        (self.broker.start if chance.random() < 0.5 else self.broker.stop)()
        at = chance.choice([chance.randrange(1, 40), chance.randrange(40, 200), chance.randrange(200, 1000)])
        gateway.environment = self.disk.environment(chance.randrange(1, 2**32), at)
        process = gateway.spawn()

        def ready_or_dark():
            return not process.running or gateway._ready()

        try:
            until(ready_or_dark, "ready, or the power is gone")
        except AssertionError:
            # It went between the two looks.
            if process.running:
                raise
        if process.running:
            self.publish_until_dark(chance.randrange(1, 400))
        else:
            self.early += 1
        code = process.wait()
        assert code == -signal.SIGKILL and "power cut" in process.log, f"{code}:\n{process.log}"
        assert "panicked" not in process.log, process.log
        assert "salvaged" not in process.log and "damaged" not in process.log, process.log
        self.broker.stop()
        self.cuts += 1

    def look(self):
        """Drains and compares."""
        gateway = self.gateway
        self.broker.start()
        gateway.environment = {}
        gateway.start()
        until(lambda: gateway.route("cloud")["queued"] == 0, "the queue is empty", 60, every=0.05)
        route = gateway.route("cloud")
        assert balanced(route), route
        assert not route["dropped"], route
        got = numbers(self.broker.payloads())
        lost = self.acked - set(got)
        assert not lost, f"{len(lost)} acknowledged messages lost: {sorted(lost)[:20]}"
        for n in range(3):
            firsts = numbers(self.broker.firsts(f"t/{n}"))
            assert firsts == sorted(firsts), f"t/{n} out of order"
        self.seen = len(got)
        gateway.kill()
        self.broker.stop()


@pytest.mark.slow
@pytest.mark.parametrize("sync", ["full", "50ms"])
def test_power_cuts_lose_nothing(daemon, far, shim, chance, sync):
    broker = far()
    gateway = daemon(config=config(broker.port, sync=sync))
    disk = Disk(shim, gateway.data_dir)
    run = Run(gateway, broker, disk, chance)
    # The first start makes keys, which takes a while; not each cut is to fall into it.
    gateway.start()
    gateway.stop()
    broker.stop()
    for n in range(CUTS):
        run.cycle()
        if n % LOOK == LOOK - 1 or n == CUTS - 1:
            run.look()
    print(f"{run.cuts} power cuts with sync {sync}, {run.early} before it was ready: {run.sent} messages sent, "
          f"{len(run.acked)} acknowledged, {len(set(broker.payloads()))} different ones upstream, "
          f"{len(broker.got) - len(set(broker.payloads()))} again")
    assert len(run.acked) > 10 * CUTS, "most cuts came before there was anything to lose"


def test_power_cuts_during_the_very_first_start(daemon, far, shim, chance):
    """Whatever was there of a half-made data directory: the next start makes the rest."""
    broker = far()
    for n in range(6):
        gateway = daemon(config=config(broker.port))
        disk = Disk(shim, gateway.data_dir)
        for _ in range(2):
            gateway.environment = disk.environment(chance.randrange(1, 2**32), chance.randrange(1, 150))
            process = gateway.spawn()
            try:
                until(lambda: not process.running or gateway._ready(), "ready, or dark")
            except AssertionError:
                pass
            if process.running:
                process.signal(CUT)
            code = process.wait()
            assert code == -signal.SIGKILL and "power cut" in process.log, process.log
        gateway.environment = {}
        gateway.start()
        publish(gateway, numbered(n, n + 1))
        broker.wait_count(n + 1)
        gateway.stop()


@pytest.mark.parametrize("sync", ["full", "50ms"])
def test_a_card_that_does_not_sync_is_found_out(daemon, far, shim, sync):
    """The same comparison, on a disk that says yes to each sync and does nothing: it must see losses,
    or it sees nothing."""
    broker = far()
    broker.stop()
    gateway = daemon(config=config(broker.port, sync=sync)).start()
    publish(gateway, numbered(0, 10))
    gateway.stop()
    disk = Disk(shim, gateway.data_dir)
    for lies, left in (({}, 310), ({"POWER_IGNORE_SYNC": "1"}, 310)):
        gateway.environment = disk.environment(POWER_KEEP="none", **lies)
        gateway.start()
        if gateway.route("cloud")["queued"] == 10:
            publish(gateway, numbered(10, 310))
        else:
            publish(gateway, numbered(310, 610))
        gateway.process.signal(CUT)
        gateway.process.wait()
        gateway.environment = {}
        gateway.start()
        # With the lie the second 300 were acknowledged and are gone.
        assert gateway.route("cloud")["queued"] == left
        gateway.stop()


def on_the_disk(shim, tmp_path, program, **how):
    """Runs Python on a folder that has `a` with "old"; the power goes at its end."""
    folder = tmp_path / "disk"
    folder.mkdir()
    (folder / "a").write_text("old")
    disk = Disk(shim, folder)
    code = textwrap.dedent(program) + f"\nimport signal; os.kill(os.getpid(), {int(CUT)}); signal.pause()"
    done = subprocess.run(
        [sys.executable, "-c", "import os\n" + code], cwd=folder, timeout=20,
        env={**os.environ, **disk.environment(POWER_KEEP="none", **how), "D": str(folder)},
    )
    assert done.returncode == -signal.SIGKILL
    return {path.name: path.read_text() for path in pathlib.Path(folder).iterdir()}


OPEN = 'd = os.environ["D"]; fd = os.open(d + "/a", os.O_RDWR)\n'


@pytest.mark.parametrize("program,left", [
    ('os.write(fd, b"NEW")', {"a": "old"}),
    ('os.write(fd, b"NEW"); os.fsync(fd)', {"a": "NEW"}),
    ('os.write(fd, b"NEW"); os.fdatasync(fd); os.write(fd, b"more")', {"a": "NEW"}),
    ('os.pwrite(fd, b"X", 100)', {"a": "old"}),
    ('os.ftruncate(fd, 1)', {"a": "old"}),
    ('os.ftruncate(fd, 1); os.fsync(fd)', {"a": "o"}),
    ('os.open(d + "/a", os.O_RDWR | os.O_TRUNC)', {"a": "old"}),
    ('os.open(d + "/b", os.O_RDWR | os.O_CREAT)', {"a": "old"}),
    ('b = os.open(d + "/b", os.O_RDWR | os.O_CREAT); os.write(b, b"b"); os.fsync(b)', {"a": "old", "b": "b"}),
    ('os.rename(d + "/a", d + "/b")', {"a": "old"}),
    ('os.rename(d + "/a", d + "/b"); os.fsync(os.open(d, os.O_RDONLY))', {"b": "old"}),
    ('os.unlink(d + "/a")', {"a": "old"}),
    ('os.unlink(d + "/a"); os.fsync(os.open(d, os.O_RDONLY))', {}),
    ('b = os.open(d + "/b", os.O_RDWR | os.O_CREAT); os.write(b, b"b"); os.fsync(b); '
     'os.rename(d + "/b", d + "/a")', {"a": "old", "b": "b"}),
])
def test_the_disk_itself(shim, tmp_path, program, left):
    """Only what was synced is there after the cut."""
    assert on_the_disk(shim, tmp_path, OPEN + program) == left


def test_the_disk_keeps_all_some_or_none_of_what_was_not_synced(shim, tmp_path):
    """By its seed, in sectors: old, new and torn files are all met."""
    met = set()
    for seed in range(40):
        folder = tmp_path / str(seed)
        folder.mkdir()
        (folder / "a").write_bytes(b"o" * 2048)
        disk = Disk(shim, folder)
        program = (f'import os; fd = os.open("{folder}/a", os.O_RDWR); os.write(fd, b"N" * 2048); '
                   f'os.kill(os.getpid(), {int(CUT)})')
        subprocess.run([sys.executable, "-c", program], timeout=20,
                       env={**os.environ, **disk.environment(seed)})
        data = (folder / "a").read_bytes()
        sectors = [data[at : at + 512] for at in range(0, 2048, 512)]
        assert all(one in (b"o" * 512, b"N" * 512) for one in sectors)
        met.add("old" if data == b"o" * 2048 else "new" if data == b"N" * 2048 else "torn")
    assert met == {"old", "new", "torn"}
