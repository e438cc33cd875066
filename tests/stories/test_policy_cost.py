"""Matching never goes back: instructions grow with the pattern plus the topic, counted by callgrind."""

import json
import re
import shutil

import pytest

from harness.process import run

pytestmark = pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not there")

TOPIC = "arn:aws:iot:us-east-1:123456789012:topic/"


@pytest.fixture
def instructions(binaries, tmp_path):
    """Of `iotedgectl policy test` for a pattern and a topic; the answer must be no."""

    def count(pattern, topic):
        policy = {
            "Version": "2012-10-17",
            "Statement": {"Effect": "Allow", "Action": "iot:Publish", "Resource": TOPIC + pattern},
        }
        request = tmp_path / "request.json"
        request.write_text(
            json.dumps(
                {"policies": [policy], "client_id": "c", "action": "iot:Publish", "resource": topic}
            )
        )
        done = run(
            ["valgrind", "--tool=callgrind", f"--callgrind-out-file={tmp_path}/out",
             binaries.iotedgectl, "policy", "test", "--request", request],
            deadline=120,
        )
        assert done.stdout.startswith("deny"), done.stdout[:200] + done.stderr
        return int(re.search(r"Collected : (\d+)", done.stderr)[1])

    return count


# As many wildcards as fit into the 2,048 characters of a document.
PATTERNS = {
    "a thousand stars": lambda n: "a*" * n + "b*",
    "stars and questions": lambda n: "*a?" * n + "b*",
    "one star and questions": lambda n: "*" + "a?" * n + "b*",
}


@pytest.mark.parametrize("kind", PATTERNS)
def test_a_document_full_of_wildcards_is_no_trap(instructions, kind):
    pattern = PATTERNS[kind]
    most = 600 if kind == "stars and questions" else 950

    def cost(wildcards, topic):
        """Without what reading the request and saying the answer takes."""
        topic = "a" * topic
        whole = instructions(pattern(wildcards), topic)
        return whole - instructions("b" * len(pattern(wildcards)), topic)

    small, large = cost(most // 2, 16_000), cost(most, 32_000)
    longer = cost(most, 64_000)
    print(f"{kind}: {small} {large} {longer}")
    # Twice the pattern and twice the topic: twice the work, where going back would make it many
    # times that. Only one long part with questions inside costs more: a word for each 64
    # characters of it, so at most 32 for each character of the topic.
    assert large < (4.5 if kind == "one star and questions" else 2.5) * small
    assert longer < 2.5 * large
