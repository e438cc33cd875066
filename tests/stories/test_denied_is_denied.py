"""Who may not, does not: refused as the protocol says, and the log says why."""

import json
import ssl

import pytest

from harness import pki, raw
from harness.clients import Client, Refused
from harness.daemon import allow, certificate_id
from harness.wait import until

ARN = "arn:aws:iot:local:000000000000:"
METER = allow(
    (["iot:Connect"], [ARN + "client/${iot:ClientId}", ARN + "client/meter*"]),
    (["iot:Publish"], [ARN + "topic/meters/${iot:ClientId}/*"]),
    (["iot:Subscribe"], [ARN + "topicfilter/meters/*", ARN + "topicfilter/secret/*"]),
    (["iot:Receive"], [ARN + "topic/meters/*"]),
)
NAMED = allow((["iot:Connect"], [ARN + "client/only-me"]))


@pytest.fixture
def gateway(daemon):
    return daemon(policies={"meter": METER, "named": NAMED}).start()


@pytest.fixture
def witness(gateway):
    """Someone on the open port who hears everything."""
    client = Client("witness", gateway.ports["mqtt"]).connect()
    assert client.subscribe("#", 1) == 1
    yield client
    client.disconnect()


def nobody_got_anything(witness):
    """What the witness hears next is a message sent now."""
    witness.publish("marker", b"m")
    assert [m.topic for m in witness.until_topic("marker")] == ["marker"]


def refused_by_tls(port, identity):
    """The connection ends without a CONNACK, in the handshake or at its end."""
    try:
        with raw.Connection(port, identity=identity) as link:
            link.send(raw.connect("whoever"))
            answers = link.closed()
    except (ssl.SSLError, ConnectionError, raw.Closed):
        return
    assert answers == [], answers


def test_a_certificate_with_no_policy_may_not_connect(gateway):
    bare = gateway.cert("bare")
    with pytest.raises(Refused) as refused:
        Client("bare", gateway.ports["mqtts"], identity=bare).connect()
    assert refused.value.code == 5
    gateway.log_explains(bare.id, "iot:Connect", "client/bare", "no statement allows it")


def test_a_certificate_of_an_unknown_authority_is_refused(gateway, tmp_path):
    stranger = pki.sign(tmp_path / "pki", "stranger", pki.make_ca(tmp_path / "pki", "stranger-ca"))
    trusting = gateway.cert("honest", policy="meter")
    stranger.ca = trusting.ca
    since = gateway.process.mark()
    refused_by_tls(gateway.ports["mqtts"], stranger)
    gateway.log_explains("refused", certificate_id(stranger.certificate), "unknown issuer", since=since)


def test_no_certificate_is_refused(gateway):
    honest = gateway.cert("honest", policy="meter")
    refused_by_tls(gateway.ports["mqtts"], pki.Identity(ca=honest.ca, certificate=None, key=None))
    gateway.log_has("no certificate")


def test_a_revoked_certificate_is_thrown_out_and_stays_out(gateway):
    device = gateway.cert("meter1", policy="meter")
    client = Client("meter1", gateway.ports["mqtts"], identity=device).connect()
    client.publish("meters/meter1/kwh", b"1")
    since = gateway.process.mark()
    gateway.ctl_ok("cert", "revoke", device.id)
    client.wait_gone()
    with pytest.raises((Refused, ssl.SSLError, ConnectionError, AssertionError)):
        Client("meter1", gateway.ports["mqtts"], identity=device).connect()
    refused_by_tls_or_connack(gateway.ports["mqtts"], device)
    line = gateway.log_has(r"(?i).*revoked.*", since=since).group(0)
    assert line
    gateway.log_has(rf"{device.id}", since=since)
    with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
        status, _ = gateway.https("POST", "/topics/meters/meter1/kwh?qos=1", device, b"1")
        assert status == 200

    # Revoked for good: a restart changes nothing.
    gateway.restart()
    refused_by_tls_or_connack(gateway.ports["mqtts"], device)


def refused_by_tls_or_connack(port, identity):
    """No CONNACK with 0 comes, and the connection ends."""
    try:
        with raw.Connection(port, identity=identity) as link:
            link.send(raw.connect("meter1"))
            answers = link.closed()
    except (ssl.SSLError, ConnectionError, raw.Closed):
        return
    assert all(a.kind == raw.CONNACK and a.code != 0 for a in answers), answers


def test_another_client_id_than_the_policy_names_is_refused(gateway):
    device = gateway.cert("named", policy="named")
    client = Client("only-me", gateway.ports["mqtts"], identity=device).connect()
    client.disconnect()
    with pytest.raises(Refused) as refused:
        Client("someone", gateway.ports["mqtts"], identity=device).connect()
    assert refused.value.code == 5
    gateway.log_explains(device.id, "iot:Connect", "client/someone", "no statement allows it")


def test_a_publish_outside_the_policy_reaches_nobody(gateway, witness):
    device = gateway.cert("meter1", policy="meter")
    with raw.Connection(gateway.ports["mqtts"], identity=device) as link:
        link.connect("meter1")
        link.send(raw.publish("meters/meter1/kwh", b"1", qos=1, packet_id=1))
        assert link.expect(raw.PUBACK).packet_id == 1
        assert witness.next().topic == "meters/meter1/kwh"
        since = gateway.process.mark()
        link.send(raw.publish("meters/meter2/kwh", b"2", qos=1, packet_id=2))
        # 3.1.1 has no negative PUBACK: AWS IoT and this gateway close the connection.
        assert link.closed() == []
    gateway.log_explains(
        device.id, "meter1", "iot:Publish", "topic/meters/meter2/kwh", "no statement allows it", since=since
    )
    nobody_got_anything(witness)


def test_a_publish_of_qos_0_outside_the_policy_reaches_nobody(gateway, witness):
    device = gateway.cert("meter1", policy="meter")
    with raw.Connection(gateway.ports["mqtts"], identity=device) as link:
        link.connect("meter1")
        link.send(raw.publish("meters/meter2/kwh", b"2"))
        link.send(raw.pingreq())
        try:
            link.receive()
        except raw.Closed:
            pass
    gateway.log_explains(device.id, "iot:Publish", "topic/meters/meter2/kwh", "no statement allows it")
    nobody_got_anything(witness)


def test_a_subscription_outside_the_policy_is_answered_with_a_failure(gateway):
    device = gateway.cert("meter1", policy="meter")
    with raw.Connection(gateway.ports["mqtts"], identity=device) as link:
        link.connect("meter1")
        assert link.subscribe(("meters/#", 1), ("other/#", 1), ("#", 0)) == [1, 0x80, 0x80]
        link.ping()
    gateway.log_explains(device.id, "iot:Subscribe", "topicfilter/other/#", "no statement allows it")


def test_what_may_not_be_received_is_dropped_and_counted(gateway, witness):
    device = gateway.cert("meter1", policy="meter")
    with raw.Connection(gateway.ports["mqtts"], identity=device) as link:
        link.connect("meter1")
        assert link.subscribe(("secret/#", 1), ("meters/#", 1)) == [1, 1]
        witness.publish("secret/plan", b"x")
        witness.publish("meters/plan", b"y")
        got = link.expect(raw.PUBLISH)
        assert got.topic == "meters/plan"
        link.send(raw.puback(got.packet_id))
        link.ping()
    dropped = until(
        lambda: gateway.ctl_json("status").get("dropped", {}).get("policy"),
        "the drop is counted with its reason",
    )
    assert dropped == 1
    gateway.log_explains(device.id, "iot:Receive", "topic/secret/plan", "no statement allows it")


def test_a_will_outside_the_policy_is_never_sent(gateway, witness):
    device = gateway.cert("meter1", policy="meter")
    since = gateway.process.mark()
    with raw.Connection(gateway.ports["mqtts"], identity=device) as link:
        link.send(raw.connect("meter1", will=("meters/meter2/kwh", b"gone", 1, False)))
        try:
            link.receive()
        except raw.Closed:
            pass
    gateway.log_explains(device.id, "iot:Publish", "topic/meters/meter2/kwh", since=since)
    nobody_got_anything(witness)


def test_https_asks_the_same_policies(gateway, witness):
    device = gateway.cert("meter1", policy="meter")
    status, text = gateway.https("POST", "/topics/other/topic?qos=1", device, b"x")
    assert status == 403, text
    assert json.loads(text)["message"]
    status, _ = gateway.https("GET", "/things/anything/shadow", device)
    assert status == 403
    nobody_got_anything(witness)


def test_an_anonymous_client_does_not_get_a_certificates_session(gateway, witness):
    device = gateway.cert("meter1", policy="meter")
    with raw.Connection(gateway.ports["mqtts"], identity=device) as link:
        link.connect("meter1", clean=False)
        assert link.subscribe(("meters/#", 1)) == [1]
        with raw.Connection(gateway.ports["mqtt"]) as thief:
            thief.send(raw.connect("meter1", clean=False))
            answers = thief.closed()
            assert [a.code for a in answers if a.kind == raw.CONNACK] in ([5], [2], [])
        link.ping()
