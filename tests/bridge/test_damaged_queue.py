"""The queue's file is damaged while the gateway is off: it is set aside, what can be read is saved, the
loss is reported, and it goes on."""

import pytest
from far.gateway import balanced, config, knock, numbered, numbers, publish
from harness.wait import until

COUNT = 2_000


@pytest.fixture
def backlog(daemon, far):
    """A gateway that is off, with a backlog."""
    broker = far()
    broker.stop()
    gateway = daemon(config=config(broker.port)).start()
    publish(gateway, numbered(0, COUNT))
    gateway.stop()
    return gateway, broker


def drain(gateway, broker, upto):
    """All that is left, and what is published afterwards."""
    publish(gateway, numbered(COUNT, COUNT + 50))
    broker.start()
    knock(gateway)
    broker.wait_payload(numbered(COUNT + 49, COUNT + 50)[0][1], 60)
    got = numbers(broker.firsts())
    assert got == sorted(got), "in order"
    assert set(range(COUNT, COUNT + 50)) <= set(got), "what came afterwards is whole"
    route = until(lambda: (r := gateway.route("cloud"))["queued"] == 0 and r, "the queue is empty", every=0.1)
    assert balanced(route), route
    return [n for n in got if n < upto]


def test_pages_of_garbage_in_the_middle(backlog):
    gateway, broker = backlog
    queue = gateway.data_dir / "queue.db"
    data = bytearray(queue.read_bytes())
    at = len(data) // 2 // 4096 * 4096
    data[at : at + 3 * 4096] = b"\xa5" * (3 * 4096)
    queue.write_bytes(data)
    gateway.start()
    # What is damaged shows when it is read.
    broker.start()
    knock(gateway)
    try:
        gateway.process.wait(20)
    except AssertionError:
        pass
    broker.stop()
    if not gateway.alive:
        gateway.start()
    report = gateway.process.wait_for_line(r"was salvaged.*lost_rows=(\d+)")
    lost = int(report[1])
    got = drain(gateway, broker, COUNT)
    # A page may have the beginnings of nine parcels, each of up to 64 messages; of the rest of a parcel's
    # pages each takes one with it. Where it was an inner page of a tree, nothing is lost.
    assert COUNT - 700 <= len(got) <= COUNT, len(got)
    assert len(got) >= COUNT - lost, (len(got), lost)
    aside = [path.name for path in gateway.data_dir.iterdir() if "queue.db" in path.name]
    assert len([name for name in aside if not name.endswith(("-wal", "-shm"))]) >= 2, f"the damaged one is kept: {aside}"


@pytest.mark.parametrize("what", ["empty", "text", "half", "zeroed tail", "no header", "no first page"])
def test_a_file_that_is_no_database(backlog, what):
    gateway, broker = backlog
    queue = gateway.data_dir / "queue.db"
    data = queue.read_bytes()
    queue.write_bytes({
        "empty": b"", "text": b"not a database\n" * 1000, "half": data[: len(data) // 2 // 4096 * 4096],
        "zeroed tail": data[: len(data) // 4 * 3] + b"\0" * (len(data) - len(data) // 4 * 3),
        "no header": b"\0" * 100 + data[100:], "no first page": b"\xa5" * 4096 + data[4096:],
    }[what])
    if what == "zeroed tail":
        # It shows when it is read.
        (gateway.data_dir / "queue.db.suspect").touch()
    gateway.start()
    got = drain(gateway, broker, COUNT)
    print(f"{what}: {len(got)} of {COUNT} saved")
    least = {"half": COUNT // 4, "zeroed tail": COUNT // 2, "no header": COUNT, "no first page": COUNT}
    assert len(got) >= least.get(what, 0), "what can be read is saved"
    assert "panicked" not in gateway.process.log
    gateway.stop()


def test_a_journal_that_is_damaged_after_a_kill(backlog):
    gateway, broker = backlog
    gateway.start()
    publish(gateway, numbered(COUNT + 100, COUNT + 400))
    gateway.kill()
    journal = gateway.data_dir / "queue.db-wal"
    data = bytearray(journal.read_bytes())
    assert len(data) > 50_000, "the journal has what came last"
    at = len(data) // 3
    data[at : at + 100] = b"\x5a" * 100
    journal.write_bytes(data)
    gateway.start()
    report = gateway.process.wait_for_line(r"was salvaged.*lost_rows=(\d+)")
    broker.start()
    knock(gateway)
    route = until(lambda: (r := gateway.route("cloud"))["queued"] == 0 and r, "the queue is empty", every=0.1)
    assert balanced(route), route
    got = numbers(broker.firsts())
    assert got == sorted(got), "in order"
    # One frame is lost, of whatever it was; SQLite alone would have lost all that was committed behind it.
    assert len([n for n in got if n < COUNT]) == COUNT
    assert len([n for n in got if n > COUNT]) > 150, (len(got), report[0])
