"""Every fact that the developer guides state about shadows, over MQTT and over HTTPS."""

import pytest

from harness.daemon import Daemon, allow
from harness.shadow_vectors import VECTORS, Runner


@pytest.fixture(scope="module")
def runner(binaries, tmp_path_factory):
    gateway = Daemon(
        binaries, tmp_path_factory.mktemp("vectors"), policies={"all": allow((["iot:*"], ["*"]))}
    ).start()
    runner = Runner(gateway, gateway.cert("vectors", policy="all"))
    yield runner
    runner.close()
    assert "panicked" not in gateway.process.log
    gateway.stop()


@pytest.mark.parametrize("crossed", [False, True], ids=["as-written", "the-other-way"])
@pytest.mark.parametrize("name", VECTORS)
def test_vector(runner, name, crossed):
    wrong = runner.run(VECTORS[name], crossed)
    assert not wrong, "\n".join(wrong)
