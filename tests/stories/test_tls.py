"""TLS as clients meet it: each listener under `openssl s_client`, the guide's cipher suites, kinds of
keys, small libraries, and what the log says of certificates that are turned away."""

import pathlib
import socket
import ssl

import pytest

from harness import pki, raw
from harness.binaries import ROOT
from harness.clients import Client
from harness.daemon import Daemon, allow, certificate_id
from harness.netns import Loopback
from harness.ports import free_port
from harness.process import run
from harness.wait import until

ALL = allow((["iot:*"], ["*"]))

# The guide's "TLS Cipher Suite Support", by what becomes of it here.
OFFERED = {
    "ECDHE-ECDSA-AES128-GCM-SHA256": "ecdsa",
    "ECDHE-RSA-AES128-GCM-SHA256": "rsa",
    "ECDHE-ECDSA-AES256-GCM-SHA384": "ecdsa",
    "ECDHE-RSA-AES256-GCM-SHA384": "rsa",
}
GONE = [
    "ECDHE-ECDSA-AES128-SHA256", "ECDHE-RSA-AES128-SHA256", "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-RSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA384", "ECDHE-RSA-AES256-SHA384",
    "ECDHE-RSA-AES256-SHA", "ECDHE-ECDSA-AES256-SHA", "AES128-GCM-SHA256", "AES128-SHA256",
    "AES128-SHA", "AES256-GCM-SHA384", "AES256-SHA256", "AES256-SHA",
]


class Home:
    """`mqtts`, `https`, `wss` and `shared` with the gateway's own certificate, `rsa` with one of RSA."""

    def __init__(self, daemon, folder):
        self.gateway = daemon
        self.folder = folder
        self.authority = pki.make_ca(folder, "works")
        server = self.rsa_server()
        self.ports = {name: free_port() for name in ("wss", "shared", "rsa")}
        for name, protocol in (("wss", "wss"), ("shared", ["mqtts", "https", "wss"]), ("rsa", "mqtts")):
            listener = {
                "protocol": protocol, "address": f"127.0.0.1:{self.ports[name]}", "auth": "certificate",
            }
            if name == "rsa":
                listener.update(certificate=str(server.certificate), key=str(server.key))
            listener["client_ca"] = str(self.authority[0])
            self.gateway.config["listener"].append(listener)
        self.gateway.write()
        self.gateway.start()
        self.ports.update({name: self.gateway.ports[name] for name in ("mqtts", "https")})
        self.device = self.gateway.cert("device", policy="all")

    def rsa_server(self):
        key, csr, pem = (self.folder / f"server.{e}" for e in ("key", "csr", "pem"))
        ext = self.folder / "server.ext"
        ext.write_text("subjectAltName=DNS:localhost\n")
        for line in (
            f"req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout {key} -out {csr}",
            f"x509 -req -in {csr} -CA {self.authority[0]} -CAkey {self.authority[1]} -CAcreateserial "
            f"-days 30 -extfile {ext} -out {pem}",
        ):
            openssl(line)
        return pki.Identity(ca=self.authority[0], certificate=pem, key=key)


def openssl(line, cwd=None):
    done = run(["openssl", *line.split()], cwd=cwd)
    assert done.returncode == 0, f"openssl {line}:\n{done.stderr}"


@pytest.fixture(scope="module")
def home(binaries, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    it = Home(Daemon(binaries, folder / "gateway", policies={"all": ALL}), folder)
    yield it
    assert "panicked" not in it.gateway.process.log
    it.gateway.stop()


def s_client(home, port, *options, ca=None):
    """As the guide's troubleshooting calls it; what it prints."""
    d = home.device
    return run(
        [
            "openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", "localhost",
            "-verify_hostname", "localhost", "-CAfile", ca or d.ca, "-cert", d.certificate, "-key", d.key,
            *options,
        ],
        input="",
    )


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
@pytest.mark.parametrize("listener", ["mqtts", "https", "wss", "shared", "rsa"])
def test_s_client_finds_each_listener_in_order(home, listener, version):
    ca = home.authority[0] if listener == "rsa" else None
    flag = {"TLSv1.2": "-tls1_2", "TLSv1.3": "-tls1_3"}[version]
    done = s_client(home, home.ports[listener], flag, "-verify_return_error", ca=ca)
    assert done.returncode == 0, done.stderr
    assert "Verify return code: 0 (ok)" in done.stdout
    assert f"Protocol  : {version}" in done.stdout or f"New, {version}" in done.stdout, done.stdout


@pytest.mark.parametrize("listener,offered,chosen", [
    ("mqtts", "x-amzn-mqtt-ca", "x-amzn-mqtt-ca"),
    ("mqtts", "mqtt", "mqtt"),
    ("mqtts", "http/1.1", None),
    ("https", "x-amzn-http-ca", "x-amzn-http-ca"),
    ("https", "http/1.1", "http/1.1"),
    ("https", "mqtt", None),
    ("shared", "mqtt", "mqtt"),
    ("shared", "x-amzn-http-ca", "x-amzn-http-ca"),
    ("shared", "h2,http/1.1", "http/1.1"),
    ("shared", "h2", None),
])
def test_alpn(home, listener, offered, chosen):
    done = s_client(home, home.ports[listener], "-alpn", offered)
    if chosen:
        assert f"ALPN protocol: {chosen}" in done.stdout, done.stdout
    else:
        assert done.returncode != 0
        assert "no application protocol" in done.stderr, done.stderr


def test_any_server_name_is_taken(home):
    """Names differ by network; who the client wants, its own check of the certificate says."""
    for name in ("elsewhere.example", "data.iot.us-east-1.amazonaws.com"):
        done = s_client(home, home.ports["mqtts"], "-servername", name)
        assert "Verify return code: 0 (ok)" in done.stdout


def test_the_cipher_suites_of_the_guide(home):
    table = (ROOT / "docs" / "certificates.md").read_text()
    for suite, kind in OFFERED.items():
        port, ca = (home.ports["rsa"], home.authority[0]) if kind == "rsa" else (home.ports["mqtts"], None)
        done = s_client(home, port, "-tls1_2", "-cipher", suite, ca=ca)
        assert f"Cipher is {suite}" in done.stdout, done.stdout + done.stderr
        assert f"| `{suite}` | yes |" in table, suite
    for suite in GONE:
        for port in (home.ports["mqtts"], home.ports["rsa"]):
            done = s_client(home, port, "-tls1_2", "-cipher", f"{suite}:@SECLEVEL=0")
            assert done.returncode != 0 and "Cipher is (NONE)" in done.stdout, suite
        assert f"| `{suite}` | no |" in table, suite
    for old in ("-tls1", "-tls1_1"):
        done = s_client(home, home.ports["mqtts"], old, "-cipher", "ALL:@SECLEVEL=0")
        assert done.returncode != 0, old


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("kind", ["rsa:2048", "rsa:3072", "rsa:4096", "prime256v1", "secp384r1"])
def test_kinds_of_client_keys(home, kind, version, tmp_path):
    key, pem = tmp_path / "d.key", tmp_path / "d.pem"
    new = f"-newkey {kind}" if kind.startswith("rsa") else f"-newkey ec -pkeyopt ec_paramgen_curve:{kind}"
    openssl(f"req -x509 {new} -nodes -days 30 -subj /CN=d -keyout {key} -out {pem}")
    home.gateway.ctl_ok("cert", "register", "--pem", pem, "--policy", "all")
    context = ssl.create_default_context(cafile=str(home.device.ca))
    context.minimum_version = context.maximum_version = version
    context.load_cert_chain(pem, key)
    plain = socket.create_connection(("127.0.0.1", home.ports["mqtts"]), 10)
    with context.wrap_socket(plain, server_hostname="localhost") as link:
        link.sendall(raw.connect("kinds"))
        assert link.recv(4) == b"\x20\x02\x00\x00"


@pytest.mark.parametrize("kind", ["rsa:2048", "rsa:4096", "prime256v1", "secp384r1"])
def test_kinds_of_server_keys(daemon, kind, tmp_path):
    gateway = daemon(policies={"all": ALL})
    key, pem = tmp_path / "s.key", tmp_path / "s.pem"
    new = f"-newkey {kind}" if kind.startswith("rsa") else f"-newkey ec -pkeyopt ec_paramgen_curve:{kind}"
    openssl(
        f"req -x509 {new} -nodes -days 30 -subj /CN=s -addext subjectAltName=DNS:localhost "
        f"-keyout {key} -out {pem}"
    )
    gateway.config["listener"][1].update(certificate=str(pem), key=str(key))
    gateway.write()
    gateway.start()
    device = gateway.cert("d", policy="all")
    device.ca = pem
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = raw.client_context(device)
        context.minimum_version = context.maximum_version = version
        plain = socket.create_connection(("127.0.0.1", gateway.ports["mqtts"]), 10)
        with context.wrap_socket(plain, server_hostname="localhost") as link:
            link.sendall(raw.connect("d"))
            assert link.recv(4) == b"\x20\x02\x00\x00"


MBEDTLS = pathlib.Path("/usr/include/mbedtls/ssl.h")


@pytest.mark.skipif(not MBEDTLS.exists(), reason="needs libmbedtls-dev")
def test_a_small_client_that_speaks_tls_1_2_and_knows_dns_names_only(home, tmp_path):
    program = tmp_path / "mbedtls_client"
    source = ROOT / "tests" / "c" / "mbedtls_client.c"
    libraries = ["-lmbedtls", "-lmbedx509", "-lmbedcrypto"]
    built = run(["gcc", "-Wall", "-Wextra", "-Werror", source, "-o", program, *libraries])
    assert built.returncode == 0, built.stderr
    d = home.device
    files = [d.ca, d.certificate, d.key]
    for name in ("localhost", socket.gethostname().lower()):
        done = run([program, str(home.ports["mqtts"]), name, *files])
        assert done.returncode == 0, done.stdout
        assert "TLSv1.2" in done.stdout or "3.3" in done.stdout, done.stdout
    wrong = run([program, str(home.ports["mqtts"]), "elsewhere", *files])
    assert wrong.returncode == 1 and "handshake" in wrong.stdout


def test_the_server_certificate_has_the_hosts_addresses_and_names(daemon):
    gateway = daemon(config={"gateway": {"names": ["edge.example.com", "192.0.2.77"]}}).start()
    server = gateway.data_dir / "ca" / "server.pem"
    text = run(["openssl", "x509", "-in", server, "-noout", "-ext", "subjectAltName"]).stdout
    host = socket.gethostname().lower()
    for part in ("DNS:localhost", "DNS:edge.example.com", "192.0.2.77", "127.0.0.1", f"DNS:{host}"):
        assert part in text, text
    words = run(["hostname", "-I"]).stdout.split()
    for address in (w for w in words if ":" not in w and not w.startswith("169.254.")):
        assert f"IP Address:{address}" in text, text
    # Another name with a reload: connections stay, new ones are shown the new certificate.
    device = gateway.cert("d", policy="open")
    client = Client("d", gateway.ports["mqtts"], identity=device).connect()
    gateway.config["gateway"]["names"].append("new.example.com")
    gateway.write()
    assert "next start" not in gateway.ctl_ok("reload")
    client.publish("a", b"still here")
    done = run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{gateway.ports['mqtts']}", "-CAfile", device.ca,
         "-verify_hostname", "new.example.com", "-cert", device.certificate, "-key", device.key],
        input="",
    )
    assert "Verify return code: 0 (ok)" in done.stdout, done.stdout


def test_an_address_that_comes_stands_in_the_server_certificate_without_a_reload(daemon):
    """A lease of DHCP, in small: the host gets another address while clients are there."""
    network = Loopback()
    gateway = daemon()
    gateway.process = network.start(
        [gateway.binaries.iotedged, "--config", gateway.file], "iotedged#1", cwd=gateway.folder
    )
    gateway.log_has("is ready", deadline=20)
    device = gateway.cert("d", policy="open")
    done = network.run(["ip", "address", "add", "198.51.100.7/24", "dev", "lo"])
    assert done.returncode == 0, done.stderr
    gateway.log_has("the host has a new name or address", deadline=30)
    gateway.log_has("new connections are shown a new server certificate", deadline=30)
    done = network.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{gateway.ports['mqtts']}", "-CAfile", device.ca,
         "-verify_ip", "198.51.100.7", "-cert", device.certificate, "-key", device.key],
        input="",
    )
    assert "Verify return code: 0 (ok)" in done.stdout, done.stdout


def test_a_subject_of_many_values(home, tmp_path):
    key, pem = tmp_path / "d.key", tmp_path / "d.pem"
    many = "".join(f"/OU=unit{n}" for n in range(400))
    done = run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-days", "30", "-subj", many + "/CN=many", "-keyout", key, "-out", pem]
    )
    assert done.returncode == 0, done.stderr
    home.gateway.ctl_ok("cert", "register", "--pem", pem, "--policy", "all")
    identity = pki.Identity(ca=home.device.ca, certificate=pem, key=key)
    client = Client("many", home.ports["mqtts"], identity=identity).connect()
    client.publish("a", b"x")
    client.disconnect()


class Issuer:
    """`openssl ca`, which makes certificates of any time."""

    def __init__(self, folder, authority):
        self.folder, self.authority = folder, authority
        (folder / "index.txt").touch()
        (folder / "serial").write_text("1000\n")
        (folder / "ca.cnf").write_text(
            "[ca]\ndefault_ca=a\n[a]\ndatabase=index.txt\nserial=serial\nnew_certs_dir=.\n"
            "default_md=sha256\npolicy=p\nunique_subject=no\n[p]\ncommonName=supplied\n"
        )

    def make(self, name, start="20200101000000Z", end="20400101000000Z", extensions=""):
        ext = self.folder / f"{name}.ext"
        ext.write_text(f"basicConstraints=CA:FALSE\n{extensions}\n")
        new = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
        openssl(f"req {new} -subj /CN={name} -keyout {name}.key -out {name}.csr", self.folder)
        openssl(
            f"ca -batch -notext -config ca.cnf -cert {self.authority[0]} -keyfile {self.authority[1]} "
            f"-in {name}.csr -startdate {start} -enddate {end} -extfile {name}.ext -out {name}.pem",
            self.folder,
        )
        pem = self.folder / f"{name}.pem"
        return pki.Identity(ca=None, certificate=pem, key=self.folder / f"{name}.key", id=certificate_id(pem))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_each_reason_to_be_turned_away_has_its_own_line(home, version, tmp_path):
    issuer = Issuer(tmp_path, home.authority)
    middle = pki.make_ca(tmp_path / "middle", "middle")
    twin = pki.make_ca(tmp_path / "twin", "works")
    cases = {
        "expired": issuer.make("old", end="20210101000000Z"),
        "not yet valid": issuer.make("young", start="20390101000000Z"),
        "wrong purpose": issuer.make("server", extensions="extendedKeyUsage=serverAuth"),
        "unknown issuer": pki.sign(tmp_path / "middle", "orphan", middle),
        "bad signature": pki.sign(tmp_path / "twin", "forged", twin),
    }
    for reason, identity in cases.items():
        context = ssl.create_default_context(cafile=str(home.device.ca))
        context.minimum_version = context.maximum_version = version
        context.load_cert_chain(identity.certificate, identity.key)
        since = home.gateway.process.mark()
        with pytest.raises((OSError, AssertionError)):
            plain = socket.create_connection(("127.0.0.1", home.ports["shared"]), 10)
            with context.wrap_socket(plain, server_hostname="localhost") as link:
                link.sendall(raw.connect("c"))
                assert link.recv(4)[:1] == b"\x20"
        id = certificate_id(identity.certificate)
        home.gateway.log_explains("client certificate refused", id, f"reason={reason}", since=since)


def test_nothing_of_a_handshake_that_was_given_up_stays(home):
    """Half a handshake, many times: the listener goes on."""
    for _ in range(50):
        plain = socket.create_connection(("127.0.0.1", home.ports["mqtts"]), 10)
        plain.sendall(b"\x16\x03\x01\x00\x10" + bytes(10))
        plain.close()
    client = Client("after", home.ports["mqtts"], identity=home.device)
    until(lambda: client.connect(), "a client connects")
    client.disconnect()
