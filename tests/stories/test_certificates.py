"""Certificates and their authorities: the guide's own commands, devices that register themselves,
rotation, revocation."""

import json
import pathlib
import ssl
import threading

import pytest

from harness import pki, raw
from harness.clients import Client, Refused
from harness.daemon import certificate_id
from harness.process import run
from harness.wait import until


def openssl(folder, line, answers=()):
    """A command of the guide; its questions are answered line by line."""
    text = "".join(f"{a}\n" for a in answers)
    done = run(["openssl", *line.split()], cwd=folder, input=text or None)
    assert done.returncode == 0, f"openssl {line}:\n{done.stderr}"


def subject(name):
    """Country, state, locality, organization, unit, common name, mail address."""
    return ["DE", "Bavaria", "Munich", "Works", "Pumps", name, "pumps@example.com"]


# What `openssl req -new` asks behind the subject: a challenge password and a company name.
NO_MORE = ["", ""]


class Fleet:
    """A manufacturer with a CA of its own, who reads the guide of 2016."""

    def __init__(self, folder, name="fleet"):
        folder.mkdir(parents=True)
        self.folder = folder
        openssl(folder, "genrsa -out rootCA.key 2048")
        openssl(
            folder,
            "req -x509 -new -nodes -key rootCA.key -sha256 -days 1024 -out rootCA.pem",
            subject(name),
        )
        self.ca = folder / "rootCA.pem"
        self.id = certificate_id(self.ca)

    def verification(self, code):
        openssl(self.folder, "genrsa -out privateKeyVerificationCert.key 2048")
        openssl(
            self.folder,
            "req -new -key privateKeyVerificationCert.key -out privateKeyVerificationCert.csr",
            subject(code) + NO_MORE,
        )
        openssl(
            self.folder,
            "x509 -req -in privateKeyVerificationCert.csr -CA rootCA.pem -CAkey rootCA.key "
            "-CAcreateserial -out privateKeyVerificationCert.crt -days 500 -sha256",
        )
        return self.folder / "privateKeyVerificationCert.crt"

    def device(self, name="deviceCert"):
        openssl(self.folder, f"genrsa -out {name}.key")
        openssl(self.folder, f"req -new -key {name}.key -out {name}.csr", subject(name) + NO_MORE)
        openssl(
            self.folder,
            f"x509 -req -in {name}.csr -CA rootCA.pem -CAkey rootCA.key -CAcreateserial "
            f"-out {name}.crt -days 500 -sha256",
        )
        return self.folder / f"{name}.crt", self.folder / f"{name}.key"

    def revoke(self, *certificates):
        """A revocation list with these in it."""
        (self.folder / "index.txt").touch()
        (self.folder / "crlnumber").write_text("01\n")
        (self.folder / "ca.cnf").write_text(
            "[ca]\ndefault_ca=a\n[a]\ndatabase=index.txt\ncrlnumber=crlnumber\ndefault_md=sha256\n"
            "default_crl_days=30\ncertificate=rootCA.pem\nprivate_key=rootCA.key\n"
        )
        for certificate in certificates:
            openssl(self.folder, f"ca -config ca.cnf -revoke {certificate}")
        openssl(self.folder, "ca -config ca.cnf -gencrl -out fleet.crl")
        return self.folder / "fleet.crl"


@pytest.fixture
def fleet(tmp_path):
    return Fleet(tmp_path / "fleet")


def register_ca(gateway, fleet, *options):
    code = gateway.ctl_ok("ca", "registration-code").strip()
    return gateway.ctl_json(
        "ca", "register", "--pem", fleet.ca, "--verification", fleet.verification(code), *options
    )


def own_ca(gateway, folder):
    """The gateway's CA as a file."""
    ids = [ca["certificateId"] for ca in gateway.ctl_json("ca", "list") if ca["kind"] == "own"]
    path = folder / f"gateway-{ids[0][:8]}.pem"
    path.write_text(gateway.ctl_json("ca", "describe", ids[0])["certificatePem"])
    return path


def identity_of(gateway, folder, pair):
    found = pki.Identity(ca=own_ca(gateway, folder), certificate=pair[0], key=pair[1])
    found.id = certificate_id(pair[0])
    return found


def turned_away(gateway, identity, name="someone"):
    """It gets no CONNACK with 0."""
    with pytest.raises((Refused, OSError, AssertionError)):
        Client(name, gateway.ports["mqtts"], identity=identity).connect()


def test_the_guides_own_commands(gateway, fleet, tmp_path):
    ca = register_ca(gateway, fleet)
    assert (ca["certificateId"], ca["status"]) == (fleet.id, "INACTIVE")
    crt, key = fleet.device()
    text = run(["openssl", "x509", "-in", crt, "-noout", "-text"]).stdout
    assert "Version: 1" in text, "the guide's commands make version 1, if this changes look again"
    device = identity_of(gateway, tmp_path, (crt, key))
    turned_away(gateway, device)
    refused = gateway.ctl("cert", "register", "--pem", crt, "--ca", fleet.ca)
    assert refused.returncode == 1 and "INACTIVE" in refused.stderr, refused
    gateway.ctl_ok("ca", "activate", fleet.id)
    known = gateway.ctl_json("cert", "register", "--pem", crt, "--ca", fleet.ca, "--inactive")
    assert known["status"] == "INACTIVE" and known["caCertificateId"] == fleet.id
    turned_away(gateway, device)
    gateway.ctl_ok("cert", "activate", device.id)
    gateway.ctl_ok("policy", "attach", "open", device.id)
    client = Client("pump", gateway.ports["mqtts"], identity=device).connect()
    client.publish("pumps/1", b"on")
    # The CA goes, what it signed stays: "will continue to work until you explicitly revoke".
    gateway.ctl_ok("ca", "deactivate", fleet.id)
    client.publish("pumps/1", b"still on")
    of_ca = gateway.ctl_json("cert", "list", "--ca", fleet.id)
    assert [c["certificateId"] for c in of_ca] == [device.id]
    gateway.ctl_ok("cert", "revoke", device.id)
    client.wait_gone()


def test_a_ca_without_its_key_is_not_registered(gateway, fleet, tmp_path):
    other = Fleet(tmp_path / "other")
    code = gateway.ctl_ok("ca", "registration-code").strip()
    assert len(code) == 64
    refused = gateway.ctl(
        "ca", "register", "--pem", fleet.ca, "--verification", other.verification(code)
    )
    assert refused.returncode == 1 and "did not sign it" in refused.stderr, refused
    refused = gateway.ctl(
        "ca", "register", "--pem", fleet.ca, "--verification", fleet.verification("hello")
    )
    assert refused.returncode == 1 and "registration code" in refused.stderr, refused
    assert [ca["kind"] for ca in gateway.ctl_json("ca", "list")] == ["own"]


def test_a_transfer_is_refused_with_what_to_do(gateway):
    device = gateway.cert("d")
    refused = gateway.ctl("cert", "transfer", device.id, "--to", "123456789012")
    assert refused.returncode == 1
    assert "one account" in refused.stderr and "register" in refused.stderr


def test_a_certificate_of_a_request_keeps_its_key_where_it_is(gateway, tmp_path):
    openssl(tmp_path, "genrsa -out pump.key 2048")
    openssl(tmp_path, "req -new -key pump.key -out pump.csr", subject("pump-7") + NO_MORE)
    made = gateway.ctl_json(
        "cert", "create", "--csr", tmp_path / "pump.csr", "--policy", "open", "--out", tmp_path / "out"
    )
    out = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert out == ["ca.pem", "pump.pem"] and made["files"]["key"] is None
    device = pki.Identity(
        ca=tmp_path / "out" / "ca.pem",
        certificate=tmp_path / "out" / "pump.pem",
        key=tmp_path / "pump.key",
    )
    client = Client("pump", gateway.ports["mqtts"], identity=device).connect()
    client.publish("pumps/7", b"on")
    client.disconnect()
    text = run(["openssl", "x509", "-in", device.certificate, "-noout", "-subject"]).stdout
    for part in ("C = DE", "OU = Pumps", "CN = pump-7", "emailAddress = pumps@example.com"):
        assert part in text, text
    assert gateway.ctl_json("cert", "describe", made["certificateId"])["name"] == "pump-7"


def test_a_device_registers_itself_and_waits_for_its_activation(gateway, fleet, tmp_path):
    register_ca(gateway, fleet, "--activate", "--auto-registration")
    watch = Client("watch", gateway.ports["mqtt"]).connect()
    topic = f"$aws/events/certificates/registered/{fleet.id}"
    watch.subscribe(topic)
    device = identity_of(gateway, tmp_path, fleet.device("new"))
    turned_away(gateway, device, "new")
    event = json.loads(watch.next().payload)
    stamp = event.pop("timestamp")
    registered = event.pop("certificateRegistrationTimestamp")
    assert event == {
        "certificateId": device.id,
        "caCertificateId": fleet.id,
        "certificateStatus": "PENDING_ACTIVATION",
        "awsAccountId": "000000000000",
    }
    assert isinstance(stamp, int) and isinstance(registered, str)
    assert abs(stamp - int(registered)) < 10_000
    known = gateway.ctl_json("cert", "describe", device.id)
    assert known["status"] == "PENDING_ACTIVATION" and known["origin"] == "just-in-time"
    # It comes again, and is told of again with the time of its registration.
    turned_away(gateway, device, "new")
    again = json.loads(watch.next().payload)
    assert again["certificateRegistrationTimestamp"] == registered
    assert again["timestamp"] >= stamp
    gateway.restart()
    turned_away(gateway, device, "new")

    gateway.ctl_ok("policy", "attach", "open", device.id)
    gateway.ctl_ok("cert", "activate", device.id)
    client = Client("new", gateway.ports["mqtts"], identity=device).connect()
    client.publish("new", b"here")
    client.disconnect()


def test_over_https_a_device_registers_itself_too(gateway, fleet, tmp_path):
    register_ca(gateway, fleet, "--activate", "--auto-registration")
    device = identity_of(gateway, tmp_path, fleet.device("web"))
    status, _ = gateway.https("POST", "/topics/a?qos=1", device, b"x")
    assert status == 403

    def pending():
        done = gateway.ctl("cert", "describe", device.id, "--json")
        return done.returncode == 0 and json.loads(done.stdout)["status"] == "PENDING_ACTIVATION"

    until(pending, "it is registered")


def test_without_auto_registration_a_device_is_told_apart_from_a_stranger(gateway, fleet, tmp_path):
    register_ca(gateway, fleet, "--activate")
    device = identity_of(gateway, tmp_path, fleet.device("new"))
    since = gateway.process.mark()
    turned_away(gateway, device)
    gateway.log_explains(device.id, f"its CA {fleet.id} is registered, without auto-registration", since=since)
    gateway.ctl_ok("ca", "auto-registration", fleet.id, "on")
    gateway.ctl_ok("ca", "deactivate", fleet.id)
    turned_away(gateway, device)
    gateway.log_explains(device.id, f"its CA {fleet.id} is INACTIVE", since=since)
    assert gateway.ctl_json("cert", "list") == []
    gateway.ctl_ok("ca", "delete", fleet.id)
    turned_away(gateway, device)
    gateway.log_explains(device.id, "unknown issuer", since=since)


def test_a_rule_hears_of_a_device_that_registers_itself(daemon, fleet, tmp_path):
    rule = {
        "sql": "SELECT certificateId FROM '$aws/events/certificates/registered/#'",
        "actions": [{"republish": {"topic": "newcomers", "roleArn": "arn:aws:iam::1:role/r"}}],
    }
    gateway = daemon(rules={"newcomer": rule}).start()
    register_ca(gateway, fleet, "--activate", "--auto-registration")
    watch = Client("watch", gateway.ports["mqtt"]).connect()
    watch.subscribe("newcomers")
    device = identity_of(gateway, tmp_path, fleet.device("new"))
    turned_away(gateway, device)
    assert json.loads(watch.next().payload) == {"certificateId": device.id}


def test_a_rule_lets_a_device_in_that_registers_itself(daemon, fleet, tmp_path):
    """As the guide recommends: a rule hears of the device, looks at it, attaches a policy and activates it."""
    program = tmp_path / "let-in"
    rule = {
        "sql": "SELECT certificateId FROM '$aws/events/certificates/registered/#'",
        "actions": [{"exec": {"command": [str(program), "${certificateId}"]}}],
    }
    config = {"rules": {"exec_allow": [str(program)]}}
    gateway = daemon(rules={"newcomer": rule}, config=config)
    ctl = f"{gateway.binaries.iotedgectl} --socket {gateway.socket}"
    program.write_text(
        f'#!/bin/sh\nset -e\n{ctl} cert describe "$1" >&2\n'
        f'{ctl} policy attach open "$1" && {ctl} cert activate "$1"\n'
    )
    program.chmod(0o755)
    gateway.start()
    register_ca(gateway, fleet, "--activate", "--auto-registration")
    device = identity_of(gateway, tmp_path, fleet.device("new"))
    turned_away(gateway, device)

    def active():
        found = gateway.ctl_json("cert", "list")
        return [(c["certificateId"], c["status"]) for c in found] == [(device.id, "ACTIVE")]

    until(active, "the rule has activated it")
    client = Client("new", gateway.ports["mqtts"], identity=device).connect()
    client.publish("here", b"I am")


def test_rotation_while_clients_stay(gateway, tmp_path):
    old = gateway.cert("old", policy="open")
    client = Client("old", gateway.ports["mqtts"], identity=old).connect()
    rotated = gateway.ctl_json("ca", "rotate")
    assert rotated["crossed"]
    client.publish("a", b"still here")
    new = gateway.cert("new", policy="open")
    assert old.ca.read_text() != new.ca.read_text() == rotated["caPem"]
    for certificate in (old, new):
        for trust in (old, new):
            mixed = pki.Identity(ca=trust.ca, certificate=certificate.certificate, key=certificate.key)
            name = f"{certificate.id[:6]}{trust.id[:6]}"
            other = Client(name, gateway.ports["mqtts"], identity=mixed).connect()
            other.publish("a", b"x")
            other.disconnect()
            assert gateway.https("POST", "/topics/a?qos=1", mixed, b"x")[0] == 200
    second = gateway.ctl("ca", "rotate")
    assert second.returncode == 1 and "drop" in second.stderr
    kept = gateway.ctl("ca", "drop")
    assert kept.returncode == 1 and "1 active" in kept.stderr, kept
    gateway.restart()
    client = Client("old", gateway.ports["mqtts"], identity=old).connect()
    gateway.ctl_ok("ca", "drop", "--revoke")
    client.wait_gone()
    turned_away(gateway, old)
    Client("new", gateway.ports["mqtts"], identity=new).connect().disconnect()
    distrustful = pki.Identity(ca=old.ca, certificate=new.certificate, key=new.key)
    with pytest.raises(ssl.SSLError):
        raw.Connection(gateway.ports["mqtts"], identity=distrustful)
    keys = [p for p in (gateway.data_dir / "ca").iterdir() if p.suffix == ".key"]
    assert sorted(p.name for p in keys) == ["ca.key", "server.key"]
    assert {p.stat().st_mode & 0o777 for p in keys} == {0o600}


def test_a_revocation_list_takes_effect_at_a_reload(daemon, fleet, tmp_path):
    gateway = daemon().start()
    register_ca(gateway, fleet, "--activate")
    good, bad = fleet.device("good"), fleet.device("bad")
    clients = []
    for crt, _ in (good, bad):
        gateway.ctl_ok("cert", "register", "--pem", crt, "--policy", "open")
    for name, pair in (("good", good), ("bad", bad)):
        identity = identity_of(gateway, tmp_path, pair)
        clients.append(Client(name, gateway.ports["mqtts"], identity=identity).connect())
    crl = fleet.revoke(bad[0])
    for listener in gateway.config["listener"][1:]:
        listener["crl"] = str(crl)
    gateway.write()
    assert "1 certificates are revoked" in gateway.ctl_ok("reload")
    clients[1].wait_gone()
    clients[0].publish("a", b"still here")
    since = gateway.process.mark()
    turned_away(gateway, identity_of(gateway, tmp_path, bad))
    gateway.log_explains(certificate_id(bad[0]), "stands in a revocation list", since=since)
    # A list that cannot be read changes nothing.
    text = crl.read_text()
    crl.write_text("garbage")
    done = gateway.ctl("reload")
    assert done.returncode == 1 and "fleet.crl" in done.stderr, done
    assert gateway.check().returncode == 1
    turned_away(gateway, identity_of(gateway, tmp_path, bad))
    clients[0].publish("a", b"still here")
    # After a restart it is in force from the beginning.
    crl.write_text(text)
    gateway.restart()
    turned_away(gateway, identity_of(gateway, tmp_path, bad))
    Client("good", gateway.ports["mqtts"], identity=identity_of(gateway, tmp_path, good)).connect()


def test_a_reload_takes_a_new_client_ca_while_clients_stay(daemon, fleet, tmp_path):
    gateway = daemon().start()
    device = gateway.cert("stays", policy="open")
    client = Client("stays", gateway.ports["mqtts"], identity=device).connect()
    stranger = identity_of(gateway, tmp_path, fleet.device("comes"))
    since = gateway.process.mark()
    turned_away(gateway, stranger)
    gateway.log_explains(stranger.id, "unknown issuer", since=since)
    gateway.config["listener"][1]["client_ca"] = str(fleet.ca)
    gateway.write()
    assert "next start" not in gateway.ctl_ok("reload")
    since = gateway.process.mark()
    turned_away(gateway, stranger)
    gateway.log_explains("not registered", since=since)
    assert client.connected
    client.publish("a", b"still here")


def test_revocation_under_load(gateway):
    """Some are thrown out while all publish: the others lose nothing and are not disturbed."""
    count, victims, rounds = 12, 4, 40
    devices = [gateway.cert(f"d{n}", policy="open") for n in range(count)]
    hears = Client("hears", gateway.ports["mqtt"]).connect()
    hears.subscribe("load/#", 1)
    clients = [
        Client(f"d{n}", gateway.ports["mqtts"], identity=d).connect() for n, d in enumerate(devices)
    ]
    acknowledged = [[] for _ in range(count)]
    under_way = threading.Barrier(count + 1)

    def publish(n):
        for i in range(rounds):
            if i == 5:
                under_way.wait(30)
            try:
                clients[n].publish(f"load/{n}", b"%d" % i, deadline=30)
            except (ConnectionError, ValueError):
                return
            acknowledged[n].append(i)

    threads = [threading.Thread(target=publish, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    under_way.wait(30)
    for device in devices[:victims]:
        gateway.ctl_ok("cert", "revoke", device.id)
    for client in clients[:victims]:
        client.wait_gone()
    for thread in threads:
        thread.join(60)
    assert all(len(acks) == rounds for acks in acknowledged[victims:])
    assert all(len(acks) >= 5 for acks in acknowledged[:victims])
    hears.publish("load/end", b"")
    heard = [[] for _ in range(count)]
    for message in hears.until_topic("load/end", 30)[:-1]:
        heard[int(message.topic.split("/")[1])].append(int(message.payload))
    for n in range(count):
        assert heard[n][: len(acknowledged[n])] == acknowledged[n]
    assert all(client.connected for client in clients[victims:])
    for device in devices[:victims]:
        turned_away(gateway, device)


FAKETIME = list(pathlib.Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))


@pytest.mark.skipif(not FAKETIME, reason="needs faketime")
def test_a_clock_that_fell_back_to_1970(daemon, tmp_path):
    """A board without a battery: nobody is shut out, and who was seen to expire stays out."""
    gateway = daemon()

    def start_at(when):
        faked = {"LD_PRELOAD": str(FAKETIME[0]), "FAKETIME": when, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        gateway.environment = faked if when else {}
        gateway.start()

    start_at(None)
    folder = tmp_path / "pki"
    authority = pki.make_ca(folder, "short")
    short, long = (pki.sign(folder, name, authority) for name in ("short", "long"))
    for device in (short, long):
        device.ca = own_ca(gateway, tmp_path)
        device.id = certificate_id(device.certificate)
    # Thirty days, as pki makes them; `long` is signed again for ten years.
    openssl(
        folder,
        "x509 -req -in long.csr -CA short.ca.pem -CAkey short.ca.key -CAcreateserial -days 3650 -out long.pem",
    )
    long.id = certificate_id(long.certificate)
    for device in (short, long):
        gateway.ctl_ok("cert", "register", "--pem", device.certificate, "--policy", "open")
    Client("short", gateway.ports["mqtts"], identity=short).connect().disconnect()
    assert gateway.ctl_json("clock", "show")["trusted"]
    gateway.stop()

    start_at("+60d")
    since = gateway.process.mark()
    turned_away(gateway, short)
    gateway.log_explains(short.id, "expired", since=since)
    gateway.stop()

    start_at("@1970-01-02 00:00:00")
    clock = gateway.ctl_json("clock", "show")
    assert not clock["trusted"] and clock["basis"] == "unset"
    turned_away(gateway, short)
    Client("long", gateway.ports["mqtts"], identity=long).connect().disconnect()
    Client("made", gateway.ports["mqtts"], identity=gateway.cert("made", policy="open")).connect()
    gateway.stop()

    # Today is before the last known time now: an operator, who knows better, says so.
    start_at(None)
    assert gateway.ctl_json("clock", "show")["basis"] == "behind-last-known-time"
    turned_away(gateway, short)
    assert gateway.ctl_json("clock", "trust")["trusted"]
    Client("short", gateway.ports["mqtts"], identity=short).connect().disconnect()
