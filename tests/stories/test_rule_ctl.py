"""Rules made, replaced, switched and deleted by command, at run time and over a kill."""

import json

import pytest

from harness.clients import Client

ROLE = "arn:aws:iam::123456789012:role/r"


def copy_rule(to, source="in/#", **more):
    actions = [{"republish": {"topic": to, "roleArn": ROLE, "qos": 1}}]
    return {"sql": f"SELECT *, topic() AS t FROM '{source}'", "actions": actions, **more}


@pytest.fixture
def home(daemon, tmp_path):
    gateway = daemon(rules={"of_file": copy_rule("file/out", "file/in")}).start()

    def a_file(name, document):
        path = tmp_path / name
        path.write_text(document if isinstance(document, str) else json.dumps(document))
        return path

    def goes_to():
        """Where a message goes; rules run before their source is acknowledged."""
        client = Client("c", gateway.ports["mqtt"]).connect()
        client.subscribe("#", 1)
        client.publish("in/x", b'{"a":1}')
        client.publish("end", b"{}")
        topics = []
        while "end" not in topics:
            topics.append(client.next().topic)
        client.disconnect()
        return sorted(set(topics) - {"in/x", "end"})

    return gateway, a_file, goes_to


def test_a_rule_lives_by_command(home):
    gateway, a_file, goes_to = home
    assert goes_to() == []
    said = gateway.ctl_ok("rule", "create", "mine", a_file("one.json", copy_rule("out/one")))
    assert said.strip() == "mine enabled"
    assert goes_to() == ["out/one"]
    gateway.ctl_ok("rule", "replace", "mine", a_file("two.json", copy_rule("out/two")))
    assert goes_to() == ["out/two"]
    assert gateway.ctl_ok("rule", "disable", "mine").strip() == "mine disabled"
    assert goes_to() == []
    # What is committed when the command has answered survives a kill.
    gateway.kill()
    gateway.start()
    assert goes_to() == []
    listed = {rule["ruleName"]: rule for rule in json.loads(gateway.ctl_ok("rule", "list", "--json"))}
    assert listed["mine"]["ruleDisabled"] is True and listed["mine"]["origin"] == "store"
    assert listed["of_file"]["origin"] == "file"
    assert listed["of_file"]["file"].endswith("rules.d/of_file.json")
    gateway.ctl_ok("rule", "enable", "mine")
    gateway.ctl_ok("reload")
    assert goes_to() == ["out/two"]
    # The document goes back into a file as it came.
    shown = json.loads(gateway.ctl_ok("rule", "show", "mine"))
    assert shown == {**copy_rule("out/two"), "ruleDisabled": False}
    gateway.ctl_ok("rule", "delete", "mine")
    assert goes_to() == []
    assert gateway.ctl("rule", "show", "mine").returncode == 1


def test_refused_commands_say_why_and_change_nothing(home):
    gateway, a_file, goes_to = home
    good = a_file("good.json", copy_rule("out/one"))
    gateway.ctl_ok("rule", "create", "mine", good)
    broken = a_file("broken.json", copy_rule("out/one", "in/#/x"))
    for argv, reason in [
        (["create", "mine", good], "there is a rule \"mine\" already"),
        (["replace", "other", good], "there is no rule \"other\""),
        (["create", "of_file", good], "of_file.json"),
        (["disable", "of_file"], "change the file and reload"),
        (["delete", "nowhere"], "there is no rule"),
        (["replace", "mine", broken], "column 29"),
        (["create", "a b", good], "a rule's name"),
    ]:
        done = gateway.ctl("rule", *argv)
        assert done.returncode == 1 and reason in done.stderr, (argv, done)
    assert goes_to() == ["out/one"]
    # A file of the same name: the reload is refused as a whole.
    gateway.rules["mine"] = copy_rule("out/file")
    gateway.rules["of_file"] = copy_rule("out/changed")
    gateway.write()
    done = gateway.ctl("reload")
    assert done.returncode == 1 and "mine.json" in done.stdout + done.stderr, done
    assert goes_to() == ["out/one"]
