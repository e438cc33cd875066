"""Clients without a certificate: users with passwords, and custom authorizers."""

import base64
import http.client
import http.server
import json
import os
import queue
import ssl
import threading
import urllib.parse

import paho.mqtt.client as paho
import pytest

from harness import pki, raw
from harness.daemon import allow
from harness.ports import free_port
from harness.process import run
from harness.wait import until

ARN = "arn:aws:iot:local:000000000000:"
METER = allow(
    (["iot:Connect"], [ARN + "client/meter*"]),
    (["iot:Publish"], [ARN + "topic/meters/${iot:ClientId}/*"]),
    (["iot:Subscribe"], [ARN + "topicfilter/meters/*"]),
    (["iot:Receive"], [ARN + "topic/meters/*"]),
)
WATCHER = allow(
    (["iot:Connect"], ["*"]),
    (["iot:Subscribe"], [ARN + "topicfilter/*"]),
    (["iot:Receive"], [ARN + "topic/*"]),
)
BAD_CREDENTIALS, NOT_AUTHORIZED, UNAVAILABLE = 4, 5, 3


def password_hash(binaries, password):
    done = run([binaries.iotedgectl, "password"], input=password + "\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("$argon2id$"), done.stdout
    return done.stdout.strip()


def knock(port, client_id="meter1", **how):
    """The code of CONNACK."""
    with raw.Connection(port) as link:
        link.send(raw.connect(client_id, **how))
        return link.expect(raw.CONNACK).code


def listeners(gateway, *more):
    gateway.config["listener"] += more
    gateway.write()


class Users:
    def __init__(self, daemon, binaries, folder):
        self.port, self.http = free_port(), free_port()
        self.gateway = daemon(policies={"meter": METER, "watcher": WATCHER})
        file = folder / "hash"
        file.write_text(password_hash(binaries, "from a file") + "\n")
        program = folder / "say-hash"
        program.write_text(f"#!/bin/sh\necho '{password_hash(binaries, 'from a program')}'\n")
        program.chmod(0o755)
        self.gateway.config["user"] = [
            {"name": "meter1", "password": password_hash(binaries, "right"), "policy": "meter"},
            {"name": "filed", "password_file": str(file), "policy": ["meter", "watcher"]},
            {"name": "asked", "password_command": [str(program)], "policy": "watcher"},
        ]
        listeners(
            self.gateway,
            {
                "protocol": "mqtt",
                "address": f"127.0.0.1:{self.port}",
                "auth": "password",
            },
            {"protocol": "http", "address": f"127.0.0.1:{self.http}", "auth": "password"},
        )


@pytest.fixture
def users(daemon, binaries, tmp_path):
    users = Users(daemon, binaries, tmp_path)
    users.gateway.start()
    return users


def test_a_user_connects_with_its_password_and_may_do_what_its_policies_say(users):
    assert knock(users.port, user="meter1", password="right") == 0
    assert knock(users.port, user="filed", password="from a file") == 0
    assert knock(users.port, user="asked", password="from a program") == 0
    for how in (
        {},
        {"user": "meter1"},
        {"user": "meter1", "password": "wrong"},
        {"user": "nobody", "password": "right"},
        {"user": "filed", "password": "right"},
    ):
        assert knock(users.port, **how) == BAD_CREDENTIALS, how
    # Right, but the policy allows another client id only.
    assert knock(users.port, "other", user="meter1", password="right") == NOT_AUTHORIZED
    users.gateway.log_explains("user:meter1", "iot:Connect", "client/other", "no statement allows it")
    with raw.Connection(users.port) as link:
        link.connect("meter1", user="meter1", password="right")
        assert link.subscribe(("meters/#", 1), ("secret/#", 1)) == [1, 0x80]
        link.send(raw.publish("meters/meter1/kwh", b"1", qos=1))
        link.expect(raw.PUBACK)
        link.send(raw.publish("meters/meter2/kwh", b"1", qos=1))
        link.closed()
    explained = users.gateway.ctl(
        *"policy explain --user meter1 --client-id meter1 --action iot:Publish --resource meters/m/x".split()
    )
    assert explained.returncode == 1
    assert "principal  user:meter1" in explained.stdout


def test_http_takes_the_basic_scheme(users):
    def post(topic, credentials=None):
        link = http.client.HTTPConnection("127.0.0.1", users.http, timeout=10)
        headers = {}
        if credentials:
            headers["Authorization"] = "Basic " + base64.b64encode(credentials).decode()
        link.request("POST", f"/topics/{topic}?qos=1", body=b"1", headers=headers)
        answer = link.getresponse()
        answer.read()
        return answer.status, answer.headers

    users.gateway.policies["meter"] = allow((["iot:Publish"], [ARN + "topic/meters/*"]))
    users.gateway.write()
    users.gateway.ctl_ok("reload")
    assert post("meters/a", b"meter1:right")[0] == 200
    assert post("other", b"meter1:right")[0] == 403
    status, headers = post("meters/a")
    assert (status, headers["www-authenticate"]) == (401, 'Basic realm="iotedge"')
    assert post("meters/a", b"meter1:wrong")[0] == 401


def test_a_reload_closes_users_that_are_gone_or_have_another_password(users, binaries):
    gateway = users.gateway
    with raw.Connection(users.port) as kept, raw.Connection(users.port) as gone:
        kept.connect("meter2", user="filed", password="from a file")
        gone.connect("meter1", user="meter1", password="right")
        gateway.config["user"][0]["password"] = password_hash(binaries, "new")
        gateway.write()
        assert "meter1" in gateway.ctl_ok("reload")
        gone.closed()
        kept.ping()
    assert knock(users.port, user="meter1", password="right") == BAD_CREDENTIALS
    assert knock(users.port, user="meter1", password="new") == 0
    # A policy is another at the next packet, and nobody is closed.
    with raw.Connection(users.port) as link:
        link.connect("meter1", user="meter1", password="new")
        gateway.config["user"][0]["policy"] = "watcher"
        gateway.write()
        gateway.ctl_ok("reload")
        assert link.subscribe(("secret/#", 1)) == [1]


def test_wrong_users_and_authorizers_are_named_with_file_and_line(daemon, binaries, tmp_path):
    gateway = daemon()
    gateway.config["user"] = [
        {"name": "a", "password": "plain text", "policy": "open"},
        {"name": "b", "policy": "nowhere"},
        {"name": "good", "password": password_hash(binaries, "x"), "policy": "open"},
        {"name": "b:c", "password_file": "/no/such/file", "policy": "open"},
    ]
    gateway.config["authorizer"] = [{"name": "x", "command": ["relative"], "max_rat": 5}]
    listeners(
        gateway,
        {
            "protocol": "mqtt",
            "address": f"127.0.0.1:{free_port()}",
            "auth": "custom",
            "authorizer": "none",
        },
    )
    done = gateway.check()
    assert done.returncode == 1
    for words in (
        "user.password: is no argon2 hash",
        'user.policy: there is no policy "nowhere"',
        "needs one of `password`",
        "user.name: must have neither ':'",
        "/no/such/file",
        "authorizer.command: must be a list that begins",
        "authorizer.max_rat: is not a known key",
        "there is no [[authorizer]] with the name",
        "nobody can come as this user",
    ):
        assert words in done.stdout + done.stderr, (words, done.stdout + done.stderr)
    assert "plain text" not in done.stdout + done.stderr


AUTHORIZER = """#!/usr/bin/env python3
import base64, json, os, sys, time
event = json.load(sys.stdin)
folder = os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(folder, "events"), "a") as events:
    events.write(json.dumps(event) + "\\n")
plan = json.load(open(os.path.join(folder, "plan")))
if plan.get("sleep"):
    time.sleep(plan["sleep"])
if plan.get("exit"):
    sys.exit(plan["exit"])
password = base64.b64decode(event["protocolData"]["mqtt"].get("password", "")).decode()
print(json.dumps({**plan["answer"], "isAuthenticated": password == plan.get("password", "test")}))
"""


class Authorizer:
    """As the guide's sample: whoever has the password "test" may do what the plan says."""

    def __init__(self, daemon, folder):
        self.folder = folder / "authorizer"
        self.folder.mkdir()
        self.program = self.folder / "badge"
        self.program.write_text(AUTHORIZER)
        self.program.chmod(0o755)
        self.port = free_port()
        self.gateway = daemon()
        self.config = {"name": "badge", "command": [str(self.program)], "timeout": "10s"}
        self.gateway.config["authorizer"] = [self.config]
        listeners(
            self.gateway,
            {
                "protocol": ["mqtt", "ws"],
                "address": f"127.0.0.1:{self.port}",
                "auth": "custom",
                "authorizer": "badge",
            },
        )
        self.plan()

    def plan(self, policy=METER, refresh=300, disconnect=3600, password="test", **more):
        answer = {
            "principalId": "TEST123",
            "policyDocuments": [policy],
            "disconnectAfterInSeconds": disconnect,
            "refreshAfterInSeconds": refresh,
        }
        fresh = self.folder / "plan.new"
        fresh.write_text(json.dumps({"answer": answer, "password": password, **more}))
        os.replace(fresh, self.folder / "plan")

    def events(self):
        try:
            return [json.loads(line) for line in (self.folder / "events").read_text().splitlines()]
        except FileNotFoundError:
            return []


@pytest.fixture
def authorizer(daemon, tmp_path):
    return Authorizer(daemon, tmp_path)


def test_a_custom_authorizer_says_who_a_client_is_and_what_it_may_do(authorizer):
    authorizer.gateway.start()
    port = authorizer.port
    assert knock(port, user="me", password="wrong") == BAD_CREDENTIALS
    with raw.Connection(port) as link:
        link.connect("meter1", user="me", password="test")
        link.send(raw.publish("meters/meter1/kwh", b"1", qos=1))
        link.expect(raw.PUBACK)
        assert link.subscribe(("secret/#", 1)) == [0x80]
    authorizer.gateway.log_explains(
        "custom:badge:TEST123", "iot:Subscribe", "topicfilter/secret/#", "no statement allows it"
    )
    event = authorizer.events()[-1]
    assert event["protocols"] == ["mqtt"]
    assert event["protocolData"]["mqtt"] == {
        "username": "me",
        "password": base64.b64encode(b"test").decode(),
        "clientId": "meter1",
    }
    assert event["connectionMetadata"]["id"]
    # The answer is kept: the same client comes back without asking; another asks.
    asked = len(authorizer.events())
    assert knock(port, user="me", password="test") == 0
    assert len(authorizer.events()) == asked
    assert knock(port, "meter2", user="me", password="test") == 0
    assert len(authorizer.events()) == asked + 1
    # What the policy of the answer does not allow is not allowed at CONNECT either.
    assert knock(port, "other", user="me", password="test") == NOT_AUTHORIZED


def test_an_authorizer_that_fails_keeps_everyone_out(authorizer):
    authorizer.config["timeout"] = "2s"
    authorizer.gateway.write()
    authorizer.gateway.start()
    broken = {"Version": "2012-10-17", "Statement": [{"Effect": "Maybe"}]}
    for plan in ({"exit": 1}, {"policy": broken}, {"refresh": 0}, {"sleep": 600}):
        authorizer.plan(**plan)
        assert knock(authorizer.port, user="me", password="test") == UNAVAILABLE, plan
    authorizer.plan()
    assert knock(authorizer.port, user="me", password="test") == 0


def test_a_refresh_brings_new_policies_and_a_no_ends_the_connection(authorizer):
    authorizer.config["cache"] = "0s"
    authorizer.gateway.write()
    authorizer.gateway.start()
    authorizer.plan(refresh=1)
    with raw.Connection(authorizer.port) as link:
        link.connect("meter1", user="me", password="test")
        assert link.subscribe(("secret/#", 1)) == [0x80]
        authorizer.plan(policy=WATCHER, refresh=1)
        until(lambda: link.subscribe(("secret/#", 1)) == [1], "the new policy is in force")
        authorizer.plan(password="another", refresh=1)
        link.closed()
    authorizer.gateway.log_has("does not know the client any more")


def test_a_connection_lasts_as_long_as_the_answer_says(authorizer):
    authorizer.plan(policy=METER, disconnect=1)
    authorizer.gateway.start()
    with raw.Connection(authorizer.gateway.ports["mqtt"]) as witness, raw.Connection(
        authorizer.port
    ) as link:
        witness.connect("witness")
        assert witness.subscribe(("$aws/events/presence/disconnected/meter1", 0)) == [0]
        link.connect("meter1", user="me", password="test")
        link.closed()
        event = json.loads(witness.expect(raw.PUBLISH).payload)
        assert event["disconnectReason"] == "CUSTOMAUTH_TTL_EXPIRATION"
        assert event["principalIdentifier"] == "custom:badge:TEST123"


class Service(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        event = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.events.append(event)
        shown = event["protocolData"].get("http", {}).get("headers", {})
        answer = {
            "isAuthenticated": shown.get("x-badge") == "7" or event.get("token") == "seven",
            "principalId": "web1",
            "policyDocuments": [json.dumps(allow((["iot:Publish", "iot:Connect"], ["*"])))],
            "refreshAfterInSeconds": 300,
        }
        body = json.dumps(answer).encode()
        self.send_response(self.server.status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def serve(tls=None):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service)
    server.events, server.status = [], 200
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls.certificate, tls.key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.fixture
def service():
    server = serve()
    yield server
    server.shutdown()


def test_an_authorizer_may_be_a_service_and_sees_what_http_clients_show(daemon, service):
    gateway = daemon()
    port, mqtt = free_port(), free_port()
    gateway.config["authorizer"] = [
        {
            "name": "web",
            "url": f"http://127.0.0.1:{service.server_port}/authorize?x=1",
            "token_key_name": "badge",
        }
    ]
    door = {"auth": "custom", "authorizer": ["web"]}
    listeners(
        gateway,
        {"protocol": "http", "address": f"127.0.0.1:{port}", **door},
        {"protocol": "mqtt", "address": f"127.0.0.1:{mqtt}", **door},
    )
    gateway.start()
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=10)

    def post(headers, query=""):
        link.request("POST", f"/topics/a/b?qos=1{query}", body=b"1", headers=headers)
        answer = link.getresponse()
        answer.read()
        return answer.status

    assert post({"X-Badge": "7"}) == 200
    assert post({"X-Badge": "7"}) == 200
    assert len(service.events) == 1, "the second request shows the same"
    assert service.events[0]["protocolData"]["http"]["queryString"] == "?qos=1"
    assert post({"X-Badge": "8"}) == 401
    assert post({}, "&badge=seven") == 200
    assert service.events[-1]["signatureVerified"] is False
    assert post({}, "&x-amz-customauthorizer-name=other") == 401
    assert knock(mqtt, "c", user="me?badge=seven") == 0
    service.status = 500
    assert post({"X-Badge": "9"}) == 503


def test_what_a_websocket_shows_in_its_request_counts(daemon, service):
    gateway = daemon()
    port = free_port()
    gateway.config["authorizer"] = [
        {"name": "web", "url": f"http://127.0.0.1:{service.server_port}/"}
    ]
    listeners(
        gateway,
        {
            "protocol": "ws",
            "address": f"127.0.0.1:{port}",
            "auth": "custom",
            "authorizer": "web",
        },
    )
    gateway.start()
    for badge, answer in (("7", "Success"), ("8", "Bad user name or password")):
        answers = queue.SimpleQueue()
        client = paho.Client(
            paho.CallbackAPIVersion.VERSION2,
            client_id="browser",
            transport="websockets",
            reconnect_on_failure=False,
        )
        client.ws_set_options(path="/mqtt", headers={"X-Badge": badge})
        client.on_connect = lambda _c, _d, _f, reason, _p: answers.put(str(reason))
        client.connect("127.0.0.1", port)
        client.loop_start()
        assert answers.get(timeout=10) == answer
        client.disconnect()
        client.loop_stop()
    assert service.events[0]["protocols"] == ["http", "mqtt"]


def test_a_service_behind_tls_is_asked_when_its_certificate_is_good(daemon, tmp_path):
    known, other = (pki.make_ca(tmp_path, name) for name in ("known", "other"))
    good = serve(pki.sign(tmp_path, "service", known, san="DNS:localhost"))
    bad = serve(pki.sign(tmp_path, "impostor", other, san="DNS:localhost"))
    misnamed = serve(pki.sign(tmp_path, "elsewhere", known, san="DNS:elsewhere.example"))
    gateway = daemon()
    ports = []
    gateway.config["authorizer"] = []
    for name, server in (("good", good), ("bad", bad), ("misnamed", misnamed)):
        url = f"https://localhost:{server.server_port}/authorize"
        hook = {"name": name, "url": url, "ca": str(known[0]), "token_key_name": "badge"}
        gateway.config["authorizer"].append(hook)
        ports.append(free_port())
        listeners(
            gateway,
            {
                "protocol": ["mqtts", "https"],
                "address": f"127.0.0.1:{ports[-1]}",
                "auth": "custom",
                "authorizer": name,
            },
        )
    gateway.start()
    ids = [ca["certificateId"] for ca in gateway.ctl_json("ca", "list")]
    trusted = tmp_path / "gateway.pem"
    trusted.write_text(gateway.ctl_json("ca", "describe", ids[0])["certificatePem"])

    def reason(port, user):
        answers = queue.SimpleQueue()
        client = paho.Client(
            paho.CallbackAPIVersion.VERSION2, client_id="c", reconnect_on_failure=False
        )
        client.tls_set(str(trusted))
        client.username_pw_set(user, "secret")
        client.on_connect = lambda _c, _d, _f, reason, _p: answers.put(str(reason))
        client.connect("localhost", port)
        client.loop_start()
        answer = answers.get(timeout=15)
        client.disconnect()
        client.loop_stop()
        return answer

    assert reason(ports[0], "me?badge=seven") == "Success"
    event = good.events[-1]
    assert event["protocols"] == ["tls", "mqtt"]
    # The name that the client asked for in its handshake (SNI).
    assert event["protocolData"]["tls"] == {"serverName": "localhost"}
    assert reason(ports[0], "me?badge=eight") == "Bad user name or password"
    for port, server, words in (
        (ports[1], bad, "UnknownIssuer"),
        (ports[2], misnamed, "not valid for name"),
    ):
        since = gateway.process.mark()
        assert reason(port, "me?badge=seven") == "Server unavailable"
        assert server.events == []
        gateway.log_explains("authorizer", words, since=since)
    context = ssl.create_default_context(cafile=str(trusted))
    link = http.client.HTTPSConnection("localhost", ports[0], context=context, timeout=10)
    link.request("POST", "/topics/a/b?qos=1", body=b"1", headers={"X-Badge": "7"})
    assert link.getresponse().status == 200
    assert good.events[-1]["protocolData"]["tls"] == {"serverName": "localhost"}


def openssl(*argv):
    done = run(["openssl", *argv])
    assert done.returncode == 0, done.stderr


def signed(key, token, folder):
    (folder / "token").write_text(token)
    openssl("dgst", "-sha256", "-sign", key, "-out", folder / "signature", folder / "token")
    return base64.b64encode((folder / "signature").read_bytes()).decode()


def test_only_who_shows_a_signed_token_is_asked_about(daemon, service, tmp_path):
    keys = [tmp_path / f"{name}.key" for name in ("old", "new", "foreign")]
    for key in keys:
        openssl("genrsa", "-out", key, "2048")
        openssl("rsa", "-in", key, "-pubout", "-out", key.with_suffix(".pem"))
    gateway = daemon()
    port, mqtt = free_port(), free_port()
    hook = {
        "name": "web",
        "url": f"http://127.0.0.1:{service.server_port}/",
        "token_key_name": "badge-token",
        "token_signing_public_keys": [str(key.with_suffix(".pem")) for key in keys[:2]],
    }
    gateway.config["authorizer"] = [hook]
    door = {"auth": "custom", "authorizer": "web"}
    listeners(
        gateway,
        {"protocol": "http", "address": f"127.0.0.1:{port}", **door},
        {"protocol": "mqtt", "address": f"127.0.0.1:{mqtt}", **door},
    )
    gateway.start()
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=10)

    def post(headers):
        link.request("POST", "/topics/a/b?qos=1", body=b"1", headers=headers)
        answer = link.getresponse()
        answer.read()
        return answer.status

    name, signature = "x-amz-customauthorizer-name", "x-amz-customauthorizer-signature"
    for key in keys[:2]:
        shown = {name: "web", "badge-token": "seven", signature: signed(key, "seven", tmp_path)}
        assert post(shown) == 200
        assert service.events[-1]["token"] == "seven"
        assert service.events[-1]["signatureVerified"] is True
    asked = len(service.events)
    good = signed(keys[0], "seven", tmp_path)
    for wrong, words in (
        ({"badge-token": "seven"}, f"there is no {signature}"),
        ({signature: good}, "there is no badge-token"),
        ({"badge-token": "eight", signature: good}, "its signature is wrong"),
        ({"badge-token": "seven", signature: signed(keys[2], "seven", tmp_path)}, "is wrong"),
        ({"X-Badge": "7"}, "there is no badge-token"),
    ):
        since = gateway.process.mark()
        assert post(wrong) == 401, wrong
        gateway.log_explains(words, since=since)
    assert len(service.events) == asked, "nobody was asked"
    behind = urllib.parse.urlencode({name: "web", signature: good, "badge-token": "seven"})
    assert knock(mqtt, "c", user=f"me?{behind}") == 0
    wrong = urllib.parse.urlencode({signature: good, "badge-token": "eight"})
    assert knock(mqtt, "c", user=f"me?{wrong}") == BAD_CREDENTIALS
    # What is no key to check with is named.
    for keys_of, words in (([str(keys[0])], "PUBLIC KEY"), ([], "has no file")):
        hook["token_signing_public_keys"] = keys_of
        gateway.write()
        done = gateway.check()
        assert done.returncode == 1 and words in done.stderr + done.stdout, done
