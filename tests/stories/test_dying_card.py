"""A card that does not give back what was written to it."""

import contextlib
import pathlib
import subprocess

from harness import raw

SOURCE = pathlib.Path(__file__).resolve().parent.parent / "c" / "bad_sectors.c"
MESSAGES = 400
SIZE = 2000


def fill(gateway):
    """A queue of 400 messages of 2,000 bytes for a client that is away."""
    with raw.Connection(gateway.ports["mqtt"]) as link:
        link.connect("sleeper", clean=False)
        assert link.subscribe(("t", 1)) == [1]
    with raw.Connection(gateway.ports["mqtt"]) as link:
        link.connect("giver")
        for n in range(1, MESSAGES + 1):
            link.send(raw.publish("t", (b"%06d" % n).ljust(SIZE, b"."), qos=1, packet_id=n))
            link.expect(raw.PUBACK)


def take_all(gateway):
    """Acknowledges all that comes, to the last message or the end of the gateway."""
    got = set()
    with raw.Connection(gateway.ports["mqtt"]) as link:
        assert link.connect("sleeper", clean=False).session_present
        while MESSAGES not in got:
            try:
                packet = link.expect(raw.PUBLISH)
            except raw.Closed:
                break
            assert packet.payload == (b"%06d" % int(packet.payload[:6])).ljust(SIZE, b".")
            got.add(int(packet.payload[:6]))
            # The gateway may have ended behind this one; what came before its end is still read.
            with contextlib.suppress(ConnectionError):
                link.send(raw.puback(packet.packet_id))
    return got


def test_unreadable_sectors_cost_what_was_in_them_and_nothing_else(daemon, tmp_path):
    shim = tmp_path / "bad_sectors.so"
    subprocess.run(
        ["cc", "-Wall", "-Werror", "-shared", "-fPIC", "-o", shim, SOURCE, "-ldl"], check=True
    )
    gateway = daemon().start()
    fill(gateway)
    gateway.stop()
    queue = gateway.data_dir / "queue.db"
    # In the middle of the messages.
    bad = queue.stat().st_size // 2 // 4096 * 4096
    gateway.environment = {
        "LD_PRELOAD": str(shim),
        "BAD_INODE": str(queue.stat().st_ino),
        "BAD_FROM": str(bad),
        "BAD_TO": str(bad + 8192),
    }
    # Nothing of the queue is read at the start: the client's own reading meets it, the process
    # ends, and the next one saves what can be read.
    gateway.start()
    before = take_all(gateway)
    gateway.process.wait(20)
    gateway.start()
    report = gateway.process.wait_for_line(r"was salvaged.*lost_rows=(\d+)")
    got = before | take_all(gateway)
    assert MESSAGES - 12 <= len(got) < MESSAGES
    assert int(report[1]) == MESSAGES - len(got)
