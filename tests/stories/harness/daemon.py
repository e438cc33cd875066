"""The gateway itself: configured, started, killed, asked."""

import hashlib
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import ssl
import tempfile

from . import toml
from .pki import Identity
from .ports import free_port
from .process import Process, run
from .wait import Late, until

VERSION = "2012-10-17"


def allow(*statements):
    """A policy document: each statement is (actions, resources)."""
    return {
        "Version": VERSION,
        "Statement": [
            {"Effect": "Allow", "Action": actions, "Resource": resources}
            for actions, resources in statements
        ],
    }


ALLOW_ALL = allow((["iot:*"], ["*"]))


class Daemon:
    """One gateway with a data directory and ports of its own, kept over restarts.

    Listeners: `mqtt` (anonymous, policy `open`: everything), `mqtts` and `https` (certificate).
    """

    def __init__(self, binaries, folder, *, config=None, policies=None, rules=None, listener=None):
        """`config` is merged into the default; `listener` adds keys to each listener."""
        self.binaries = binaries
        self.folder = pathlib.Path(folder)
        self.data_dir = self.folder / "data"
        # A Unix socket's path has at most 107 bytes: not below pytest's long folders.
        self._run_dir = tempfile.TemporaryDirectory(prefix="ioe-")
        self.socket = pathlib.Path(self._run_dir.name) / "control.sock"
        self.ports = {name: free_port() for name in ("mqtt", "mqtts", "https", "admin")}
        self.process = None
        self.starts = 0
        self.environment = {}
        self.policies = {"open": ALLOW_ALL, **(policies or {})}
        self.rules = dict(rules or {})
        extra = listener or {}
        self.config = {
            "data_dir": str(self.data_dir),
            "listener": [
                {
                    "protocol": "mqtt",
                    "address": f"127.0.0.1:{self.ports['mqtt']}",
                    "auth": "anonymous",
                    "policy": "open",
                    **extra,
                },
                {
                    "protocol": "mqtts",
                    "address": f"127.0.0.1:{self.ports['mqtts']}",
                    "auth": "certificate",
                    **extra,
                },
                {
                    "protocol": "https",
                    "address": f"127.0.0.1:{self.ports['https']}",
                    "auth": "certificate",
                },
            ],
            "admin": {
                "address": f"127.0.0.1:{self.ports['admin']}",
                "socket": str(self.socket),
            },
            **(config or {}),
        }
        self.file = self.folder / "etc" / "iotedge.toml"
        self.write()

    def write(self):
        """The configuration, and rules and policies beside it."""
        etc = self.file.parent
        for kind, documents in (("policies.d", self.policies), ("rules.d", self.rules)):
            (etc / kind).mkdir(parents=True, exist_ok=True)
            for name, document in documents.items():
                text = document if isinstance(document, str) else json.dumps(document, indent=2)
                (etc / kind / f"{name}.json").write_text(text)
        self.file.write_text(toml.dumps(self.config))

    # Starting and ending.

    def spawn(self, before=()):
        """Starts it, with these words before the command, and waits for nothing."""
        self.starts += 1
        argv = [*before, self.binaries.iotedged, "--config", self.file]
        self.process = Process(
            argv, f"iotedged#{self.starts}", cwd=self.folder, env=self.environment
        )
        return self.process

    def start(self, deadline=20.0):
        """Starts it; returns when it is ready."""
        self.spawn()
        return self.wait_ready(deadline)

    def wait_ready(self, deadline=20.0):
        until(self._ready, "iotedged is ready", deadline)
        return self

    def _ready(self):
        if not self.process.running:
            self.process.wait()
            raise AssertionError(
                f"iotedged ended with {self.process.popen.returncode} instead of getting ready:\n"
                + self.process.log
            )
        # After a SIGKILL the old socket's file is still there: only an answer counts.
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(self.socket))
            except OSError:
                return False
        return self.admin("/readyz")[0] == 200

    def kill(self):
        """SIGKILL."""
        code = self.process.kill()
        assert code == -signal.SIGKILL, f"iotedged had already ended with {code}:\n{self.process.log}"

    def stop(self, deadline=10.0):
        """SIGTERM; it must end with 0."""
        code = self.process.terminate(deadline)
        assert code == 0, f"iotedged ended with {code} on SIGTERM:\n{self.process.log}"

    def restart(self):
        self.stop()
        return self.start()

    @property
    def alive(self):
        return self.process is not None and self.process.running

    # Asking.

    def ctl(self, *argv, deadline=30.0, input=None):
        """`iotedgectl ARGV`, whatever its outcome."""
        return run(
            [self.binaries.iotedgectl, "--socket", self.socket, *argv],
            deadline=deadline,
            input=input,
            cwd=self.folder,
        )

    def ctl_ok(self, *argv, **how):
        """`iotedgectl ARGV`, which must succeed; its stdout."""
        done = self.ctl(*argv, **how)
        assert done.returncode == 0, (
            f"iotedgectl {' '.join(map(str, argv))} ended with {done.returncode}:\n"
            f"{done.stdout}{done.stderr}"
        )
        return done.stdout

    def ctl_json(self, *argv, **how):
        """`iotedgectl ARGV --json`, which must succeed; its answer."""
        text = self.ctl_ok(*argv, "--json", **how)
        try:
            return json.loads(text)
        except ValueError:
            raise AssertionError(f"iotedgectl {' '.join(map(str, argv))} --json: {text!r}") from None

    def check(self):
        """`iotedged check --config FILE`."""
        return run([self.binaries.iotedged, "check", "--config", self.file], cwd=self.folder)

    def admin(self, path):
        """GET on the admin listener: (status, text); status 0 when nobody answers."""
        link = http.client.HTTPConnection("127.0.0.1", self.ports["admin"], timeout=5)
        try:
            link.request("GET", path)
            answer = link.getresponse()
            return answer.status, answer.read().decode("utf-8", "replace")
        except OSError:
            return 0, ""
        finally:
            link.close()

    def https(self, method, path, identity, body=None):
        """A request on the HTTPS listener with a client certificate: (status, text)."""
        context = ssl.create_default_context(cafile=str(identity.ca))
        context.load_cert_chain(str(identity.certificate), str(identity.key))
        link = http.client.HTTPSConnection(
            "localhost", self.ports["https"], context=context, timeout=10
        )
        try:
            link.request(method, path, body=body)
            answer = link.getresponse()
            return answer.status, answer.read().decode()
        finally:
            link.close()

    def cert(self, name, policy=None, thing=None):
        """A client certificate from the gateway's own CA."""
        out = self.folder / "certs" / name
        out.mkdir(parents=True)
        argv = ["cert", "create", "--name", name, "--out", out]
        if policy:
            argv += ["--policy", policy]
        if thing:
            argv += ["--thing", thing]
        printed = self.ctl_ok(*argv)
        identity = Identity(ca=out / "ca.pem", certificate=out / f"{name}.pem", key=out / f"{name}.key")
        identity.id = certificate_id(identity.certificate)
        assert identity.id in printed, f"`cert create` prints the certificate id: {printed!r}"
        return identity

    def log_has(self, pattern, deadline=10.0, since=0):
        """Waits for a line of the daemon's log."""
        return self.process.wait_for_line(pattern, deadline, since)

    def log_explains(self, *words, since=0, deadline=10.0):
        """Waits for one line of the daemon's log that has all these words, in this order."""
        return self.process.wait_for_line(".*".join(re.escape(w) for w in words), deadline, since)

    def route(self, upstream=None, direction="out"):
        """The accounts of the one route of that direction, from `bridge status --json`."""
        answer = self.ctl_json("bridge", "status")
        upstreams = answer["upstreams"] if isinstance(answer, dict) else answer
        found = [
            route
            for u in upstreams
            if upstream in (None, u["name"])
            for route in u["routes"]
            if route["direction"] == direction
        ]
        assert len(found) == 1, f"routes {direction} of {upstream}: {answer}"
        return found[0]

    def link(self, upstream):
        """One upstream of `bridge status --json`."""
        answer = self.ctl_json("bridge", "status")
        upstreams = answer["upstreams"] if isinstance(answer, dict) else answer
        return next(u for u in upstreams if u["name"] == upstream)

    def wait_link(self, upstream, state="connected", deadline=20.0):
        """Waits until an upstream is in that state."""
        seen = {}

        def there():
            seen.update(self.link(upstream))
            return seen["state"] == state

        try:
            until(there, f"upstream {upstream} is {state}", deadline, every=0.1)
        except Late as late:
            raise Late(f"{late}; status: {seen}") from None
        return seen


def certificate_id(pem):
    """SHA-256 of the certificate's DER in hex, as AWS IoT names certificates."""
    der = ssl.PEM_cert_to_DER_cert(pathlib.Path(pem).read_text())
    return hashlib.sha256(der).hexdigest()


def is_open(port):
    """Whether someone listens on that port of the loopback."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def rss_kib(pid):
    """Resident memory of a process."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise OSError(os.strerror(3))
