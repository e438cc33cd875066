"""MQTT clients as applications use them: paho, 3.1.1, with or without a certificate."""

import collections
import queue
import threading

import paho.mqtt.client as paho

from .wait import Late

Message = collections.namedtuple("Message", "topic payload qos retain")


class Refused(Exception):
    """The broker's CONNACK says no; `code` is its return code."""

    def __init__(self, code, text):
        super().__init__(f"CONNACK {code}: {text}")
        self.code = code


# paho 2 gives version 5 names to 3.1.1's return codes; these are the codes on the wire.
_CODES = {132: 1, 133: 2, 136: 3, 134: 4, 135: 5}


class Client:
    """One connection. It does not come back by itself."""

    def __init__(self, client_id, port, identity=None, clean=True, will=None, keep_alive=30):
        """`will` is (topic, payload, qos, retain)."""
        self.client_id = client_id
        self.session_present = None
        self._answers = queue.SimpleQueue()
        self._acks = {}
        self._news = threading.Condition()
        self._messages = queue.SimpleQueue()
        self._gone = threading.Event()
        self._paho = paho.Client(
            paho.CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=clean,
            protocol=paho.MQTTv311,
            reconnect_on_failure=False,
        )
        if identity:
            self._paho.tls_set(
                str(identity.ca),
                str(identity.certificate) if identity.certificate else None,
                str(identity.key) if identity.key else None,
            )
        if will:
            topic, payload, qos, retain = will
            self._paho.will_set(topic, payload, qos, retain)
        self._port, self._keep_alive = port, keep_alive
        self._paho.on_connect = self._on_connect
        self._paho.on_disconnect = self._on_disconnect
        self._paho.on_subscribe = lambda c, u, mid, codes, p: self._on_ack(mid, codes)
        self._paho.on_unsubscribe = lambda c, u, mid, codes, p: self._on_ack(mid, codes)
        self._paho.on_publish = lambda c, u, mid, code, p: self._on_ack(mid, code)
        self._paho.on_message = lambda c, u, m: self._messages.put(
            Message(m.topic, m.payload, m.qos, m.retain)
        )

    def _on_connect(self, _client, _data, flags, reason, _properties):
        self._answers.put((reason, flags.session_present))

    def _on_disconnect(self, _client, _data, _flags, reason, _properties):
        self._answers.put((reason, None))
        self._gone.set()
        with self._news:
            self._news.notify_all()

    def _on_ack(self, mid, codes):
        with self._news:
            self._acks[mid] = codes
            self._news.notify_all()

    def connect(self, deadline=10.0):
        self._paho.connect("localhost", self._port, self._keep_alive)
        self._paho.loop_start()
        try:
            reason, present = self._answers.get(timeout=deadline)
        except queue.Empty:
            raise Late(f"{self.client_id}: no CONNACK within {deadline} s") from None
        if reason.is_failure:
            self._paho.loop_stop()
            raise Refused(_CODES.get(reason.value, reason.value), str(reason))
        self.session_present = present
        return self

    def _acked(self, mid, what, deadline):
        with self._news:
            done = self._news.wait_for(lambda: mid in self._acks or self._gone.is_set(), deadline)
            if mid in self._acks:
                return self._acks.pop(mid)
        if done:
            raise ConnectionError(f"{self.client_id}: connection lost before {what} was acknowledged")
        raise Late(f"{self.client_id}: {what} not acknowledged within {deadline} s")

    def subscribe(self, filter, qos=1, deadline=10.0):
        """The granted QoS, or 128."""
        _, mid = self._paho.subscribe(filter, qos)
        return self._acked(mid, f"SUBSCRIBE {filter}", deadline)[0].value

    def unsubscribe(self, filter, deadline=10.0):
        _, mid = self._paho.unsubscribe(filter)
        self._acked(mid, f"UNSUBSCRIBE {filter}", deadline)

    def publish(self, topic, payload=b"", qos=1, retain=False, deadline=10.0):
        """Returns when a QoS 1 message is acknowledged, a QoS 0 message sent."""
        info = self._paho.publish(topic, payload, qos, retain)
        self._acked(info.mid, f"PUBLISH {topic}", deadline)

    def next(self, deadline=10.0):
        """The next message."""
        try:
            return self._messages.get(timeout=deadline)
        except queue.Empty:
            raise Late(f"{self.client_id}: no message within {deadline} s") from None

    def collect(self, count, deadline=10.0):
        return [self.next(deadline) for _ in range(count)]

    def drain(self):
        """What has come so far."""
        out = []
        while True:
            try:
                out.append(self._messages.get_nowait())
            except queue.Empty:
                return out

    def until_topic(self, topic, deadline=10.0):
        """The messages up to and with the first on `topic`."""
        out = []
        while not out or out[-1].topic != topic:
            out.append(self.next(deadline))
        return out

    def wait_gone(self, deadline=10.0):
        """Returns when the connection has ended."""
        if not self._gone.wait(deadline):
            raise Late(f"{self.client_id}: still connected after {deadline} s")

    @property
    def connected(self):
        return not self._gone.is_set()

    def disconnect(self):
        self._paho.disconnect()
        self._paho.loop_stop()
