"""AWS IoT's data plane over HTTPS, asked by AWS's own SDK: publish, and retained messages."""

import base64
import http.client
import json
import ssl
import subprocess
import time

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from conformance import wire5
from harness.daemon import allow
from harness.wait import until

ALL = allow((["iot:*"], ["*"]))
PLAIN = allow((["iot:Publish"], ["arn:aws:iot:*:*:topic/plain/*"]))


def data_plane(gateway, identity):
    """boto3 signs its requests; the gateway looks at the client certificate alone."""
    return boto3.client(
        "iot-data",
        region_name="local",
        endpoint_url=f"https://localhost:{gateway.ports['https']}",
        aws_access_key_id="nobody",
        aws_secret_access_key="looks at it",
        verify=str(identity.ca),
        config=Config(
            client_cert=(str(identity.certificate), str(identity.key)),
            retries={"max_attempts": 0},
        ),
    )


@pytest.fixture
def home(daemon):
    gateway = daemon(policies={"all": ALL, "plain": PLAIN}).start()
    aws = data_plane(gateway, gateway.cert("d1", policy="all"))
    with wire5.Client(gateway.ports["mqtt"]) as hears:
        hears.connect("hears")
        yield gateway, aws, hears


def refused(call, **how):
    with pytest.raises(ClientError) as caught:
        call(**how)
    answer = caught.value.response
    return answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]


def test_publish_carries_everything_that_mqtt_5_has(home):
    _, aws, hears = home
    hears.subscribe(("room/#", 1))
    aws.publish(
        topic="room/ü/a",
        qos=1,
        retain=False,
        payload=b"hello",
        contentType="text/plain; charset=utf-8",
        responseTopic="room/answer",
        messageExpiry=100,
        payloadFormatIndicator="UTF8_DATA",
        correlationData=base64.b64encode(b"\0\1\2").decode(),
        userProperties=[{"a": "1"}, {"a": "2", "b": "ü"}],
    )
    got = hears.take()
    assert (got.topic, got.payload, got.qos, got.retain) == ("room/ü/a", b"hello", 1, False)
    assert got.one(wire5.CONTENT_TYPE) == "text/plain; charset=utf-8"
    assert got.one(wire5.RESPONSE_TOPIC) == "room/answer"
    assert 99 <= got.one(wire5.MESSAGE_EXPIRY) <= 100
    assert got.one(wire5.PAYLOAD_FORMAT) == 1
    assert got.one(wire5.CORRELATION) == b"\0\1\2"
    assert got.all(wire5.USER) == [("a", "1"), ("a", "2"), ("b", "ü")]
    aws.publish(topic="room/bare")
    got = hears.take()
    assert (got.topic, got.payload, got.qos) == ("room/bare", b"", 0)
    assert got.properties == []


def test_retained_messages_are_kept_read_and_removed(home):
    gateway, aws, hears = home
    before = int(time.time() * 1000)
    aws.publish(topic="kept/a b", qos=1, retain=True, payload=b"\xff\0", userProperties=[{"k": "v"}])
    hears.subscribe(("kept/#", 1))
    got = hears.take()
    assert (got.topic, got.payload, got.retain) == ("kept/a b", b"\xff\0", True)
    one = aws.get_retained_message(topic="kept/a b")
    assert (one["topic"], one["payload"], one["qos"]) == ("kept/a b", b"\xff\0", 1)
    assert before <= one["lastModifiedTime"] <= int(time.time() * 1000)
    assert json.loads(one["userProperties"]) == [{"k": "v"}]
    gateway.restart()
    assert aws.get_retained_message(topic="kept/a b")["payload"] == b"\xff\0"
    aws.publish(topic="kept/a b", retain=True, payload=b"")
    assert refused(aws.get_retained_message, topic="kept/a b") == ("ResourceNotFoundException", 404)


def test_retained_messages_are_listed_in_pages(home):
    _, aws, hears = home
    topics = sorted(f"many/{n:03}" for n in range(450))
    for n, topic in enumerate(topics):
        hears.publish(topic, b"x" * n or b"-", qos=n % 2, retain=True)
    pages = aws.get_paginator("list_retained_messages").paginate()
    sizes, found = [], []
    for page in pages:
        sizes.append(len(page["retainedTopics"]))
        found += page["retainedTopics"]
    assert sizes == [200, 200, 50]
    assert [it["topic"] for it in found] == topics
    assert [(it["payloadSize"], it["qos"]) for it in found][:4] == [(1, 0), (1, 1), (2, 0), (3, 1)]
    page = aws.list_retained_messages(maxResults=2)
    assert [it["topic"] for it in page["retainedTopics"]] == topics[:2]
    # The next page goes on where the last ended, even when that message is gone.
    hears.publish(topics[1], b"", retain=True)
    page = aws.list_retained_messages(maxResults=1, nextToken=page["nextToken"])
    assert [it["topic"] for it in page["retainedTopics"]] == topics[2:3]
    assert refused(aws.list_retained_messages, nextToken="*") == ("InvalidRequestException", 400)


def test_a_message_that_has_expired_is_neither_listed_nor_found(home):
    _, aws, _ = home
    aws.publish(topic="short", retain=True, payload=b"x", messageExpiry=1)
    assert aws.get_retained_message(topic="short")["payload"] == b"x"

    def gone():
        try:
            aws.get_retained_message(topic="short")
        except aws.exceptions.ResourceNotFoundException:
            return True
        return False

    until(gone, "the message has expired")
    assert aws.list_retained_messages()["retainedTopics"] == []


def test_each_action_is_asked_of_the_policies(home):
    gateway, _, hears = home
    aws = data_plane(gateway, gateway.cert("d2", policy="plain"))
    hears.subscribe(("#", 0))
    forbidden = ("ForbiddenException", 403)
    aws.publish(topic="plain/a", payload=b"may")
    assert refused(aws.publish, topic="plain/a", payload=b"x", retain=True) == forbidden
    gateway.log_explains("PolicyDenied", "iot:RetainPublish", "plain/a")
    assert refused(aws.publish, topic="other", payload=b"x") == forbidden
    assert refused(aws.get_retained_message, topic="plain/a") == forbidden
    gateway.log_explains("PolicyDenied", "iot:GetRetainedMessage", "plain/a")
    assert refused(aws.list_retained_messages) == forbidden
    gateway.log_explains("PolicyDenied", "iot:ListRetainedMessages")
    aws.publish(topic="plain/end", payload=b"x")
    assert [hears.take().topic for _ in range(2)] == ["plain/a", "plain/end"]


def test_what_cannot_be_is_refused_as_the_data_plane_does(home):
    _, aws, _ = home
    invalid = ("InvalidRequestException", 400)
    for how in (
        {"topic": "a/#"},
        {"topic": "a", "qos": 2},
        {"topic": "a", "messageExpiry": -1},
        {"topic": "a", "responseTopic": "a/+"},
        {"topic": "a", "correlationData": "not base64"},
        {"topic": "a", "userProperties": {"a": "b"}},
        {"topic": "a", "userProperties": [{"a": 1}]},
    ):
        assert refused(aws.publish, **how) == invalid, how
    assert refused(aws.publish, topic="$aws/nothing") == ("ForbiddenException", 403)
    assert refused(aws.get_retained_message, topic="a/#") == invalid


def test_curl_does_it_too(home):
    gateway, _, hears = home
    device = gateway.cert("d3", policy="all")
    hears.subscribe(("#", 0))

    def curl(*argv):
        command = [
            "curl", "-sS", "--cacert", device.ca, "--cert", device.certificate, "--key", device.key,
            "-w", "\n%{http_code}", *argv,
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
        body, code = done.stdout.rsplit("\n", 1)
        return int(code), json.loads(body)

    base = f"https://localhost:{gateway.ports['https']}"
    properties = base64.b64encode(b'[{"from": "curl"}]').decode()
    status, body = curl(
        f"{base}/topics/from%2Fcurl?qos=1&retain=true&contentType=text/plain", "-d", "hello",
        "-H", f"x-amz-mqtt5-user-properties: {properties}",
    )
    assert (status, body["message"]) == (200, "OK")
    got = hears.take()
    assert (got.topic, got.payload, got.all(wire5.USER)) == ("from/curl", b"hello", [("from", "curl")])
    status, body = curl(f"{base}/retainedMessage/from%2Fcurl")
    assert (status, base64.b64decode(body["payload"])) == (200, b"hello")
    status, body = curl(f"{base}/retainedMessage?maxResults=1")
    assert (status, [it["topic"] for it in body["retainedTopics"]]) == (200, ["from/curl"])
    assert curl("-X", "POST", f"{base}/retainedMessage")[0] == 405
    assert curl(f"{base}/topics/a")[0] == 405
    assert curl(f"{base}/retainedMessages")[0] == 404
    assert curl(f"{base}/topics/a?qos=1&colour=red", "-d", "x")[0] == 400


@pytest.mark.parametrize(
    "method, path, length, status",
    [
        ("PUT", "/topics/a", 4_000, 405),
        ("POST", "/topics/a?b=%4", 4_000, 400),
        ("POST", "/topics/a", 4_000_000, 413),
    ],
)
def test_an_answer_before_the_body_says_that_the_connection_ends(daemon, method, path, length, status):
    gateway = daemon(policies={"all": ALL}).start()
    identity = gateway.cert("d1", policy="all")
    context = ssl.create_default_context(cafile=str(identity.ca))
    context.load_cert_chain(str(identity.certificate), str(identity.key))
    link = http.client.HTTPSConnection("localhost", gateway.ports["https"], context=context, timeout=10)
    link.putrequest(method, path)
    link.putheader("content-length", str(length))
    link.endheaders()
    answer = link.getresponse()
    assert (answer.status, answer.getheader("connection")) == (status, "close")
