#!/usr/bin/env python3
"""Holds the lists of the standards' statements against the tests. Ends with 1 on a gap."""

import ast
import collections
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
# How many numbered statements Appendix B has: a line that is lost is a gap.
VERSIONS = {"v311": 141, "v5": 251}

ID = re.compile(r"MQTT-\d+\.\d+\.\d+-\d+")
NAME = re.compile(r"test_mqtt_(\d+)_(\d+)_(\d+)_(\d+)_[a-z]\w*")


class Statement:
    """One entry of a list."""

    def __init__(self, id, binds):
        self.id, self.binds = id, binds
        self.tests, self.reason = [], ""


def read_list(text, gaps):
    """The statements of a list by id; what is wrong with its lines goes to `gaps`."""
    found, current = {}, None
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or line.startswith("#"):
            continue
        if line[0] != " ":
            current = read_head(words, found)
            if current is None:
                gaps.append(f"line {number}: not ID BINDS, or an id a second time: {line}")
        elif current is None:
            gaps.append(f"line {number}: belongs to no statement: {line.strip()}")
        elif words[0] == "none:" and not current.reason:
            current.reason = " ".join(words[1:]) or "?"
        elif line.startswith(" " * 8) and current.reason:
            current.reason += " " + " ".join(words)
        elif len(words) == 1 and words[0].count("::") == 1:
            current.tests.append(words[0])
        else:
            gaps.append(f"line {number}: neither FILE::TEST nor none: REASON: {line.strip()}")
    return found


def read_head(words, found):
    good = ID.fullmatch(words[0]) and words[0] not in found and len(words) == 2
    if not good or words[1] not in ("server", "client", "both"):
        return None
    found[words[0]] = Statement(*words)
    return found[words[0]]


def statement_of(test):
    """The id that a test is named after, or None."""
    match = NAME.fullmatch(test)
    return "MQTT-{}.{}.{}-{}".format(*match.groups()) if match else None


def read_shared(folder):
    """{MODULE.TEST: its decorators} of what both versions have in common."""
    return {
        f"{file.stem}.{node.name}": node.decorator_list
        for file in sorted(folder.glob("*.py"))
        for node in ast.parse(file.read_text(), str(file)).body
        if isinstance(node, ast.FunctionDef)
    }


def read_test(node, shared):
    """The name of the test that a statement of Python makes, and its decorators; None for the name
    where it makes none, and for the decorators where the shared test is not there."""
    if isinstance(node, ast.FunctionDef):
        name, decorators = node.name, node.decorator_list
    elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        name, decorators = node.targets[0].id, shared.get(ast.unparse(node.value))
    else:
        return None, []
    return (name if name.startswith("test") else None), decorators


def read_tests(folder, shared, gaps):
    """{FILE::TEST: the marks that say that it is not expected to pass}."""
    found = {}
    for file in sorted(folder.glob("test_*.py")):
        for node in ast.walk(ast.parse(file.read_text(), str(file))):
            test, decorators = read_test(node, shared)
            if test is None:
                continue
            name = f"{file.name}::{test}"
            if name in found:
                gaps.append(f"{name}: defined twice; the first is never run")
            if decorators is None:
                gaps.append(f"{name}: there is no {ast.unparse(node.value)}")
            decorators = [ast.unparse(decorator) for decorator in decorators or []]
            if any(re.search(r"\bmark\.skip\b", text) for text in decorators):
                gaps.append(f"{name}: is skipped")
            found[name] = [t for t in decorators if re.match(r"pending|defect", t)]
    return found


def check(statements, tests, count, gaps):
    """Adds what is missing to `gaps`."""
    if len(statements) != count:
        gaps.append(f"{len(statements)} statements are listed; the standard has {count}")
    listed = collections.defaultdict(set)
    for it in statements.values():
        if bool(it.tests) == bool(it.reason):
            gaps.append(f"{it.id}: needs a test or a reason why none can be, and not both")
        for test in it.tests:
            listed[test].add(it.id)
            if test not in tests:
                gaps.append(f"{it.id}: there is no {test}")
    for test in tests:
        id = statement_of(test.split("::")[1])
        if id not in statements:
            gaps.append(f"{test}: is not named after a statement of the list")
        elif id not in listed[test]:
            gaps.append(f"{test}: is not listed under {id}")


def check_version(version, folder=HERE):
    """(gaps, a line that sums up)."""
    gaps = []
    statements = read_list((folder / f"statements-{version}.txt").read_text(), gaps)
    tests = read_tests(folder / version, read_shared(folder / "both"), gaps)
    check(statements, tests, VERSIONS[version], gaps)
    all = statements.values()
    waiting = sum(bool(marks) for marks in tests.values())
    said = (
        f"{version}: {len(statements)} statements: {sum(bool(s.tests) for s in all)} with tests, "
        f"{sum(bool(s.reason) for s in all)} with a reason; "
        f"{len(tests)} tests, {waiting} of them expected to fail as a whole"
    )
    return [f"{version}: {gap}" for gap in gaps], said


def main():
    bad = False
    for version in VERSIONS:
        gaps, said = check_version(version)
        print(said)
        for gap in gaps:
            print(f"  {gap}", file=sys.stderr)
        bad = bad or bool(gaps)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
