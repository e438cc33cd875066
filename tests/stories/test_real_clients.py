"""The clients that people have, unchanged, over each way in."""

import pathlib
import queue
import shutil
import socket
import ssl
import threading

import awscrt.io
import awscrt.mqtt
import awscrt.mqtt5
import paho.mqtt.client as paho
import pytest
from awscrt.mqtt5 import QoS
from awsiot import mqtt5_client_builder, mqtt_connection_builder

from harness.daemon import allow
from harness.ports import free_port
from harness.process import run

ALL = allow((["iot:*"], ["*"]))
CLIENTS = pathlib.Path(__file__).resolve().parents[1] / "clients"
SOON = 20


class Home:
    """A gateway with a port for each way in; `shared` speaks everything over TLS."""

    def __init__(self, daemon):
        self.gateway = daemon(policies={"all": ALL})
        self.ports = {name: free_port() for name in ("ws", "wss", "shared", "plain")}
        for name, protocol in (
            ("ws", "ws"), ("wss", "wss"), ("shared", ["mqtts", "https", "wss"]),
            ("plain", ["mqtt", "http", "ws"]),
        ):
            auth = (
                {"auth": "anonymous", "policy": "open"} if name in ("ws", "plain")
                else {"auth": "certificate"}
            )
            self.gateway.config["listener"].append(
                {"protocol": protocol, "address": f"127.0.0.1:{self.ports[name]}", **auth})
        self.gateway.write()
        self.gateway.start()
        self.ports.update(mqtt=self.gateway.ports["mqtt"], mqtts=self.gateway.ports["mqtts"])
        self.device = self.gateway.cert("device", policy="all")


@pytest.fixture(scope="module")
def home(binaries, tmp_path_factory):
    from harness.daemon import Daemon

    it = Home(lambda **how: Daemon(binaries, tmp_path_factory.mktemp("clients"), **how))
    yield it
    assert "panicked" not in it.gateway.process.log
    it.gateway.stop()


TLS = ("mqtts", "wss")
WAYS = [
    ("mqtt", "mqtt"), ("mqtts", "mqtts"), ("ws", "ws"), ("wss", "wss"),
    ("mqtt", "plain"), ("ws", "plain"), ("mqtts", "shared"), ("wss", "shared"),
]


@pytest.mark.parametrize("version", ["4", "5"])
@pytest.mark.parametrize("scheme, port", WAYS)
def test_mqtt_js(home, scheme, port, version):
    node = shutil.which("node")
    assert node, "node is not installed (apt-get install nodejs npm)"
    assert (CLIENTS / "node_modules" / "mqtt").is_dir(), "run `make test-deps`, or npm ci in tests/clients"
    url = f"{scheme}://localhost:{home.ports[port]}" + ("/mqtt" if scheme.startswith("ws") else "")
    files = [home.device.ca, home.device.certificate, home.device.key] if scheme in TLS else []
    done = run([node, CLIENTS / "mqttjs.js", url, version, *files], deadline=60)
    assert (done.returncode, done.stdout) == (0, "all done\n"), done.stdout + done.stderr


@pytest.mark.parametrize("version", [paho.MQTTv311, paho.MQTTv5], ids=["3.1.1", "5"])
@pytest.mark.parametrize("scheme, port", WAYS)
def test_paho(home, scheme, port, version):
    transport = "websockets" if scheme.startswith("ws") else "tcp"
    client = paho.Client(
        paho.CallbackAPIVersion.VERSION2, f"paho-{scheme}-{port}-{version}", transport=transport,
        protocol=version, reconnect_on_failure=False,
    )
    if scheme in TLS:
        client.tls_set(
            str(home.device.ca), str(home.device.certificate), str(home.device.key),
            cert_reqs=ssl.CERT_REQUIRED,
        )
    got, granted = queue.SimpleQueue(), threading.Event()
    topic = f"paho/{scheme}/{port}/{int(version)}"
    client.on_connect = lambda *_: client.subscribe(topic, 2)
    client.on_subscribe = lambda *_: granted.set()
    client.on_message = lambda _c, _d, message: got.put((message.qos, message.payload))
    client.connect("localhost", home.ports[port])
    client.loop_start()
    try:
        assert granted.wait(SOON)
        sent = [(0, b"a"), (1, b""), (2, bytes(range(256)) * 500)]
        for qos, payload in sent:
            client.publish(topic, payload, qos).wait_for_publish(SOON)
        assert [got.get(timeout=SOON) for _ in sent] == sent
    finally:
        client.disconnect()
        client.loop_stop()


def https(home, alpn=None):
    context = ssl.create_default_context(cafile=str(home.device.ca))
    context.load_cert_chain(str(home.device.certificate), str(home.device.key))
    if alpn:
        context.set_alpn_protocols(alpn)
    plain = socket.create_connection(("127.0.0.1", home.ports["shared"]), SOON)
    return context.wrap_socket(plain, server_hostname="localhost")


@pytest.mark.parametrize(
    "offered, chosen",
    [(None, None), (["h2", "http/1.1"], "http/1.1"), (["x-amzn-http-ca"], "x-amzn-http-ca")],
)
def test_https_on_a_shared_port(home, offered, chosen):
    with https(home, offered) as link:
        assert link.selected_alpn_protocol() == chosen
        link.sendall(
            b"POST /topics/shared%2Fhttps?qos=1 HTTP/1.1\r\nHost: localhost\r\n"
            b"Connection: close\r\nContent-Length: 2\r\n\r\nhi")
        answer = b""
        while more := link.recv(4096):
            answer += more
    assert answer.startswith(b"HTTP/1.1 200 "), answer


def test_a_shared_port_turns_away_what_it_does_not_speak(home):
    with pytest.raises(ssl.SSLError, match="(?i)no.application.protocol"):
        https(home, ["h2"])


def test_curl_on_a_shared_port(home):
    device = home.device
    done = run([
        "curl", "-sS", "--cacert", device.ca, "--cert", device.certificate, "--key", device.key,
        "-d", "hi", f"https://localhost:{home.ports['shared']}/topics/shared%2Fcurl?qos=1",
    ])
    assert '"OK"' in done.stdout, done.stdout + done.stderr


class Aws:
    """Callbacks of the AWS SDK's version 5 client, as queues."""

    def __init__(self):
        self.connected, self.failed = queue.SimpleQueue(), queue.SimpleQueue()
        self.stopped, self.messages = threading.Event(), queue.SimpleQueue()
        self.callbacks = {
            "on_lifecycle_connection_success": lambda data: self.connected.put(data),
            "on_lifecycle_connection_failure": lambda data: self.failed.put(data.exception),
            "on_lifecycle_stopped": lambda _: self.stopped.set(),
            "on_publish_received": lambda data: self.messages.put(data.publish_packet),
        }

    def talk(self, client, topic):
        client.start()
        try:
            ack = self.connected.get(timeout=SOON).connack_packet
            filters = [awscrt.mqtt5.Subscription(topic_filter=topic, qos=QoS.AT_LEAST_ONCE)]
            granted = client.subscribe(awscrt.mqtt5.SubscribePacket(subscriptions=filters))
            assert granted.result(SOON).reason_codes == [awscrt.mqtt5.SubackReasonCode.GRANTED_QOS_1]
            sent = awscrt.mqtt5.PublishPacket(
                topic=topic, payload=b"from the SDK", qos=QoS.AT_LEAST_ONCE,
                user_properties=[awscrt.mqtt5.UserProperty("name", "value")],
                content_type="text/plain", response_topic="an/answer", correlation_data=b"\0\1",
            )
            client.publish(sent).result(SOON)
            got = self.messages.get(timeout=SOON)
            for field in ("topic", "payload", "content_type", "response_topic"):
                assert getattr(got, field) == getattr(sent, field), field
            assert got.correlation_data_bytes == b"\0\1"
            assert [(p.name, p.value) for p in got.user_properties] == [("name", "value")]
            return ack
        finally:
            client.stop()
            assert self.stopped.wait(SOON)


def files(device):
    return {
        "cert_filepath": str(device.certificate), "pri_key_filepath": str(device.key),
        "ca_filepath": str(device.ca),
    }


def test_the_aws_sdk_in_version_5(home):
    aws = Aws()
    client = mqtt5_client_builder.mtls_from_path(
        endpoint="localhost", port=home.ports["mqtts"], client_id="aws-5", **files(home.device),
        **aws.callbacks,
    )
    ack = aws.talk(client, "aws/5")
    assert ack.maximum_qos in (None, QoS.EXACTLY_ONCE, 2)


def tls(home, alpn):
    options = awscrt.io.TlsContextOptions.create_client_with_mtls_from_path(
        str(home.device.certificate), str(home.device.key))
    options.override_default_trust_store_from_path(None, str(home.device.ca))
    options.alpn_list = [alpn]
    return awscrt.io.ClientTlsContext(options)


@pytest.mark.parametrize("alpn", ["x-amzn-mqtt-ca", "mqtt"])
def test_the_aws_sdk_on_a_shared_port_by_alpn(home, alpn):
    """As it does on port 443, where the cloud speaks HTTPS too."""
    aws = Aws()
    options = awscrt.mqtt5.ClientOptions(
        host_name="localhost", port=home.ports["shared"], tls_ctx=tls(home, alpn),
        connect_options=awscrt.mqtt5.ConnectPacket(client_id=f"aws-{alpn}"),
        on_lifecycle_event_connection_success_fn=aws.callbacks["on_lifecycle_connection_success"],
        on_lifecycle_event_stopped_fn=aws.callbacks["on_lifecycle_stopped"],
        on_publish_callback_fn=aws.callbacks["on_publish_received"],
    )
    aws.talk(awscrt.mqtt5.Client(options), f"aws/{alpn}")


def test_the_aws_sdk_in_version_3_1_1(home):
    connection = mqtt_connection_builder.mtls_from_path(
        endpoint="localhost", port=home.ports["mqtts"], client_id="aws-3", clean_session=True,
        keep_alive_secs=30, **files(home.device),
    )
    assert connection.connect().result(SOON) == {"session_present": False}
    got = queue.SimpleQueue()
    once = awscrt.mqtt.QoS.AT_LEAST_ONCE
    future, _ = connection.subscribe(
        "aws/3", once, callback=lambda topic, payload, **_: got.put((topic, payload)))
    assert future.result(SOON)["qos"] == once
    future, _ = connection.publish("aws/3", b"hello", once)
    future.result(SOON)
    assert got.get(timeout=SOON) == ("aws/3", b"hello")
    connection.disconnect().result(SOON)
