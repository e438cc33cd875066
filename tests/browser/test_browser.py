"""A page in a real browser talks MQTT to the gateway. Apart from the other stories: it needs chromium
(`make test-browser` installs it)."""

import functools
import http.server
import pathlib
import queue
import shutil
import threading
import urllib.parse

import pytest
from conformance import wire
from harness.ports import free_port
from harness.process import Process

HERE = pathlib.Path(__file__).resolve().parent
FILES = {
    "/page.html": (HERE.parent / "clients" / "page.html", "text/html"),
    "/mqtt.min.js": (
        HERE.parent / "clients" / "node_modules" / "mqtt" / "dist" / "mqtt.min.js", "text/javascript"),
}
SOON = 60


class Pages(http.server.BaseHTTPRequestHandler):
    """A web server somewhere: the page, MQTT.js, and what the page reports."""

    def __init__(self, reports, *argv):
        self.reports = reports
        super().__init__(*argv)

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        if url.path == "/report":
            self.reports.put(urllib.parse.parse_qs(url.query)["what"][0])
            self.send_response(204)
            self.end_headers()
        elif url.path in FILES:
            file, kind = FILES[url.path]
            self.send_response(200)
            self.send_header("content-type", kind)
            self.end_headers()
            self.wfile.write(file.read_bytes())
        else:
            self.send_error(404)

    def log_message(self, *_):
        pass


@pytest.fixture
def pages():
    reports = queue.SimpleQueue()
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Pages, reports))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.reports, server.origin = reports, f"http://localhost:{server.server_port}"
    yield server
    server.shutdown()


@pytest.fixture
def browse(tmp_path, pages):
    """Opens the page in a browser."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    assert program, "chromium is not installed (apt-get install chromium)"

    def open(url, version):
        query = urllib.parse.urlencode({"url": url, "version": version})
        argv = [
            program, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
            "--ignore-certificate-errors", f"--user-data-dir={tmp_path / 'profile'}",
            f"{pages.origin}/page.html?{query}",
        ]
        return Process(argv, "chromium")

    return open


@pytest.fixture
def gateway(daemon, pages):
    """With a listener for WebSocket and one with TLS, both for everybody's pages of that origin."""
    it = daemon()
    it.ports.update(ws=free_port(), wss=free_port(), closed=free_port())
    for name, protocol, origins in (
        ("ws", ["ws", "mqtt"], [pages.origin]), ("wss", "wss", ["*"]), ("closed", "ws", []),
    ):
        it.config["listener"].append({
            "protocol": protocol, "address": f"127.0.0.1:{it.ports[name]}", "auth": "anonymous",
            "policy": "open", "allowed_origins": origins,
        })
    it.write()
    return it.start()


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_a_page_talks_mqtt(gateway, pages, browse, scheme, version):
    with wire.Client(gateway.ports["mqtt"]) as hears:
        hears.connect("hears")
        hears.subscribe(("browser/up", 2))
        browse(f"{scheme}://localhost:{gateway.ports[scheme]}/mqtt", version)
        assert hears.take(SOON).payload == f"hello from {pages.origin}".encode()
        for payload in (b"\0\1\2", b"x" * 70_000 + b"y"):
            hears.publish("browser/down", payload)
            got = hears.take(SOON)
            assert (got.payload, got.qos) == (payload[::-1], 2)
    assert pages.reports.empty(), pages.reports.get()


def test_a_page_from_elsewhere_is_kept_out(gateway, pages, browse):
    browse(f"ws://localhost:{gateway.ports['closed']}/mqtt", 5)
    assert pages.reports.get(timeout=SOON)
    gateway.log_explains("no WebSocket", f'Pages from "{pages.origin}" may not connect')
    assert "client_id" not in gateway.process.log
