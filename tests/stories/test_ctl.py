"""Every command of `iotedgectl` does what it says, in words and in JSON, with its exit code."""

import json
import stat
import subprocess

import pytest

from harness import pki, raw
from harness.clients import Client, Refused
from harness.daemon import allow, certificate_id
from harness.process import Process, run
from harness.wait import until

ARN = "arn:aws:iot:local:000000000000:"
METER = allow(
    (["iot:Connect"], [ARN + "client/${iot:ClientId}"]),
    (["iot:Publish"], [ARN + "topic/meters/${iot:ClientId}/*"]),
)


def a_file(folder, name, document):
    path = folder / name
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def test_status(gateway):
    with raw.Connection(gateway.ports["mqtt"]) as link:
        link.connect("someone", clean=False)
        text = gateway.ctl_ok("status")
        for name in ("mqtt", "mqtts", "https"):
            assert str(gateway.ports[name]) in text, text
        answer = gateway.ctl_json("status")
    addresses = {one["address"] for one in answer["listeners"]}
    assert {f"127.0.0.1:{gateway.ports[n]}" for n in ("mqtt", "mqtts", "https")} <= addresses
    assert answer["clients"] == 1 and answer["sessions"] == 1, answer


def test_status_without_a_daemon(daemon):
    gateway = daemon()
    done = gateway.ctl("status")
    assert done.returncode == 1
    assert str(gateway.socket) in done.stderr


def test_wrong_usage_is_2(gateway):
    for argv in (["frobnicate"], ["cert"], ["cert", "create"], ["publish"], ["status", "--nonsense"]):
        done = gateway.ctl(*argv)
        assert done.returncode == 2, (argv, done.returncode, done.stderr)
        assert done.stderr


def test_help_and_version(binaries):
    for program in (binaries.iotedged, binaries.iotedgectl):
        for option in ("--help", "--version"):
            done = run([program, option])
            assert done.returncode == 0, done.stderr
            assert done.stdout


def test_cert_create(gateway, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    answer = gateway.ctl_json("cert", "create", "--name", "m1", "--out", out)
    assert sorted(p.name for p in out.iterdir()) == ["ca.pem", "m1.key", "m1.pem"]
    ident = certificate_id(out / "m1.pem")
    assert ident in json.dumps(answer)
    assert stat.S_IMODE((out / "m1.key").stat().st_mode) == 0o600
    verified = run(["openssl", "verify", "-CAfile", out / "ca.pem", out / "m1.pem"])
    assert verified.returncode == 0, verified.stderr
    assert ident in gateway.ctl_ok("cert", "list")
    assert ident in gateway.ctl_ok("cert", "describe", ident)
    # What is there is not overwritten.
    before = (out / "m1.key").read_bytes()
    again = gateway.ctl("cert", "create", "--name", "m1", "--out", out)
    assert again.returncode == 1 and (out / "m1.key").read_bytes() == before


def test_cert_create_with_an_unknown_policy_makes_nothing(gateway, tmp_path):
    before = gateway.ctl_ok("cert", "list")
    done = gateway.ctl("cert", "create", "--name", "m1", "--policy", "nowhere", "--out", tmp_path)
    assert done.returncode == 1 and "nowhere" in done.stderr
    assert gateway.ctl_ok("cert", "list") == before
    assert not (tmp_path / "m1.key").exists()


def test_cert_deactivate_activate_revoke(gateway):
    device = gateway.cert("m1", policy="open")

    def may_connect():
        try:
            Client("m1", gateway.ports["mqtts"], identity=device).connect().disconnect()
        except (Refused, OSError, AssertionError):
            return False
        return True

    assert may_connect()
    gateway.ctl_ok("cert", "deactivate", device.id)
    assert not may_connect()
    gateway.ctl_ok("cert", "activate", device.id)
    assert may_connect()
    gateway.ctl_ok("cert", "revoke", device.id)
    assert not may_connect()
    assert "revoked" in gateway.ctl_ok("cert", "describe", device.id).lower()
    assert gateway.ctl("cert", "revoke", "0" * 64).returncode == 1
    gateway.restart()
    assert not may_connect()


def test_policy_create_attach_and_explain(gateway, tmp_path):
    device = gateway.cert("m1")
    file = a_file(tmp_path, "meter.json", METER)
    gateway.ctl_ok("policy", "create", "meter", file)
    with pytest.raises(Refused):
        Client("m1", gateway.ports["mqtts"], identity=device).connect()
    gateway.ctl_ok("policy", "attach", "meter", device.id)
    client = Client("m1", gateway.ports["mqtts"], identity=device).connect()
    client.publish("meters/m1/kwh", b"1")
    client.disconnect()

    explain = ["policy", "explain", "--cert", device.id, "--client-id", "m1", "--action", "iot:Publish"]
    yes = gateway.ctl_ok(*explain, "--resource", "meters/m1/kwh")
    assert "allow" in yes.lower() and "meters/m1/*" in yes, yes
    no = gateway.ctl(*explain, "--resource", "meters/m2/kwh")
    assert "deny" in (no.stdout + no.stderr).lower(), no
    assert "meter" in gateway.ctl_ok("policy", "list")
    assert "meters/" in gateway.ctl_ok("policy", "show", "meter")

    # It is still attached after a kill.
    gateway.kill()
    gateway.start()
    Client("m1", gateway.ports["mqtts"], identity=device).connect().disconnect()
    gateway.ctl_ok("policy", "detach", "meter", device.id)
    with pytest.raises(Refused):
        Client("m1", gateway.ports["mqtts"], identity=device).connect()
    gateway.ctl_ok("policy", "delete", "meter")
    assert gateway.ctl("policy", "show", "meter").returncode == 1


def test_policy_create_refuses_what_is_no_policy(gateway, tmp_path):
    for name, text in (
        ("no-json", "{"),
        ("effect", json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Maybe"}]})),
    ):
        done = gateway.ctl("policy", "create", name, a_file(tmp_path, "p.json", text))
        assert done.returncode == 1 and done.stderr, done
        assert gateway.ctl("policy", "show", name).returncode == 1
    assert gateway.ctl("policy", "create", "gone", tmp_path / "no-such-file").returncode == 1
    taken = gateway.ctl("policy", "create", "open", a_file(tmp_path, "p.json", METER))
    assert taken.returncode == 1, "`open` is a file of policies.d"


def test_shadow_get_and_update(gateway):
    missing = gateway.ctl("shadow", "get", "lamp")
    assert missing.returncode == 1 and "404" in missing.stdout + missing.stderr, missing
    document = json.dumps({"state": {"desired": {"on": True}}})
    gateway.ctl_ok("shadow", "update", "lamp", document)
    answer = json.loads(gateway.ctl_ok("shadow", "get", "lamp"))
    assert answer["state"]["desired"] == {"on": True} and answer["version"] == 1
    assert gateway.ctl_json("shadow", "get", "lamp")["state"]["desired"] == {"on": True}
    bad = gateway.ctl("shadow", "update", "lamp", '{"nostate": 1}')
    assert bad.returncode == 1 and "Missing required node: state" in bad.stdout + bad.stderr
    gateway.kill()
    gateway.start()
    assert gateway.ctl_json("shadow", "get", "lamp")["version"] == 1


def test_rule_test_needs_no_daemon(binaries, tmp_path):
    payload = a_file(tmp_path, "p.json", {"t": 21.5, "unit": "C"})

    def rule_test(sql, *more, topic="a/b/c"):
        argv = [binaries.iotedgectl, "rule", "test", "--sql", sql, "--topic", topic, "--payload", payload]
        return run([*argv, *more])

    done = rule_test("SELECT t * 2 AS double, topic(2) AS middle FROM 'a/+/c' WHERE t > 20")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"double": 43, "middle": "b"}
    assert done.stdout.endswith("}\n")
    done = rule_test("SELECT * FROM 'a/+/c' WHERE t > 30")
    assert (done.returncode, done.stdout) == (0, "no match\n")
    done = rule_test("SELECT * FROM 'other'")
    assert (done.returncode, done.stdout) == (0, "no match\n")
    done = rule_test("SELECT clientid() AS c FROM '#'", "--client-id", "me")
    assert json.loads(done.stdout) == {"c": "me"}
    done = rule_test("SELECT * FROM '#'", "--template", "out/${topic(1)}/${unit}")
    assert (done.returncode, done.stdout) == (0, "out/a/C\n")
    done = rule_test("SELEKT")
    assert done.returncode == 1 and done.stdout + done.stderr


def test_rule_test_explains_each_part(binaries, tmp_path):
    payload = a_file(tmp_path, "payload.json", {"t": 25, "unit": "c"})
    argv = [binaries.iotedgectl, "rule", "test", "--sql-version", "2016-03-23", "--topic", "a/b"]
    argv += ["--payload", payload, "--explain", "--sql"]
    done = run([*argv, "SET @d = t * 2 SELECT @d AS d FROM 'a/+' WHERE t > 20 AND unit = 'f'"])
    assert done.returncode == 0, done
    values = {" ".join(line.split()[:-1]): line.split()[-1] for line in done.stdout.splitlines() if line}
    assert values["FROM 'a/+'"] == "true"
    assert values["SET @d = t * 2"] == "50"
    assert values["t > 20"] == "true" and values["unit = 'f'"] == "false"
    assert values["WHERE t > 20 AND unit = 'f'"] == "false"
    assert done.stdout.splitlines()[-1] == "no match"
    answer = json.loads(run([*argv, "SELECT t FROM 'a/+'", "--json"]).stdout)
    assert answer["match"] is True and answer["payload"] == '{"t":25}'
    assert answer["explain"][1] == {"clause": "SELECT", "depth": 0, "text": "t", "value": "25"}
    # What fails is explained too.
    failing = [*argv, "SELECT *, get_secret('s', 'SecretString', 'r') AS s FROM 'a/+'"]
    done = run(failing)
    assert done.returncode == 1 and "AWS Secrets Manager" in done.stderr
    assert "error: get_secret() asks AWS Secrets Manager" in done.stdout
    done = run([*failing, "--json"])
    assert done.returncode == 1 and "AWS Secrets Manager" in json.loads(done.stdout)["error"]


def test_publish_and_subscribe(gateway):
    hears = Process(
        [gateway.binaries.iotedgectl, "--socket", gateway.socket,
         "subscribe", "greet/#", "-q", "1", "-n", "2"],
        "subscribe",
    )
    client = Client("other", gateway.ports["mqtt"]).connect()
    client.subscribe("greet/#", 1)
    # One who hears it all tells when the command is there.
    until(lambda: gateway.ctl_json("status")["clients"] >= 2 or gateway.ctl_json("status")["sessions"] >= 2,
          "the subscriber is there", every=0.05)
    gateway.ctl_ok("publish", "greet/world", "-q", "1", "hello")
    assert client.next()[:2] == ("greet/world", b"hello")
    client.publish("greet/ctl", b"and back")
    assert hears.wait(10) == 0
    assert "hello" in hears.log and "and back" in hears.log, hears.log
    gateway.ctl_ok("publish", "state/x", "-q", "1", "-r", "kept")
    late = Client("late", gateway.ports["mqtt"]).connect()
    late.subscribe("state/#", 1)
    got = late.next()
    assert got.payload == b"kept" and got.retain
    refused = gateway.ctl("publish", "a/#", "x")
    assert refused.returncode in (1, 2) and refused.stderr
    late.disconnect()
    client.disconnect()


def test_subscribe_ends_at_a_closed_pipe(gateway):
    """`iotedgectl subscribe | head -1` does not hang and does not panic."""
    argv = [str(gateway.binaries.iotedgectl), "--socket", str(gateway.socket), "subscribe", "t"]
    child = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    child.stdout.close()
    client = Client("c", gateway.ports["mqtt"]).connect()
    try:
        for _ in range(200):
            client.publish("t", b"x")
            try:
                child.wait(0.05)
                break
            except subprocess.TimeoutExpired:
                continue
        assert child.poll() is not None, "it still runs"
        assert b"panicked" not in child.stderr.read()
    finally:
        child.kill()
        child.wait()
        client.disconnect()


def test_bridge_status_without_upstreams(gateway):
    answer = gateway.ctl_json("bridge", "status")
    upstreams = answer["upstreams"] if isinstance(answer, dict) else answer
    assert upstreams == []
    gateway.ctl_ok("bridge", "status")


def test_rules_and_things_are_listed(daemon):
    rule = {
        "sql": "SELECT * FROM 'a'",
        "actions": [{"republish": {"topic": "b", "roleArn": "arn:aws:iam::123456789012:role/r"}}],
    }
    gateway = daemon(rules={"copy": rule}).start()
    assert "copy" in gateway.ctl_ok("rule", "list")
    gateway.cert("m1", policy="open", thing="boiler")
    assert "boiler" in gateway.ctl_ok("thing", "list")


def test_the_socket_is_for_the_owner_only(gateway):
    assert stat.S_IMODE(gateway.socket.stat().st_mode) & 0o007 == 0


def test_a_certificate_made_as_the_guide_makes_it(gateway, tmp_path):
    """`openssl x509 -req` without extensions makes version 1 certificates; they are registered."""
    ca, ca_key = pki.make_ca(tmp_path / "pki", "own-ca")
    key, request, cert = (tmp_path / n for n in ("device.key", "device.csr", "device.pem"))
    for argv in (
        ["genrsa", "-out", key, "2048"],
        ["req", "-new", "-key", key, "-subj", "/CN=device", "-out", request],
        ["x509", "-req", "-in", request, "-CA", ca, "-CAkey", ca_key, "-CAcreateserial",
         "-out", cert, "-days", "365", "-sha256"],
    ):
        done = run(["openssl", *argv])
        assert done.returncode == 0, done.stderr
    device = gateway.cert("trust", policy="open")
    device.certificate, device.key = cert, key
    with pytest.raises((Refused, OSError, AssertionError)):
        Client("device", gateway.ports["mqtts"], identity=device).connect()
    gateway.ctl_ok("cert", "register", "--pem", cert, "--policy", "open")
    client = Client("device", gateway.ports["mqtts"], identity=device).connect()
    client.publish("t", b"from a version 1 certificate")
    client.disconnect()
    assert certificate_id(cert) in gateway.ctl_ok("cert", "list")
