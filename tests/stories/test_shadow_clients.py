"""The clients that people have for shadows, unchanged: AWS's SDK for devices, both generations of its shadow
client, and boto3 for applications."""

import json
import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import awscrt.mqtt
import awscrt.mqtt5
import boto3
import pytest
from awscrt.mqtt_request_response import ClientOptions, SubscriptionStatusEventType
from awsiot import ServiceStreamOptions, V2ServiceException, iotshadow
from awsiot import mqtt5_client_builder, mqtt_connection_builder
from botocore.config import Config
from botocore.exceptions import ClientError

from harness.daemon import Daemon, allow

SOON = 20
ONCE = awscrt.mqtt.QoS.AT_LEAST_ONCE
ALL = allow((["iot:*"], ["*"]))
READER = allow((["iot:GetThingShadow"], ["arn:aws:iot:*:*:thing/reader/seen"]))


@pytest.fixture(scope="module")
def gateway(binaries, tmp_path_factory):
    it = Daemon(binaries, tmp_path_factory.mktemp("clients"), policies={"all": ALL, "reader": READER})
    it.start()
    yield it
    assert "panicked" not in it.process.log
    it.stop()


@pytest.fixture(scope="module")
def device(gateway):
    return gateway.cert("device", policy="all")


def files(device):
    return {
        "cert_filepath": str(device.certificate), "pri_key_filepath": str(device.key),
        "ca_filepath": str(device.ca),
    }


@pytest.fixture(params=["3.1.1", "5"])
def mqtt(request, gateway, device):
    """A connected client of the SDK."""
    where = {"endpoint": "localhost", "port": gateway.ports["mqtts"], **files(device)}
    if request.param == "3.1.1":
        connection = mqtt_connection_builder.mtls_from_path(
            client_id="sdk-3", clean_session=True, keep_alive_secs=30, **where
        )
        connection.connect().result(SOON)
        yield connection
        connection.disconnect().result(SOON)
        return
    connected, stopped = threading.Event(), threading.Event()
    client = mqtt5_client_builder.mtls_from_path(
        client_id="sdk-5",
        on_lifecycle_connection_success=lambda _: connected.set(),
        on_lifecycle_stopped=lambda _: stopped.set(),
        **where,
    )
    client.start()
    assert connected.wait(SOON)
    yield client
    client.stop()
    assert stopped.wait(SOON)


@pytest.fixture
def thing(request):
    return "".join(c if c.isalnum() else "-" for c in request.node.name)[:100]


@pytest.fixture(params=[None, "config"], ids=["classic", "named"])
def shadow(request):
    return request.param


class FirstGeneration:
    """`IotShadowClient`: subscriptions with callbacks, requests that are published."""

    def __init__(self, mqtt, thing, shadow):
        self.client = iotshadow.IotShadowClient(mqtt)
        self.named = "named_" if shadow else ""
        self.where = {"thing_name": thing, **({"shadow_name": shadow} if shadow else {})}
        self.news = {}
        for operation in ("update", "get", "delete"):
            kind = f"{operation.title()}{'Named' if shadow else ''}ShadowSubscriptionRequest"
            for answer in ("accepted", "rejected"):
                self.subscribe(
                    f"{operation}_{self.named}shadow_{answer}", kind, f"{operation} {answer}")
        named = "Named" if shadow else ""
        self.subscribe(
            f"{self.named}shadow_delta_updated_events",
            f"{named}ShadowDeltaUpdatedSubscriptionRequest", "delta")
        self.subscribe(
            f"{self.named}shadow_updated_events", f"{named}ShadowUpdatedSubscriptionRequest", "documents")

    def subscribe(self, what, kind, name):
        self.news[name] = queue.SimpleQueue()
        done, _ = getattr(self.client, f"subscribe_to_{what}")(
            getattr(iotshadow, kind)(**self.where), ONCE, self.news[name].put
        )
        done.result(SOON)

    def ask(self, operation, **how):
        kind = f"{operation.title()}{'Named' if self.named else ''}ShadowRequest"
        request = getattr(iotshadow, kind)(**self.where, **how)
        getattr(self.client, f"publish_{operation}_{self.named}shadow")(request, ONCE).result(SOON)

    def take(self, name):
        return self.news[name].get(timeout=SOON)


def test_the_first_shadow_client_of_the_device_sdk(mqtt, thing, shadow):
    it = FirstGeneration(mqtt, thing, shadow)
    it.ask("get", client_token="early")
    missing = it.take("get rejected")
    assert (missing.code, missing.client_token) == (404, "early")
    assert missing.message == f"No shadow exists with name: '{thing}{'~' + shadow if shadow else ''}'"

    state = iotshadow.ShadowState(desired={"color": "green"}, reported={"color": "red"})
    it.ask("update", state=state, client_token="first")
    accepted = it.take("update accepted")
    assert (accepted.version, accepted.client_token) == (1, "first")
    assert accepted.state.desired == {"color": "green"}
    assert accepted.metadata.desired["color"]["timestamp"] <= time.time()
    delta = it.take("delta")
    assert (delta.state, delta.version) == ({"color": "green"}, 1)
    documents = it.take("documents")
    assert documents.previous is None or documents.previous.state is None
    assert documents.current.state.reported == {"color": "red"}

    it.ask("get", client_token="look")
    got = it.take("get accepted")
    assert got.state.delta == {"color": "green"}
    assert got.metadata.reported["color"]["timestamp"] <= time.time()

    # The device has done what was desired, and takes the wish back.
    state = iotshadow.ShadowState(reported={"color": "green"}, desired_is_nullable=True)
    it.ask("update", state=state, version=1)
    assert it.take("update accepted").version == 2
    documents = it.take("documents")
    assert documents.previous.version == 1
    assert documents.current.state.desired is None

    it.ask("update", state=state, version=1, client_token="stale")
    conflict = it.take("update rejected")
    assert (conflict.code, conflict.message, conflict.client_token) == (409, "Version conflict", "stale")

    it.ask("delete", client_token="away")
    assert it.take("delete accepted").version == 2
    it.ask("delete", client_token="again")
    assert it.take("delete rejected").code == 404
    assert it.news["delta"].empty()


class SecondGeneration:
    """`IotShadowClientV2`: requests with futures, events as streams."""

    def __init__(self, mqtt, thing, shadow):
        options = ClientOptions(
            max_request_response_subscriptions=4, max_streaming_subscriptions=3,
            operation_timeout_in_seconds=SOON,
        )
        self.client = iotshadow.IotShadowClientV2(mqtt, options)
        self.shadow = shadow
        self.where = {"thing_name": thing, **({"shadow_name": shadow} if shadow else {})}

    def ask(self, operation, **how):
        kind = f"{operation.title()}{'Named' if self.shadow else ''}ShadowRequest"
        request = getattr(iotshadow, kind)(**self.where, **how)
        call = getattr(self.client, f"{operation}_{'named_' if self.shadow else ''}shadow")
        return call(request).result(SOON)

    def refused(self, operation, **how):
        with pytest.raises(V2ServiceException) as caught:
            self.ask(operation, **how)
        return caught.value.modeled_error.code

    def deltas(self):
        events, there = queue.SimpleQueue(), threading.Event()

        def status(event):
            if event.type == SubscriptionStatusEventType.SUBSCRIPTION_ESTABLISHED:
                there.set()

        named = "Named" if self.shadow else ""
        request = getattr(iotshadow, f"{named}ShadowDeltaUpdatedSubscriptionRequest")(**self.where)
        create = getattr(self.client, f"create_{'named_' if self.shadow else ''}shadow_delta_updated_stream")
        stream = create(request, ServiceStreamOptions(
            incoming_event_listener=events.put, subscription_status_listener=status))
        stream.open()
        assert there.wait(SOON)
        return stream, events


def test_the_second_shadow_client_of_the_device_sdk(mqtt, thing, shadow):
    it = SecondGeneration(mqtt, thing, shadow)
    stream, deltas = it.deltas()
    assert it.refused("get") == 404
    state = iotshadow.ShadowState(desired={"n": 1})
    assert it.ask("update", state=state).version == 1
    assert deltas.get(timeout=SOON).state == {"n": 1}
    assert it.ask("update", state=iotshadow.ShadowState(reported={"n": 1})).version == 2
    got = it.ask("get")
    assert (got.state.desired, got.state.reported, got.state.delta) == ({"n": 1}, {"n": 1}, None)
    assert it.refused("update", state=state, version=1) == 409
    deep = {"a": {"b": {"c": {"d": {"e": {"f": {"g": 1}}}}}}}
    assert it.refused("update", state=iotshadow.ShadowState(desired=deep)) == 400
    assert it.refused("update", state=iotshadow.ShadowState(desired={"x": "x" * 9000})) == 413
    assert it.ask("delete").version == 2
    assert it.refused("delete") == 404
    assert deltas.empty()
    del stream


def test_many_requests_of_the_second_client_at_once_each_get_their_answer(mqtt, thing):
    """More than may be in flight: the ones too many are refused with their own token, none is left waiting."""
    it = SecondGeneration(mqtt, thing, None)
    it.ask("update", state=iotshadow.ShadowState(reported={"n": -1}))
    futures = [
        it.client.update_shadow(iotshadow.UpdateShadowRequest(
            thing_name=thing, state=iotshadow.ShadowState(reported={"n": n})))
        for n in range(40)
    ]
    done, refused = [], []
    for future in futures:
        try:
            done.append(future.result(SOON).version)
        except V2ServiceException as error:
            refused.append(error.modeled_error.code)
    assert len(done) + len(refused) == 40 and len(done) >= 10
    assert sorted(done) == list(range(2, len(done) + 2))
    assert set(refused) <= {429}


@pytest.fixture(scope="module")
def aws(gateway, device):
    return data_plane(gateway, device)


def data_plane(gateway, identity):
    return boto3.client(
        "iot-data", region_name="local", endpoint_url=f"https://localhost:{gateway.ports['https']}",
        aws_access_key_id="nobody", aws_secret_access_key="looks at it", verify=str(identity.ca),
        config=Config(
            client_cert=(str(identity.certificate), str(identity.key)), retries={"max_attempts": 0},
            max_pool_connections=30,
        ),
    )


def where(thing, shadow):
    return {"thingName": thing, **({"shadowName": shadow} if shadow else {})}


def document(answer):
    return json.loads(answer["payload"].read())


def test_boto3_updates_reads_and_deletes(aws, thing, shadow):
    here = where(thing, shadow)
    request = {"state": {"desired": {"a": 1}, "reported": {"a": 0}}, "clientToken": "b3"}
    accepted = document(aws.update_thing_shadow(**here, payload=json.dumps(request)))
    assert list(accepted) == ["state", "metadata", "version", "timestamp", "clientToken"]
    assert (accepted["version"], accepted["clientToken"]) == (1, "b3")
    got = document(aws.get_thing_shadow(**here))
    assert got["state"] == {"desired": {"a": 1}, "reported": {"a": 0}, "delta": {"a": 1}}
    other = where(thing, None if shadow else "config")
    with pytest.raises(aws.exceptions.ResourceNotFoundException):
        aws.get_thing_shadow(**other)
    deleted = document(aws.delete_thing_shadow(**here))
    assert deleted == {"version": 1, "timestamp": deleted["timestamp"]}
    with pytest.raises(aws.exceptions.ResourceNotFoundException):
        aws.get_thing_shadow(**here)
    again = document(aws.update_thing_shadow(**here, payload=b'{"state":{}}'))
    assert again["version"] == 2


@pytest.mark.parametrize(
    "kind, status, payload",
    [
        ("InvalidRequestException", 400, b"{"),
        ("InvalidRequestException", 400, b""),
        ("InvalidRequestException", 400, b'{"state":{"reported":{"a":[null]}}}'),
        ("ConflictException", 409, b'{"state":{"reported":{"a":1}},"version":7}'),
        ("RequestEntityTooLargeException", 413, json.dumps({"state": {"reported": {"a": "x" * 9000}}})),
        ("UnsupportedDocumentEncodingException", 415, b'{"state":{"reported":{"a":"\xff\xfe"}}}'),
    ],
)
def test_boto3_hears_each_refusal_as_the_exception_of_the_api(aws, thing, shadow, kind, status, payload):
    aws.update_thing_shadow(**where(thing, shadow), payload=b'{"state":{}}')
    with pytest.raises(getattr(aws.exceptions, kind)) as caught:
        aws.update_thing_shadow(**where(thing, shadow), payload=payload)
    answer = caught.value.response
    assert answer["Error"]["Code"] == kind
    assert answer["Error"]["Message"]
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == status
    assert answer["ResponseMetadata"]["RequestId"]
    assert document(aws.get_thing_shadow(**where(thing, shadow)))["version"] == 1


def test_boto3_hears_of_names_that_cannot_be(aws):
    for how in ({"thingName": "a b"}, {"thingName": "x" * 129}, {"thingName": "a", "shadowName": "b.c"}):
        with pytest.raises((aws.exceptions.InvalidRequestException, ClientError)) as caught:
            aws.get_thing_shadow(**how)
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400, how


def test_boto3_pages_through_the_names_of_shadows(aws, thing):
    names = sorted(f"shadow-{n:02}" for n in range(30))
    for name in names:
        aws.update_thing_shadow(thingName=thing, shadowName=name, payload=b'{"state":{}}')
    aws.update_thing_shadow(thingName=thing, payload=b'{"state":{}}')
    first = aws.list_named_shadows_for_thing(thingName=thing)
    assert first["results"] == names[:25]
    assert abs(first["timestamp"] - time.time()) < 60
    rest = aws.list_named_shadows_for_thing(thingName=thing, nextToken=first["nextToken"])
    assert (rest["results"], rest.get("nextToken")) == (names[25:], None)
    # The last name of a page may be gone when the next one is asked for.
    page = aws.list_named_shadows_for_thing(thingName=thing, pageSize=7)
    aws.delete_thing_shadow(thingName=thing, shadowName=names[6])
    found = page["results"]
    while "nextToken" in page:
        page = aws.list_named_shadows_for_thing(thingName=thing, pageSize=7, nextToken=page["nextToken"])
        found += page["results"]
    assert found == names
    assert aws.list_named_shadows_for_thing(thingName=f"{thing}-none")["results"] == []
    # 0 is not even sent by boto3, which knows the range of the API.
    with pytest.raises(aws.exceptions.InvalidRequestException):
        aws.list_named_shadows_for_thing(thingName=thing, pageSize=101)
    with pytest.raises(aws.exceptions.InvalidRequestException):
        aws.list_named_shadows_for_thing(thingName=thing, nextToken="no name")


def test_boto3_may_do_what_the_policies_say_of_the_shadow(gateway):
    aws = data_plane(gateway, gateway.cert("reader", policy="reader"))
    with pytest.raises(aws.exceptions.ResourceNotFoundException):
        aws.get_thing_shadow(thingName="reader", shadowName="seen")
    for call, how in (
        (aws.get_thing_shadow, {"thingName": "reader"}),
        (aws.get_thing_shadow, {"thingName": "reader", "shadowName": "other"}),
        (aws.update_thing_shadow, {"thingName": "reader", "shadowName": "seen", "payload": b"{}"}),
        (aws.delete_thing_shadow, {"thingName": "reader", "shadowName": "seen"}),
        (aws.list_named_shadows_for_thing, {"thingName": "reader"}),
    ):
        with pytest.raises(ClientError) as caught:
            call(**how)
        answer = caught.value.response
        assert answer["Error"]["Code"] == "ForbiddenException", how
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 403
        assert answer["Error"]["Message"] == "Forbidden"
    gateway.log_explains("PolicyDenied", "iot:GetThingShadow", "reader/other")


def test_boto3_is_throttled_beyond_what_may_be_in_flight(daemon):
    """`shadow.max_in_flight` is a setting; commits that linger keep the first one in flight."""
    config = {"store": {"sync": "50ms"}, "shadow": {"max_in_flight": 1}}
    gateway = daemon(config=config, policies={"all": ALL}).start()
    aws = data_plane(gateway, gateway.cert("many", policy="all"))

    def update(n):
        try:
            payload = json.dumps({"state": {"reported": {f"k{n}": n}}})
            return document(aws.update_thing_shadow(thingName="busy", payload=payload))["version"]
        except aws.exceptions.ThrottlingException as error:
            assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 429
            return None

    # On a busy machine they may all come one after the other: then they try again.
    versions = []
    with ThreadPoolExecutor(20) as pool:
        while None not in versions and len(versions) < 600:
            versions += pool.map(update, range(len(versions), len(versions) + 60))
    accepted = [version for version in versions if version]
    assert None in versions
    assert sorted(accepted) == list(range(1, len(accepted) + 1))
    kept = document(aws.get_thing_shadow(thingName="busy"))
    assert kept["version"] == len(accepted)
    assert set(kept["state"]["reported"]) == {f"k{n}" for n, version in enumerate(versions) if version}
