"""Policies over real connections: those of the guide, those that change, and those that are attacked."""

import json
import pathlib

import pytest

from guide_policies import ARN, CASES, HTTP_CASES, document, statement
from harness import raw
from harness.daemon import allow
from harness.wait import until

GUIDE = {"gateway": {"region": "us-east-1", "account_id": "123456789012"}}
NOT_AUTHORIZED = 5


@pytest.fixture
def gateway(daemon):
    return daemon(config=GUIDE).start()


def policy_file(gateway, name, policy):
    file = gateway.folder / f"{name}.json"
    file.write_text(json.dumps(policy))
    return file


def new_policy(gateway, name, policy):
    gateway.ctl_ok("policy", "create", name, policy_file(gateway, name, policy))


def replace(gateway, name, policy):
    gateway.ctl_ok("policy", "create", name, policy_file(gateway, name, policy), "--replace")


def connack(gateway, identity, client_id, **how):
    with raw.Connection(gateway.ports["mqtts"], identity=identity) as link:
        link.send(raw.connect(client_id, **how))
        return link.expect(raw.CONNACK).code


def may_publish(link, topic):
    """Whether a QoS 1 publish is acknowledged; 3.1.1 closes the connection otherwise."""
    link.send(raw.publish(topic, b"x", qos=1))
    try:
        answer = link.receive()
    except raw.Closed:
        return False
    assert answer.kind == raw.PUBACK
    return True


class Device:
    def __init__(self, gateway, policy):
        self.gateway = gateway
        self.identity = gateway.cert("device", policy=policy)

    def link(self, client_id="client", **how):
        link = raw.Connection(self.gateway.ports["mqtts"], identity=self.identity)
        link.connect(client_id, **how)
        return link


def test_each_policy_of_the_guide_means_what_it_says(gateway):
    identity = gateway.cert("device")
    witness = raw.Connection(gateway.ports["mqtt"])
    witness.connect("witness")
    port = gateway.ports["mqtts"]
    wrong = []

    def check(what, got, wanted):
        if got != wanted:
            wrong.append((what, wanted))

    for number, (name, policy, connect, publish, subscribe, receive) in enumerate(CASES):
        new_policy(gateway, f"guide{number}", policy)
        gateway.ctl_ok("policy", "attach", f"guide{number}", identity.id)
        for client_id, allowed in connect.items():
            code = connack(gateway, identity, client_id)
            check((name, "connect", client_id), code, 0 if allowed else NOT_AUTHORIZED)
        client_id = next((c for c, ok in connect.items() if ok), "client")
        client_id = "client" if client_id == "anyone" else client_id
        if not all(connect.values()) and client_id not in connect:
            client_id = None
        if client_id:
            for topic, allowed in publish.items():
                with raw.Connection(port, identity=identity) as link:
                    link.connect(client_id)
                    check((name, "publish", topic), may_publish(link, topic), allowed)
            for filter, allowed in subscribe.items():
                with raw.Connection(port, identity=identity) as link:
                    link.connect(client_id)
                    granted = link.subscribe((filter, 1))
                    check((name, "subscribe", filter), granted, [1 if allowed else 0x80])
            for topic, allowed in receive.items():
                with raw.Connection(port, identity=identity) as link:
                    link.connect(client_id)
                    filter = next(f for f, ok in subscribe.items() if ok)
                    assert link.subscribe((filter, 1)) == [1]
                    witness.send(raw.publish(topic, b"news", qos=1))
                    witness.expect(raw.PUBACK)
                    link.send(raw.pingreq())
                    kinds = [link.receive().kind]
                    if kinds == [raw.PUBLISH]:
                        kinds.append(link.receive().kind)
                    check((name, "receive", topic), raw.PUBLISH in kinds, allowed)
        gateway.ctl_ok("policy", "detach", f"guide{number}", identity.id)
    witness.close()
    assert wrong == []


def test_each_policy_of_the_guide_for_http_means_what_it_says(gateway):
    identity = gateway.cert("device")
    for number, (name, policy, topics) in enumerate(HTTP_CASES):
        new_policy(gateway, f"http{number}", policy)
        gateway.ctl_ok("policy", "attach", f"http{number}", identity.id)
        for topic, status in topics.items():
            got, text = gateway.https("POST", f"/topics/{topic}?qos=1", identity, b"x")
            assert got == status, (name, topic, text)
        gateway.ctl_ok("policy", "detach", f"http{number}", identity.id)


LIVE = (["iot:Connect"], ["*"])


def live(publish="a/*", filter="*", receive="*"):
    return allow(
        LIVE,
        (["iot:Publish"], [ARN + "topic/" + publish]),
        (["iot:Subscribe"], [ARN + "topicfilter/" + filter]),
        (["iot:Receive"], [ARN + "topic/" + receive]),
    )


def test_a_changed_policy_is_in_force_at_the_next_packet_and_drops_nobody(gateway):
    new_policy(gateway, "live", live())
    device = Device(gateway, "live")
    with device.link() as link, raw.Connection(gateway.ports["mqtt"]) as witness:
        witness.connect("witness")
        assert link.subscribe(("news/#", 0)) == [0]

        def hears(topic):
            """What comes before the answer to a ping that follows the message."""
            witness.send(raw.publish(topic, b"n", qos=1))
            witness.expect(raw.PUBACK)
            link.send(raw.pingreq())
            first = link.receive()
            if first.kind == raw.PUBLISH:
                assert first.topic == topic
                link.expect(raw.PINGRESP)
                return True
            assert first.kind == raw.PINGRESP
            return False

        assert hears("news/a")
        # Receive is taken away from the subscription that stays, and given back.
        replace(gateway, "live", live(receive="other/*"))
        assert not hears("news/a")
        assert not hears("news/b")
        replace(gateway, "live", live(receive="news/b"))
        assert not hears("news/a")
        assert hears("news/b")
        # The same by version, and by a policy of its own.
        gateway.ctl_ok("policy", "version", "set-default", "live", "1")
        assert hears("news/a")
        new_policy(gateway, "quiet", document(statement("Deny", ["iot:Receive"], "topic/news/*")))
        gateway.ctl_ok("policy", "attach", "quiet", device.identity.id)
        assert not hears("news/a")
        gateway.ctl_ok("policy", "detach", "quiet", device.identity.id)
        assert hears("news/a")
        # Subscribe and Publish.
        replace(gateway, "live", live(filter="news/*"))
        assert link.subscribe(("else/#", 0)) == [0x80]
        assert may_publish(link, "a/1")
        replace(gateway, "live", live(publish="b/*"))
        assert may_publish(link, "b/1")
        assert not may_publish(link, "a/1")


def test_attributes_of_a_thing_count_at_the_next_packet(gateway):
    policy = document(
        statement("Allow", ["iot:Connect"], "client/${iot:Connection.Thing.ThingName}"),
        statement("Allow", ["iot:Publish"], "topic/${iot:Connection.Thing.Attributes[room]}/*"),
    )
    new_policy(gateway, "room", policy)
    identity = gateway.cert("lamp", policy="room")
    gateway.ctl_ok(*"thing create lamp --attribute room=kitchen".split())
    assert connack(gateway, identity, "lamp") == NOT_AUTHORIZED
    gateway.ctl_ok("thing", "attach", "lamp", f"{ARN}cert/{identity.id}")
    with raw.Connection(gateway.ports["mqtts"], identity=identity) as link:
        link.connect("lamp")
        assert may_publish(link, "kitchen/t")
        gateway.ctl_ok(*"thing update lamp --attribute room=hall".split())
        assert may_publish(link, "hall/t")
        gateway.ctl_ok("thing", "detach", "lamp", identity.id)
        assert not may_publish(link, "hall/t")
    gateway.log_explains("${iot:Connection.Thing.Attributes[room]} has no value here")


def test_what_connect_asks_for_counts(gateway):
    only_will = {
        **statement("Allow", ["iot:Connect"], "*"),
        "Condition": {"ForAllValues:StringEquals": {"iot:ConnectAttributes": ["LastWill"]}},
    }
    last_words = {
        **statement("Deny", ["iot:Connect"], "*"),
        "Condition": {"ArnNotEqualsIfExists": {"iot:LastWillTopic": f"{ARN}topic/last/*"}},
    }
    new_policy(
        gateway, "facts", document(only_will, last_words, statement("Allow", ["iot:Publish"], "*"))
    )
    identity = gateway.cert("device", policy="facts")
    will = lambda topic, retain=False: {"will": (topic, b"x", 0, retain)}
    # Only a condition on a will that is there: without one nothing is compared.
    assert connack(gateway, identity, "c", **will("last/words")) == 0
    assert connack(gateway, identity, "c", **will("first/words")) == NOT_AUTHORIZED
    assert connack(gateway, identity, "c", clean=False, **will("last/words")) == NOT_AUTHORIZED
    # RETAIN of a will is an action of its own.
    assert connack(gateway, identity, "c", **will("last/words", True)) == NOT_AUTHORIZED
    gateway.log_explains("iot:RetainPublish", "topic/last/words", "no statement allows it")


def test_the_server_name_of_the_handshake_counts(gateway):
    here = {
        **statement("Allow", ["iot:Connect"], "*"),
        "Condition": {"StringEquals": {"iot:DomainName": "localhost"}},
    }
    new_policy(gateway, "here", document(here))
    identity = gateway.cert("device", policy="here")
    assert connack(gateway, identity, "c") == 0
    replace(
        gateway,
        "here",
        document({**here, "Condition": {"StringEquals": {"iot:DomainName": "other.example"}}}),
    )
    assert connack(gateway, identity, "c") == NOT_AUTHORIZED


# Attacks.

OWN = allow(
    (["iot:Connect"], ["*"]),
    (["iot:Publish"], [ARN + "topic/own/${iot:ClientId}/*"]),
    (["iot:Subscribe"], [ARN + "topicfilter/own/${iot:ClientId}/bar"]),
    (["iot:Receive"], [ARN + "topic/own/${iot:ClientId}/*"]),
)


@pytest.mark.parametrize(
    "client_id", ["+", "#", "*", "?", "../victim", "${iot:ClientId}", "${*}", "victim/../x", "a/b"]
)
def test_no_client_id_opens_what_is_anothers(gateway, client_id):
    new_policy(gateway, "own", OWN)
    device = Device(gateway, "own")
    with device.link(client_id) as link:
        for filter in ("own/victim/bar", "own/#", "#", "own/x/bar"):
            assert link.subscribe((filter, 0)) == [0x80], filter
        # Its own name is text, `+` the guide's own warning: Subscribe takes it, Receive does not.
        if client_id != "#":  # no filter has it in the middle
            assert link.subscribe((f"own/{client_id}/bar", 0)) == [0]
    with device.link(client_id) as link, raw.Connection(gateway.ports["mqtt"]) as witness:
        witness.connect("witness")
        if client_id == "+":
            assert link.subscribe(("own/+/bar", 0)) == [0]
            witness.send(raw.publish("own/victim/bar", b"secret", qos=1))
            witness.expect(raw.PUBACK)
            link.ping()
    with device.link(client_id) as link:
        assert not may_publish(link, "own/victim/x")


def test_the_longest_client_id_is_one_like_others(gateway):
    new_policy(gateway, "own", OWN)
    device = Device(gateway, "own")
    longest = "x" * 65_535
    with device.link(longest) as link:
        assert link.subscribe(("own/x/bar", 0)) == [0x80]
        # No variable has a value of more than 1,024 characters.
        assert not may_publish(link, "own/" + "x" * 2000 + "/y")


def test_a_will_outside_the_policy_is_refused(gateway):
    new_policy(gateway, "own", OWN)
    device = Device(gateway, "own")
    will = {"will": ("own/victim/last", b"x", 1, False)}
    assert connack(gateway, device.identity, "me", **will) == NOT_AUTHORIZED
    assert connack(gateway, device.identity, "me", will=("own/me/last", b"x", 1, False)) == 0
    gateway.log_explains("iot:Publish", "topic/own/victim/last", "no statement allows it")


def test_retained_messages_need_receive_too(gateway):
    new_policy(gateway, "deaf", live(receive="public/*"))
    device = Device(gateway, "deaf")
    with raw.Connection(gateway.ports["mqtt"]) as witness:
        witness.connect("witness")
        for topic in ("secret/plan", "public/plan"):
            witness.send(raw.publish(topic, b"old", qos=1, retain=True))
            witness.expect(raw.PUBACK)
    with device.link() as link:
        assert link.subscribe(("#", 1)) == [1]
        got = link.expect(raw.PUBLISH)
        assert (got.topic, got.retain) == ("public/plan", True)
        link.send(raw.puback(got.packet_id))
        link.ping()
    dropped = until(
        lambda: gateway.ctl_json("status").get("dropped", {}).get("policy"), "it is counted"
    )
    assert dropped == 1
    # The data plane asks for its own actions.
    for path in ("/retainedMessage/public%2Fplan", "/retainedMessage"):
        assert gateway.https("GET", path, device.identity)[0] == 403


def test_more_than_five_versions_or_ten_policies_are_refused(gateway):
    new_policy(gateway, "p0", live())
    identity = gateway.cert("device", policy="p0")
    for n in range(1, 10):
        new_policy(gateway, f"p{n}", live())
        gateway.ctl_ok("policy", "attach", f"p{n}", identity.id)
    new_policy(gateway, "p10", live())
    refused = gateway.ctl("policy", "attach", "p10", identity.id)
    assert refused.returncode == 1 and "at most 10 policies" in refused.stderr
    file = policy_file(gateway, "v", live(publish="v/*"))
    for number in range(2, 6):
        made = gateway.ctl_json("policy", "version", "create", "p0", file)
        assert (made["versionId"], made["isDefaultVersion"]) == (number, False)
    refused = gateway.ctl("policy", "version", "create", "p0", file)
    assert refused.returncode == 1 and "5 versions" in refused.stderr
    assert gateway.ctl("policy", "version", "delete", "p0", "1").returncode == 1
    gateway.ctl_ok("policy", "version", "set-default", "p0", "3")
    gateway.ctl_ok("policy", "version", "delete", "p0", "1")
    versions = gateway.ctl_json("policy", "version", "list", "p0")
    assert [(v["versionId"], v["isDefaultVersion"]) for v in versions] == [
        (2, False), (3, True), (4, False), (5, False),
    ]
    assert json.loads(gateway.ctl_ok("policy", "version", "show", "p0", "3")) == live(publish="v/*")
    long = policy_file(gateway, "long", live(publish="x" * 2048))
    refused = gateway.ctl("policy", "create", "long", long)
    assert refused.returncode == 1 and "at most 2048" in refused.stderr


def test_the_explanation_is_that_of_the_log(gateway):
    new_policy(gateway, "own", OWN)
    device = Device(gateway, "own")
    with device.link("c7") as link:
        assert not may_publish(link, "own/other/x")
    question = ["--client-id", "c7", "--action", "iot:Publish", "--resource", "own/other/x"]
    done = gateway.ctl("policy", "explain", "--cert", device.identity.id, *question)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[0] == "deny"
    for line in (
        f"principal  {device.identity.id}",
        "client id  c7",
        "action     iot:Publish",
        f"resource   {ARN}topic/own/other/x",
        "  statement 2 Allow: no: the resource does not match",
        f"    on {ARN}topic/own/c7/*",
        "verdict    deny, because no statement allows it",
    ):
        assert line in lines, done.stdout
    gateway.log_explains(*[line.strip() for line in lines[1:] if line.strip()])


def test_lint_says_what_never_matches_and_what_opens_too_much(gateway):
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            statement("Allow", ["iot:Connect"], "client/${iot:ClientId}"),
            statement("Allow", ["iot:Subscribe"], "topic/foo"),
            statement("Allow", ["iot:Publish"], "topic/foo/+/bar", "topic/*/x"),
            {"Effect": "Allow", "Action": "iot:Publish",
             "Resource": "arn:aws:iot:eu-west-1:123456789012:topic/${iot:ClientId}"},
            {"Effect": "Allow", "NotAction": "iot:Publish", "Resource": "*"},
        ],
    }
    file = policy_file(gateway, "odd", policy)
    said = gateway.ctl_ok(
        "policy", "lint", file, "--region", "us-east-1", "--account-id", "123456789012"
    )
    for words in (
        "statement 4: rests on ${iot:ClientId}, and by statement 1 a client may connect",
        "statement 2: iot:Subscribe is asked on a topicfilter ARN",
        "statement 3: '+' and '#' are ordinary characters",
        "statement 3: '*' in",
        "can never match: this gateway's region is \"us-east-1\"",
        "statement 5: allows every action but",
    ):
        assert words in said, (words, said)
    made = gateway.ctl_ok("policy", "create", "odd", file)
    assert "this gateway's region" in made
