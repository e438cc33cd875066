"""Keys that stay in a token: SoftHSM in the place of a TPM or an HSM."""

import os
import pathlib
import socket
import ssl

import pytest

from harness import pki, raw
from harness.clients import Client
from harness.daemon import allow
from harness.process import run

ALL = allow((["iot:*"], ["*"]))
MODULES = sorted(pathlib.Path("/usr/lib").glob("**/softhsm/libsofthsm2.so"))

pytestmark = pytest.mark.skipif(not MODULES, reason="needs softhsm2")


class Token:
    """A SoftHSM token of its own with the pin 1234."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "tokens").mkdir(parents=True)
        self.conf = folder / "softhsm2.conf"
        self.conf.write_text(f"directories.tokendir = {folder / 'tokens'}\nobjectstore.backend = file\n")
        self.pin = folder / "pin"
        self.pin.write_text("1234\n")
        self.environment = {"SOFTHSM2_CONF": str(self.conf)}
        self.util("--init-token", "--free", "--label", "edge token", "--pin", "1234", "--so-pin", "5678")

    def util(self, *argv):
        done = run(["softhsm2-util", *argv], env=self.environment)
        assert done.returncode == 0, done.stdout + done.stderr

    def bring(self, name, number, key):
        """Imports a key and forgets its file."""
        pkcs8 = key.with_suffix(".p8")
        openssl(f"pkcs8 -topk8 -nocrypt -in {key} -out {pkcs8}")
        self.util(
            "--import", pkcs8, "--token", "edge token", "--label", name, "--id", number, "--pin", "1234"
        )
        os.unlink(key)
        os.unlink(pkcs8)

    def uri(self, name, pin=None):
        pin = f"pin-value={pin}" if pin else f"pin-source=file:{self.pin}"
        return f"pkcs11:token=edge%20token;object={name};type=private?module-path={MODULES[0]}&{pin}"


def openssl(line):
    done = run(["openssl", *line.split()])
    assert done.returncode == 0, done.stderr


@pytest.fixture
def token(tmp_path):
    return Token(tmp_path / "token")


def pair(folder, kind):
    key, pem = folder / f"{kind}.key".replace(":", ""), folder / f"{kind}.pem".replace(":", "")
    new = f"-newkey {kind}" if kind.startswith("rsa") else f"-newkey ec -pkeyopt ec_paramgen_curve:{kind}"
    openssl(
        f"req -x509 {new} -nodes -days 30 -subj /CN=edge -addext subjectAltName=DNS:localhost "
        f"-keyout {key} -out {pem}"
    )
    return key, pem


@pytest.mark.parametrize("kind", ["rsa:2048", "prime256v1", "secp384r1"])
def test_a_server_key_in_a_token(daemon, token, tmp_path, kind):
    key, pem = pair(tmp_path, kind)
    token.bring("server", "01", key)
    gateway = daemon(policies={"all": ALL})
    gateway.environment = token.environment
    for listener in gateway.config["listener"][1:]:
        listener.update(certificate=str(pem), key=token.uri("server"))
    gateway.write()
    gateway.start()
    device = gateway.cert("d", policy="all")
    device.ca = pem
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        for _ in range(3):
            context = raw.client_context(device)
            context.minimum_version = context.maximum_version = version
            plain = socket.create_connection(("127.0.0.1", gateway.ports["mqtts"]), 10)
            with context.wrap_socket(plain, server_hostname="localhost") as link:
                link.sendall(raw.connect("d"))
                assert link.recv(4) == b"\x20\x02\x00\x00"
    assert gateway.https("POST", "/topics/a?qos=1", device, b"x")[0] == 200
    client = Client("stays", gateway.ports["mqtts"], identity=device).connect()
    gateway.ctl_ok("reload")
    client.publish("a", b"still here")
    Client("comes", gateway.ports["mqtts"], identity=device).connect().disconnect()


def test_what_is_wrong_with_a_token_is_said_without_the_pin(daemon, token, tmp_path):
    key, pem = pair(tmp_path, "prime256v1")
    other, _ = pair(tmp_path, "secp384r1")
    token.bring("server", "01", key)
    token.bring("other", "02", other)
    gateway = daemon()
    listener = gateway.config["listener"][1]

    def wrong(uri, reason):
        listener.update(certificate=str(pem), key=uri)
        gateway.write()
        done = run(
            [gateway.binaries.iotedged, "check", "--config", gateway.file], env=token.environment
        )
        assert done.returncode == 1 and reason in done.stderr, (uri, done)
        assert "9876" not in done.stderr
        process = gateway.spawn()
        assert process.wait() == 1
        assert "9876" not in process.log

    gateway.environment = token.environment
    wrong(token.uri("server", pin="9876"), "does not let us in")
    wrong(token.uri("none"), "no such private key")
    wrong(token.uri("other"), "is not the key of")
    wrong(token.uri("server").replace("edge", "no"), "no such token")
    wrong(token.uri("server").replace(str(MODULES[0]), "/nowhere.so"), "/nowhere.so")
    wrong("pkcs11:object=server", "module-path")


def test_the_bridge_shows_a_certificate_whose_key_is_in_a_token(daemon, upstream, token, tmp_path):
    folder = tmp_path / "pki"
    authority = pki.make_ca(folder, "upstream-ca")
    server = pki.sign(folder, "server", authority, san="DNS:localhost,IP:127.0.0.1")
    ours = pki.sign(folder, "edge", authority)
    token.bring("bridge", "07", ours.key)
    broker = upstream(tls=server)
    broker.start()
    gateway = daemon(
        config={
            "upstream": [{
                "name": "cloud", "url": f"mqtts://localhost:{broker.port}", "ca": str(authority[0]),
                "certificate": str(ours.certificate), "key": token.uri("bridge"),
                "route": [{"direction": "out", "filter": "up/#"}],
            }]
        }
    )
    gateway.environment = token.environment
    gateway.start()
    gateway.wait_link("cloud")
    client = Client("c", gateway.ports["mqtt"]).connect()
    client.publish("up/1", b"x")
