"""A real mosquitto as the upstream broker."""

import os
import shutil
import socket

from .ports import free_port
from .process import Process
from .wait import until


def _program():
    found = shutil.which("mosquitto") or shutil.which("/usr/sbin/mosquitto")
    if not found:
        raise RuntimeError("mosquitto is not installed (apt-get install mosquitto)")
    return found


class Mosquitto:
    """Stops and starts on the same port with the same persistence file."""

    def __init__(self, folder, tls=None, name="upstream"):
        """`tls` is an `Identity` of the server whose CA the clients' certificates are checked by."""
        self.folder = folder
        self.name = name
        self.port = free_port()
        self.process = None
        folder.mkdir(parents=True, exist_ok=True)
        lines = [
            f"listener {self.port} 127.0.0.1",
            "allow_anonymous true",
            "persistence true",
            f"persistence_location {folder}/",
            "autosave_interval 1",
            "max_queued_messages 0",
            "max_queued_bytes 0",
            "log_type all",
            "log_dest stdout",
            "log_timestamp_format %H:%M:%S",
            "connection_messages true",
        ]
        if os.geteuid() == 0:
            lines.append("user root")
        if tls:
            lines += [
                f"cafile {tls.ca}",
                f"certfile {tls.certificate}",
                f"keyfile {tls.key}",
                "require_certificate true",
                "use_identity_as_username true",
            ]
        self.config = folder / "mosquitto.conf"
        self.config.write_text("\n".join(lines) + "\n")

    def start(self):
        self.process = Process([_program(), "-c", self.config], self.name)
        until(self._answers, f"{self.name} listens on {self.port}")
        return self

    def _answers(self):
        assert self.process.running, f"{self.name} ended:\n{self.process.log}"
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def stop(self):
        """SIGTERM: it writes its persistence file and closes all connections."""
        code = self.process.terminate()
        assert code == 0, f"{self.name} ended with {code}"

    def kill(self):
        self.process.kill()
