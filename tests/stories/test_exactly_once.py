"""QoS 2 from client to client, with a SIGKILL at each step of the exchange: it comes once.

The clients are paho's, which keep their half of the session; between one of them and the gateway
is a wire that sees the packets.
"""

import contextlib
import queue
import socket
import threading

import paho.mqtt.client as paho
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from harness import raw
from harness.wait import until

PUBREC, PUBREL, PUBCOMP = 5, 6, 7
NAMES = {raw.PUBLISH: "PUBLISH", PUBREC: "PUBREC", PUBREL: "PUBREL", PUBCOMP: "PUBCOMP"}
PATIENCE = 20.0


def packets(link):
    """The packets of a socket, each with its kind, until it ends."""
    data = b""
    while more := link.recv(65536):
        data += more
        while (found := raw.split(data)) is not None:
            kind, _, _, size = found
            packet, data = data[:size], data[size:]
            yield kind, packet


class Wire:
    """Passes packets on between a client and the gateway. Where a kill is ordered, it comes with
    the next packet of that kind, which is lost or still reaches the other side."""

    def __init__(self, gateway):
        self._gateway = gateway
        self._order = None
        self._killed = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def order(self, kind, arrives):
        self._killed.clear()
        self._order = kind, arrives

    def await_kill(self):
        assert self._killed.wait(PATIENCE), f"no {NAMES[self._order[0]]} has come"

    def close(self):
        self._listener.close()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            ends = client, socket.create_connection(("127.0.0.1", self._gateway.ports["mqtt"]))
            for source, sink in (ends, ends[::-1]):
                threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    def _pass_on(self, source, sink):
        with contextlib.suppress(OSError):
            for kind, packet in packets(source):
                kills, arrives = self._kills(kind)
                if arrives:
                    sink.sendall(packet)
                if kills:
                    self._gateway.kill()
                    self._killed.set()
                    break
        for end in (source, sink):
            # The other thread may have been quicker.
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _kills(self, kind):
        if self._order is None or self._order[0] != kind:
            return False, True
        (_, arrives), self._order = self._order, None
        return True, arrives


class Device:
    """A session that stays, on both sides.

    It comes back when it is told to: paho's own second attempt takes a message whose PUBREL it
    owes for one that it has not begun, and publishes it anew.
    """

    def __init__(self, client_id, port, version):
        self._heard = queue.SimpleQueue()
        self._subscribed, self._up, self._gone = (threading.Event() for _ in range(3))
        how, start = {"clean_session": False}, {}
        if version == paho.MQTTv5:
            stays = Properties(PacketTypes.CONNECT)
            stays.SessionExpiryInterval = 3600
            how, start = {}, {"clean_start": False, "properties": stays}
        self._paho = it = paho.Client(
            paho.CallbackAPIVersion.VERSION2, client_id, protocol=version,
            reconnect_on_failure=False, **how,
        )
        it.on_connect = lambda *_: self._up.set()
        it.on_disconnect = lambda *_: self._gone.set()
        it.on_message = lambda _c, _u, message: self._heard.put(message)
        it.on_subscribe = lambda *_: self._subscribed.set()
        it.connect("127.0.0.1", port, **start)
        self._begin()

    def _begin(self):
        self._paho.loop_start()
        assert self._up.wait(PATIENCE)

    def come_back(self):
        """After the connection has ended: the same session on another one."""
        assert self._gone.wait(PATIENCE)
        self._paho.loop_stop()
        self._up.clear()
        self._gone.clear()
        self._paho.reconnect()
        self._begin()

    def subscribe(self, filter):
        self._paho.subscribe(filter, 2)
        assert self._subscribed.wait(PATIENCE)
        return self

    def send(self, topic, payload):
        """What says when the exchange is over."""
        return self._paho.publish(topic, payload, 2)

    def next(self):
        got = self._heard.get(timeout=PATIENCE)
        assert got.qos == 2
        return got.payload

    def leave(self):
        self._paho.disconnect()
        self._paho.loop_stop()


# Who is at the wire, and which way its exchange goes.
WAYS = ["from-the-publisher", "to-the-subscriber"]
STEPS = [(kind, arrives) for kind in NAMES for arrives in (False, True)]


@pytest.mark.parametrize("version", [paho.MQTTv311, paho.MQTTv5], ids=["v311", "v5"])
@pytest.mark.parametrize("way", WAYS)
def test_qos_2_comes_once_through_a_kill_at_each_step(gateway, way, version):
    wire, direct = Wire(gateway), gateway.ports["mqtt"]
    ports = (wire.port, direct) if way == WAYS[0] else (direct, wire.port)
    giver = Device("giver", ports[0], version)
    taker = Device("taker", ports[1], version).subscribe("t")
    for kind, arrives in STEPS:
        step = f"{NAMES[kind]}, {'arrives' if arrives else 'lost'}"
        wire.order(kind, arrives)
        sent = giver.send("t", step)
        wire.await_kill()
        gateway.start()
        giver.come_back()
        taker.come_back()
        sent.wait_for_publish(PATIENCE)
        assert sent.is_published(), step
        # Behind it in the same queue: what came twice would come before this.
        giver.send("t", f"{step}: end").wait_for_publish(PATIENCE)
        assert [taker.next(), taker.next()] == [step.encode(), f"{step}: end".encode()]
    until(lambda: gateway.ctl_json("status")["queued"] == 0, "every exchange has ended")
    giver.leave()
    taker.leave()
    wire.close()
