"""Every statement has its test, and the script that says so sees what is missing."""

import check_statements as script
import pytest


@pytest.mark.parametrize("version", script.VERSIONS)
def test_every_statement_has_a_test_or_a_reason(version):
    gaps, said = script.check_version(version)
    print(said)
    assert gaps == []


LIST = """\
# A comment.
MQTT-1.0.0-1 server
    test_a.py::test_mqtt_1_0_0_1_this
    test_a.py::test_mqtt_1_0_0_1_that
MQTT-1.0.0-2 client
    none: because it
        cannot be
MQTT-1.0.0-3 both
    none: it can neither
"""
TESTS = """\
def test_mqtt_1_0_0_1_this(): pass
def test_mqtt_1_0_0_1_that(): pass
"""


def gaps_of(tmp_path, monkeypatch, statements=LIST, tests=TESTS, count=3):
    monkeypatch.setattr(script, "VERSIONS", {"v9": count})
    (tmp_path / "v9").mkdir()
    (tmp_path / "v9" / "test_a.py").write_text(tests)
    (tmp_path / "statements-v9.txt").write_text(statements)
    gaps, said = script.check_version("v9", tmp_path)
    assert said.startswith("v9: ")
    return gaps


def test_a_whole_list_has_no_gap(tmp_path, monkeypatch):
    assert gaps_of(tmp_path, monkeypatch) == []


GAPS = {
    "lost-statement": (
        {"statements": LIST.replace("MQTT-1.0.0-3 both\n    none: it can neither\n", "")}, "the standard has 3"),
    "no-test": ({"statements": LIST.replace("    none: it can neither\n", "")}, "MQTT-1.0.0-3: needs a test"),
    "test-and-reason": (
        {"statements": LIST.replace("    none:", "    test_a.py::test_mqtt_1_0_0_1_this\n    none:")},
        "MQTT-1.0.0-2: needs a test or"),
    "test-gone": ({"tests": TESTS.replace("_that", "_other")}, "no test_a.py::test_mqtt_1_0_0_1_that"),
    "test-not-listed": (
        {"tests": TESTS + "def test_mqtt_1_0_0_2_x(): pass\n"}, "not listed under MQTT-1.0.0-2"),
    "test-of-nothing": ({"tests": TESTS + "def test_x(): pass\n"}, "test_x: is not named after"),
    "test-of-no-statement": (
        {"tests": TESTS + "def test_mqtt_1_0_0_4_x(): pass\n"}, "is not named after"),
    "test-twice": ({"tests": TESTS + TESTS}, "defined twice"),
    "test-skipped": ({"tests": "@pytest.mark.skip\n" + TESTS}, "test_mqtt_1_0_0_1_this: is skipped"),
    "statement-twice": ({"statements": LIST + "MQTT-1.0.0-1 both\n"}, "a second time"),
    "bad-side": ({"statements": LIST.replace("server", "broker")}, "not ID BINDS"),
    "bad-line": ({"statements": LIST + "    some words\n"}, "neither FILE::TEST nor"),
}


@pytest.mark.parametrize("name", GAPS)
def test_a_gap_is_seen(tmp_path, monkeypatch, name):
    change, expected = GAPS[name]
    gaps = gaps_of(tmp_path, monkeypatch, **change)
    assert any(expected in gap for gap in gaps), gaps
