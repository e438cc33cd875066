"""A real RabbitMQ with its MQTT plugin, in a folder, without systemd and without the system's own data."""

import os
import pathlib
import shutil
import signal
import socket

from harness.ports import free_port
from harness.process import Process
from harness.wait import until

PROGRAM = pathlib.Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
MISSING = "rabbitmq-server is not installed (make test-rabbitmq installs it)"


def installed():
    return PROGRAM.exists() and shutil.which("epmd")


class RabbitMQ:
    """One user, `gateway` with the password `secret`. Stops and starts on the same ports with its data."""

    def __init__(self, folder, tls=None):
        """`tls` is the server's `Identity`; then clients show certificates whose CN is their user."""
        self.folder, self.port = pathlib.Path(folder), free_port()
        self.folder.mkdir(parents=True)
        self.epmd_port, self.process = free_port(), None
        lines = [
            "listeners.tcp = none", "default_user = gateway", "default_pass = secret",
            "mqtt.allow_anonymous = false", "log.console = true", "log.console.level = info", "log.file = false",
        ]
        plugins = ["rabbitmq_mqtt"]
        if tls:
            plugins.append("rabbitmq_auth_mechanism_ssl")
            lines += [
                "mqtt.listeners.tcp = none", f"mqtt.listeners.ssl.1 = 127.0.0.1:{self.port}",
                f"ssl_options.cacertfile = {tls.ca}", f"ssl_options.certfile = {tls.certificate}",
                f"ssl_options.keyfile = {tls.key}", "ssl_options.verify = verify_peer",
                "ssl_options.fail_if_no_peer_cert = true", "mqtt.ssl_cert_login = true",
                "ssl_cert_login_from = common_name",
            ]
        else:
            lines.append(f"mqtt.listeners.tcp.1 = 127.0.0.1:{self.port}")
        (self.folder / "rabbitmq.conf").write_text("\n".join(lines) + "\n")
        (self.folder / "enabled_plugins").write_text(f"[{','.join(plugins)}].\n")
        (self.folder / "none").write_text("")
        self.environment = {
            "HOME": str(self.folder), "ERL_EPMD_PORT": str(self.epmd_port), "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"t{self.port}@localhost", "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": str(self.folder / "none"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"), "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
        }
        # Its own, so that none is left behind.
        self.names = Process(["epmd", "-port", str(self.epmd_port), "-address", "127.0.0.1"], "epmd")

    def start(self):
        self.process = Process([PROGRAM], "rabbitmq", cwd=self.folder, env=self.environment)
        until(self._answers, f"RabbitMQ listens on {self.port}", 120, every=0.2)
        return self

    def _answers(self):
        assert self.process.running, f"RabbitMQ ended:\n{self.process.log}"
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return "Server startup complete" in self.process.log

    def stop(self):
        if self.process:
            # The script that waits for it passes nothing on.
            os.kill(int((self.folder / "pid").read_text()), signal.SIGTERM)
            self.process.wait(60)
            self.process = None

    def end(self):
        self.stop()
        self.names.kill()
