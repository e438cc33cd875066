"""`POST /topics/...`, which has the limits of a PUBLISH."""

import urllib.parse

import pytest

KB128 = 128 * 1024


@pytest.fixture(scope="module")
def post(roomy):
    identity = roomy.daemon.cert("poster", policy="open")

    def send(topic, body=b"x", qos=1):
        path = f"/topics/{urllib.parse.quote(topic, safe='')}?qos={qos}"
        return roomy.daemon.https("POST", path, identity, body)[0]

    return send


def test_a_topic_has_256_bytes_and_seven_slashes(post):
    for just in ("x" * 256, "é" * 128, "a/b/c/d/e/f/g/h", "$aws/rules/r/a/b/c/d/e/f/g/h"):
        assert post(just) == 200, just
    for over in ("x" * 257, "é" * 128 + "x", "a/b/c/d/e/f/g/h/i", "$aws/rules/r/a/b/c/d/e/f/g/h/i"):
        assert post(over) == 400, over


def test_a_payload_has_128_kb(post):
    assert post("t", b"x" * KB128) == 200
    assert post("t", b"x" * (KB128 + 1)) == 413


def test_qos_2_is_not_there(post):
    assert post("t", qos=2) == 400


def test_topics_that_begin_with_a_dollar_are_reserved(post):
    for topic in ("$mine", "$SYS/broker", "$aws/nothing"):
        assert post(topic) == 403, topic
    assert post("$aws/things/t/shadow/update", b"{}") == 200
