"""A real client: paho-mqtt, in both versions."""

import contextlib
import queue
import socket

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

PATIENCE = 5.0


def properties(kind, values):
    """Properties by their names in paho, or None."""
    if not values:
        return None
    found = Properties(getattr(PacketTypes, kind))
    for name, value in values.items():
        setattr(found, name, value)
    return found


class Client:
    """One client id with one connection after the other. What it hears comes out of queues.

    `manual_ack` holds its acknowledgements back until `acknowledge`.
    """

    def __init__(self, port, client_id, version=5, manual_ack=False):
        self.version, self.client_id = version, client_id
        self._port, self._manual_ack = port, manual_ack
        self._paho = None

    def connect(self, clean=True, keep_alive=60, will=None, will_properties=None, **values):
        """The reason code of CONNACK; `session_present` and `answer` tell the rest.

        `will` is (topic, payload, qos, retain); `values` are CONNECT's properties.
        """
        self._connected, self.ended = queue.SimpleQueue(), queue.SimpleQueue()
        self.messages, self._answers = queue.SimpleQueue(), queue.SimpleQueue()
        how = {"protocol": paho.MQTTv311, "clean_session": clean}
        if self.version == 5:
            how = {"protocol": paho.MQTTv5}
        self._paho = it = paho.Client(
            paho.CallbackAPIVersion.VERSION2, self.client_id, reconnect_on_failure=False,
            manual_ack=self._manual_ack, **how,
        )
        it.on_connect = lambda c, u, flags, code, props: self._connected.put((flags, code, props))
        it.on_disconnect = lambda c, u, flags, code, props: self.ended.put(code.value)
        it.on_message = lambda c, u, message: self.messages.put(message)
        it.on_subscribe = lambda c, u, mid, codes, props: self._answers.put(codes)
        it.on_unsubscribe = lambda c, u, mid, codes, props: self._answers.put(codes)
        if will:
            topic, payload, qos, retain = will
            it.will_set(topic, payload, qos, retain, properties("WILLMESSAGE", will_properties))
        start = {"clean_start": clean} if self.version == 5 else {}
        it.connect(
            "localhost", self._port, keep_alive, properties=properties("CONNECT", values), **start
        )
        it.loop_start()
        flags, code, self.answer = self._connected.get(timeout=PATIENCE)
        self.session_present = flags.session_present
        return code.value

    def open(self, **how):
        """`connect`, which has to be taken; the client itself."""
        assert self.connect(**how) == 0
        return self

    def subscribe(self, *filters, **values):
        """(filter, QoS or SubscribeOptions) pairs; the codes of SUBACK."""
        if self.version == 5:
            filters = [
                (f, SubscribeOptions(o) if isinstance(o, int) else o) for f, o in filters
            ]
        self._paho.subscribe(list(filters), properties=properties("SUBSCRIBE", values))
        return [code.value for code in self._answers.get(timeout=PATIENCE)]

    def unsubscribe(self, *filters):
        self._paho.unsubscribe(list(filters))
        return [code.value for code in self._answers.get(timeout=PATIENCE)]

    def send(self, topic, payload=b"", qos=1, retain=False, **values):
        """PUBLISH; what tells whether it is done."""
        return self._paho.publish(topic, payload, qos, retain, properties("PUBLISH", values))

    def publish(self, *message, **how):
        """PUBLISH with all its acknowledgements."""
        info = self.send(*message, **how)
        info.wait_for_publish(PATIENCE)
        assert info.is_published()

    def take(self):
        return self.messages.get(timeout=PATIENCE)

    def until(self, payload):
        """The messages before the first with this payload."""
        out = []
        while True:
            got = self.take()
            if got.payload == payload:
                return out
            out.append(got)

    def acknowledge(self, message):
        self._paho.ack(message.mid, message.qos)

    def silence(self):
        """Says nothing more, keep alive or not; the connection stays."""
        self._paho.loop_stop()

    def leave(self, **values):
        """DISCONNECT, and gone from the broker when this returns."""
        # paho closes its end at once; this one sees that the broker has read to the end.
        with self._paho.socket().dup() as witness:
            self._paho.disconnect(properties=properties("DISCONNECT", values))
            self.ended.get(timeout=PATIENCE)
            self._paho.loop_stop()
            witness.settimeout(PATIENCE)
            with contextlib.suppress(ConnectionError):
                while witness.recv(65536):
                    pass

    def drop(self):
        """Ends the connection as a failing network does."""
        self.close()

    def close(self):
        if self._paho is None:
            return
        with contextlib.suppress(AttributeError, OSError):
            # Wakes paho's thread, which otherwise looks up once a second.
            self._paho.socket().shutdown(socket.SHUT_RDWR)
        self._paho.loop_stop()
        with contextlib.suppress(AttributeError, OSError):
            self._paho.socket().close()
