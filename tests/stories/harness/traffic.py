"""The two ends of a long stream: a publisher that goes on over outages, and who keeps what came."""

import json
import queue
import threading
import time

import paho.mqtt.client as paho

from .wait import Late, until


class Publisher:
    """Publishes payloads in order with QoS 1 and knows which were acknowledged.

    paho sends again what was not acknowledged when a connection is back. New messages wait until
    that is done: paho itself would let a new one overtake.
    """

    def __init__(self, client_id, port, identity, topic, payloads, per_second, window=20):
        self.acked = 0
        self.reconnects = -1
        self._topic, self._payloads = topic, payloads
        self._period, self._window = 1.0 / per_second, window
        self._events = queue.SimpleQueue()
        self._stop = False
        self.error = None
        self._paho = paho.Client(
            paho.CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=False,
            protocol=paho.MQTTv311,
        )
        self._paho.tls_set(str(identity.ca), str(identity.certificate), str(identity.key))
        self._paho.max_inflight_messages_set(window)
        self._paho.reconnect_delay_set(0.1, 0.4)
        # paho holds locks of its own in these: they only pass the word on.
        self._paho.on_connect = lambda c, u, f, reason, p: self._events.put(("up", reason))
        self._paho.on_disconnect = lambda c, u, f, reason, p: self._events.put(("down", None))
        self._paho.on_publish = lambda c, u, mid, reason, p: self._events.put(("ack", mid))
        self._port = port
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self):
        self._paho.connect("localhost", self._port, 30)
        self._paho.loop_start()
        self._thread.start()
        return self

    def _run(self):
        try:
            self._publish_all()
        except Exception as error:  # shown by join()
            self.error = error

    def _publish_all(self):
        up, settled, next_at, sent, waiting = False, True, 0.0, 0, {}
        while not self._stop and self.acked < len(self._payloads):
            room = up and settled and len(waiting) < self._window and sent < len(self._payloads)
            left = next_at - time.monotonic() if room else 0.5
            try:
                event = self._events.get(timeout=left) if left > 0 else self._events.get_nowait()
            except queue.Empty:
                event = None
            if event is None:
                if room and time.monotonic() >= next_at:
                    waiting[self._paho.publish(self._topic, self._payloads[sent], 1).mid] = sent
                    sent += 1
                    next_at = max(next_at, time.monotonic() - 0.05) + self._period
                continue
            kind, value = event
            if kind == "up":
                assert not value.is_failure, f"publisher refused: {value}"
                self.reconnects += 1
                up, settled = True, not waiting
            elif kind == "down":
                up = False
            elif waiting.pop(value, None) is not None:
                self.acked += 1
                settled = settled or not waiting

    def wait_acked(self, count, deadline):
        def there():
            if self.error:
                raise self.error
            return self.acked >= count

        until(there, f"{count} messages acknowledged", deadline, every=0.002)

    def join(self, deadline):
        self._thread.join(deadline)
        if self.error:
            raise self.error
        if self._thread.is_alive():
            raise Late(f"{self.acked} of {len(self._payloads)} acknowledged within {deadline} s")

    def stop(self):
        self._stop = True
        self._thread.join(5)
        self._paho.disconnect()
        self._paho.loop_stop()


class Collector:
    """Keeps all that comes on a filter, with a persistent session of QoS 1.

    A message is kept before paho acknowledges it, so nothing is lost on its own link either.
    """

    def __init__(self, client_id, port, filter, identity=None):
        self.messages = []
        self._numbers = set()
        self._news = threading.Condition()
        self._subscribed = threading.Event()
        self._paho = paho.Client(
            paho.CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=False,
            protocol=paho.MQTTv311,
        )
        if identity:
            self._paho.tls_set(str(identity.ca), str(identity.certificate), str(identity.key))
        self._paho.reconnect_delay_set(0.1, 0.4)
        self._paho.on_connect = lambda c, *_: c.subscribe(filter, 1)
        self._paho.on_subscribe = lambda *_: self._subscribed.set()
        self._paho.on_message = self._on_message
        self._port = port

    def _on_message(self, _client, _data, message):
        body = json.loads(message.payload)
        with self._news:
            self.messages.append((message.topic, message.payload))
            self._numbers.add((body.get("source"), body.get("n")))
            self._news.notify_all()

    def start(self):
        self._paho.connect("localhost", self._port, 30)
        self._paho.loop_start()
        if not self._subscribed.wait(10):
            raise Late("the collector is not subscribed")
        return self

    def wait_number(self, source, n, deadline):
        """Returns when number `n` of a source (`{"source": ..., "n": ...}`) has come."""
        with self._news:
            if not self._news.wait_for(lambda: (source, n) in self._numbers, deadline):
                raise Late(f"no {n} of {source} within {deadline} s; {len(self.messages)} messages")

    def distinct(self):
        """What came, each once, in the order of first arrival: mosquitto itself sends again what
        was on its way to the collector when it was stopped."""
        with self._news:
            return list(dict.fromkeys(self.messages))

    def wait_count(self, count, deadline):
        """Returns when that many different messages have come."""
        with self._news:
            if not self._news.wait_for(lambda: len(set(self.messages)) >= count, deadline):
                raise Late(f"{len(self.messages)} of {count} messages within {deadline} s")

    def stop(self):
        self._paho.disconnect()
        self._paho.loop_stop()
