"""SIGKILL at any moment: nothing acknowledged is lost, no QoS 2 message arrives twice, and what is
retained is the last acknowledged.

IOTEDGE_KILLS says how often (`make kills`: 200), IOTEDGE_STORY_SEED repeats the chances of a run.
"""

import os

import pytest
from mixed.stage import Stage

STATES = {
    "QoS 1 in, PUBLISH not answered",
    "QoS 2 in, PUBLISH not answered", "QoS 2 in, PUBREL not answered",
    "QoS 1 out, PUBACK not said",
    "QoS 2 out, PUBREC not said", "QoS 2 out, PUBREL not come", "QoS 2 out, PUBCOMP not said",
}
KILLS = int(os.environ.get("IOTEDGE_KILLS", "15"))


@pytest.mark.slow
@pytest.mark.parametrize("sync", ["full", "50ms"])
def test_kill_dash_nine(daemon, chance, sync):
    config = {"store": {"sync": sync, "min_free_disk": "1MiB"}}
    gateway = daemon(config=config).start()
    stage = Stage(gateway, chance.random()).cast()
    stage.kill()
    for _ in range(KILLS):
        stage.scene()
        assert "panicked" not in gateway.process.log
        assert not stage.books.faults, "\n".join(stage.books.faults[:10])
    stage.settle()
    stage.again()
    for name, count in sorted(stage.books.counts.items()) + sorted(stage.states.items()):
        print(f"{name}: {count}")
    faults = stage.books.verdict()
    assert not faults, "\n".join(faults[:20])
    # Kills have met every state of an exchange, in both directions.
    assert set(stage.states) == STATES
    gateway.stop()
