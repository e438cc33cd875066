"""The broker under test, in two makes: ours, and mosquitto to try the tests themselves.

Each has three doors: `port` where everybody may do everything, `guarded_port` where only topics
below `open/` may be used, and `ws_port` for WebSocket. Behind `narrow_port` is a server that
offers as little as it may: no QoS 2, nothing retained, no topic alias, not every client id, keep
alives of 10 seconds, packets of 1,000 bytes. `in_frames` names the door with WebSocket beside one.
"""

import pytest
from harness.binaries import Binaries
from harness.daemon import Daemon, allow, is_open
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
    # A client id that is refused behind `narrow_port`.
    refused_id = "x" * 24

    def __init__(self, folder):
        self._folder = folder
        self.guarded_port, self.ws_port, self.guarded_ws_port = (free_port() for _ in range(3))
        self.daemon = Daemon(Binaries(), folder / "broker", policies={"guarded": GUARDED})
        self.port = self.daemon.ports["mqtt"]
        self.daemon.config["listener"] += [
            self._listener("mqtt", self.guarded_port, "guarded"),
            self._listener("ws", self.ws_port, "open"),
            self._listener("ws", self.guarded_ws_port, "guarded"),
        ]
        self.daemon.write()
        self._narrow = None

    @staticmethod
    def _listener(protocol, port, policy):
        address = f"127.0.0.1:{port}"
        return {"protocol": protocol, "address": address, "auth": "anonymous", "policy": policy}

    def start(self):
        self.daemon.start()
        self.process = self.daemon.process
        return self

    @property
    def narrow_port(self):
        if self._narrow is None:
            limits = {
                "max_qos": 1, "max_topic_alias": 0, "retain_available": False,
                "max_keep_alive": "10s", "max_packet_bytes": 1000, "max_payload_bytes": 1000,
                "max_client_id_bytes": 23,
            }
            self._narrow = Daemon(Binaries(), self._folder / "narrow", config={"broker": limits})
            self._narrow_ws_port = free_port()
            self._narrow.config["listener"].append(
                self._listener("ws", self._narrow_ws_port, "open"))
            self._narrow.write()
            self._narrow.start()
        return self._narrow.ports["mqtt"]

    def in_frames(self, port):
        doors = {self.port: self.ws_port, self.guarded_port: self.guarded_ws_port}
        return doors.get(port) or self._narrow_ws_port

    def stop(self):
        self.daemon.stop()
        assert "panicked" not in self.process.log
        if self._narrow is not None:
            self._narrow.process.destroy()


# For mosquitto, which has some of it for each listener and some for all.
NARROW = """max_qos 1
max_topic_alias 0
allow_zero_length_clientid false
retain_available false
max_keepalive 10
max_packet_size 1000"""


class MosquittoBroker(Mosquitto):
    tells_why = False
    refused_id = ""

    def __init__(self, folder):
        super().__init__(folder / "mosquitto", name="mosquitto")
        self.guarded_port, self.ws_port, self.guarded_ws_port = (free_port() for _ in range(3))
        acl = self.folder / "acl"
        acl.write_text("topic readwrite open/#\n")
        lines = [
            "per_listener_settings true", "allow_duplicate_messages true", self.config.read_text(),
            f"listener {self.ws_port} 127.0.0.1", "protocol websockets", "allow_anonymous true",
            f"listener {self.guarded_port} 127.0.0.1", "allow_anonymous true", f"acl_file {acl}",
            f"listener {self.guarded_ws_port} 127.0.0.1", "protocol websockets",
            "allow_anonymous true", f"acl_file {acl}",
        ]
        self.config.write_text("\n".join(lines) + "\n")
        self._narrow = None

    @property
    def narrow_port(self):
        if self._narrow is None:
            self._narrow = Mosquitto(self.folder / "narrow", name="narrow")
            with self._narrow.config.open("a") as config:
                print(NARROW, file=config)
            self._narrow.start()
        return self._narrow.port

    def stop(self):
        super().stop()
        if self._narrow is not None:
            self._narrow.stop()

    def in_frames(self, port):
        doors = {self.port: self.ws_port, self.guarded_port: self.guarded_ws_port}
        return doors.get(port) or pytest.skip("mosquitto's narrow door has no WebSocket")

    def _answers(self):
        doors = (self.guarded_port, self.ws_port, self.guarded_ws_port)
        return super()._answers() and all(map(is_open, doors))


MAKES = {"iotedge": OurBroker, "mosquitto": MosquittoBroker}


def start(make, folder):
    """Starts a broker of that make."""
    return MAKES[make](folder).start()
