"""Every statement has its test, and the script that says so sees what is missing."""

import check_statements as script
import pytest


@pytest.mark.parametrize("version", script.VERSIONS)
def test_every_statement_has_a_test_or_a_reason(version):
    gaps, said = script.check_version(version)
    print(said)
    assert gaps == []


@pytest.mark.parametrize("version", script.VERSIONS)
def test_what_the_versions_have_in_common_is_run_for_each(version):
    text = "".join(file.read_text() for file in (script.HERE / version).glob("test_*.py"))
    shared = script.read_shared(script.HERE / "both")
    assert [name for name in shared if "._" not in name and name not in text] == []


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


def gaps_of(tmp_path, monkeypatch, statements=LIST, tests=TESTS, count=3, shared=""):
    monkeypatch.setattr(script, "VERSIONS", {"v9": count})
    (tmp_path / "v9").mkdir()
    (tmp_path / "v9" / "test_a.py").write_text(tests)
    (tmp_path / "both").mkdir()
    (tmp_path / "both" / "all.py").write_text(shared)
    (tmp_path / "statements-v9.txt").write_text(statements)
    gaps, said = script.check_version("v9", tmp_path)
    assert said.startswith("v9: ")
    return gaps


SHARING = TESTS.replace("def test_mqtt_1_0_0_1_that(): pass", "test_mqtt_1_0_0_1_that = all.that")


@pytest.mark.parametrize("made", [{}, {"tests": SHARING, "shared": "def that(): pass"}])
def test_a_whole_list_has_no_gap(tmp_path, monkeypatch, made):
    assert gaps_of(tmp_path, monkeypatch, **made) == []


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
    "shared-test-gone": ({"tests": SHARING, "shared": "def other(): pass"}, "there is no all.that"),
    "shared-test-skipped": (
        {"tests": SHARING, "shared": "@mark.skip\ndef that(): pass"}, "test_mqtt_1_0_0_1_that: is skipped"),
    "statement-twice": ({"statements": LIST + "MQTT-1.0.0-1 both\n"}, "a second time"),
    "bad-side": ({"statements": LIST.replace("server", "broker")}, "not ID BINDS"),
    "bad-line": ({"statements": LIST + "    some words\n"}, "neither FILE::TEST nor"),
}


@pytest.mark.parametrize("name", GAPS)
def test_a_gap_is_seen(tmp_path, monkeypatch, name):
    change, expected = GAPS[name]
    gaps = gaps_of(tmp_path, monkeypatch, **change)
    assert any(expected in gap for gap in gaps), gaps
