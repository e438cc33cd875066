"""The broker under test, in two makes: ours, and mosquitto to try the tests themselves.

Each has three doors: `port` where everybody may do everything, `guarded_port` where only topics
below `open/` may be used, and `ws_port` for WebSocket.
"""

from harness.binaries import Binaries
from harness.daemon import Daemon, allow
from harness.mosquitto import Mosquitto
from harness.ports import free_port

GUARDED = allow(
    (["iot:Connect"], ["*"]),
    (["iot:Publish", "iot:Receive"], ["arn:aws:iot:*:*:topic/open/*"]),
    (["iot:Subscribe"], ["arn:aws:iot:*:*:topicfilter/open/*"]),
)


class OurBroker:
    # A version 5 client learns why it is thrown out, always and with the fitting code.
    tells_why = True

    def __init__(self, folder):
        self._folder = folder
        self._binaries = Binaries()
        self.guarded_port = free_port()
        self.daemon = Daemon(self._binaries, folder / "broker", policies={"guarded": GUARDED})
        self.port = self.daemon.ports["mqtt"]
        self.daemon.config["listener"].append(self._listener("mqtt", self.guarded_port, "guarded"))
        self.daemon.write()
        self._ws = None

    @staticmethod
    def _listener(protocol, port, policy):
        address = f"127.0.0.1:{port}"
        return {"protocol": protocol, "address": address, "auth": "anonymous", "policy": policy}

    def start(self):
        self.daemon.start()
        self.process = self.daemon.process
        return self

    @property
    def ws_port(self):
        """WebSocket has a daemon of its own: one that does not know it yet does not start."""
        if self._ws is None:
            port = free_port()
            ws = Daemon(self._binaries, self._folder / "websocket")
            ws.config["listener"].append(self._listener("ws", port, "open"))
            ws.write()
            self._ws = ws
            ws.start()
            self._ws_port = port
        return self._ws_port

    def stop(self):
        self.daemon.stop()
        assert "panicked" not in self.process.log
        if self._ws is not None:
            self._ws.process.destroy()


class MosquittoBroker(Mosquitto):
    tells_why = False

    def __init__(self, folder):
        super().__init__(folder / "mosquitto", name="mosquitto")
        self.guarded_port, self.ws_port = free_port(), free_port()
        acl = self.folder / "acl"
        acl.write_text("topic readwrite open/#\n")
        lines = [
            "per_listener_settings true", "allow_duplicate_messages true", self.config.read_text(),
            f"listener {self.ws_port} 127.0.0.1", "protocol websockets", "allow_anonymous true",
            f"listener {self.guarded_port} 127.0.0.1", "allow_anonymous true", f"acl_file {acl}",
        ]
        self.config.write_text("\n".join(lines) + "\n")


MAKES = {"iotedge": OurBroker, "mosquitto": MosquittoBroker}


def start(make, folder):
    """Starts a broker of that make."""
    return MAKES[make](folder).start()
