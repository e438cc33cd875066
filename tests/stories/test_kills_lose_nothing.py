"""Sessions that come and go while the gateway is killed again and again."""

import json
import threading
import time

import pytest

from harness import raw
from harness.daemon import allow
from harness.traffic import Publisher
from harness.wait import Late

COUNT = 1500
EVERYTHING = allow((["iot:*"], ["*"]))


class Wanderer:
    """A persistent session whose link breaks after every so many messages, and by itself never."""

    def __init__(self, gateway, name, breaks_after, acknowledges=True):
        self.port = gateway.ports["mqtt"]
        self.name, self.breaks_after = name, breaks_after
        self.acknowledges = acknowledges
        self.numbers, self.sessions_lost, self.unmarked = [], 0, []
        self.error = None
        self._seen_by_id = {}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        with raw.Connection(self.port) as link:
            link.connect(name, clean=False)
            assert link.subscribe(("chaos/#", 1)) == [1]

    def start(self):
        self._thread.start()
        return self

    def _run(self):
        try:
            while not self._done.is_set():
                self._one_connection()
        except Exception as error:  # shown by join()
            self.error = error
            self._done.set()

    def _one_connection(self):
        try:
            with raw.Connection(self.port, deadline=2) as link:
                self.sessions_lost += not link.connect(self.name, clean=False).session_present
                for _ in range(self.breaks_after):
                    got = link.expect(raw.PUBLISH, 0.5)
                    number = json.loads(got.payload)["n"]
                    if not got.dup and number in self._seen_by_id.get(got.packet_id, ()):
                        self.unmarked.append(number)
                    self._seen_by_id[got.packet_id] = (number,)
                    self.numbers.append(number)
                    link.send(raw.puback(got.packet_id))
                    if number == COUNT - 1:
                        self._done.set()
                        link.ping()
                        return
        except (OSError, raw.Closed):
            # Down for the moment, or nothing to hear: the next try begins by itself.
            self._done.wait(0.02)

    def join(self, deadline):
        self._thread.join(deadline)
        if self.error:
            raise self.error
        if self._thread.is_alive():
            self._done.set()
            raise Late(f"{self.name}: {len(set(self.numbers))} of {COUNT} within {deadline} s")


@pytest.mark.slow
@pytest.mark.parametrize("sync", ["full", "50ms"])
def test_every_session_gets_every_acknowledged_message_in_order(daemon, chance, sync):
    gateway = daemon(policies={"all": EVERYTHING}, config={"store": {"sync": sync}}).start()
    device = gateway.cert("source", policy="all")
    sleeper = Wanderer(gateway, "sleeper", 10_000)
    wanderers = [Wanderer(gateway, f"w{n}", n).start() for n in (3, 40, 10_000)]
    publisher = Publisher(
        "source", gateway.ports["mqtts"], device, "chaos/t",
        [b'{"n":%d}' % n for n in range(COUNT)], per_second=400,
    ).start()
    for low in (200, 500, 800, 1100):
        publisher.wait_acked(low + chance.randrange(150), deadline=30)
        time.sleep(chance.random() * 0.01)
        gateway.kill()
        gateway.start()
    publisher.join(60)
    publisher.stop()
    for one in [*wanderers, sleeper.start()]:
        one.join(60)
        firsts = list(dict.fromkeys(one.numbers))
        print(f"{one.name}: {len(one.numbers) - COUNT} again")
        assert firsts == list(range(COUNT)), f"{one.name}: {set(range(COUNT)) - set(firsts)}"
        assert one.sessions_lost == 0, one.name
        assert one.unmarked == [], f"{one.name}: sent again without DUP: {one.unmarked}"
    # All acknowledged: nothing waits.
    gateway.restart()
    assert gateway.ctl_json("status")["queued"] == 0
    gateway.stop()
