"""MQTT 5 as an application uses it: paho's own version 5 client."""

import queue

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

PATIENCE = 10.0


class Client:
    """One connection; what it hears comes out of queues."""

    def __init__(self, gateway, client_id):
        self.connected, self.messages = queue.SimpleQueue(), queue.SimpleQueue()
        self.answers, self.ends = queue.SimpleQueue(), queue.SimpleQueue()
        self._paho = paho.Client(
            paho.CallbackAPIVersion.VERSION2, client_id, protocol=paho.MQTTv5,
            reconnect_on_failure=False,
        )
        self._paho.on_connect = lambda c, u, f, code, p: self.connected.put((f, code, p))
        self._paho.on_message = lambda c, u, message: self.messages.put(message)
        self._paho.on_subscribe = lambda c, u, mid, codes, p: self.answers.put(codes[0].value)
        self._paho.on_publish = lambda c, u, mid, code, p: self.answers.put(code.value)
        self._paho.on_disconnect = lambda c, u, f, code, p: self.ends.put(code.value)
        self._port = gateway.ports["mqtt"]

    def connect(self, clean=True, expiry=0):
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = expiry
        self._paho.connect("localhost", self._port, clean_start=clean, properties=properties)
        self._paho.loop_start()
        flags, code, properties = self.connected.get(timeout=PATIENCE)
        assert code.value == 0
        return flags.session_present, properties

    def subscribe(self, filter, qos=1):
        self._paho.subscribe(filter, qos)
        return self.answers.get(timeout=PATIENCE)

    def publish(self, topic, payload, **set):
        properties = Properties(PacketTypes.PUBLISH)
        for name, value in set.items():
            setattr(properties, name, value)
        self._paho.publish(topic, payload, 1, properties=properties)
        return self.answers.get(timeout=PATIENCE)

    def take(self):
        return self.messages.get(timeout=PATIENCE)

    def leave(self):
        self._paho.disconnect()
        self.ends.get(timeout=PATIENCE)
        self._paho.loop_stop()


def test_a_request_and_its_response_keep_all_that_belongs_to_them(gateway):
    server, asker = Client(gateway, "server"), Client(gateway, "asker")
    _, properties = server.connect()
    assert not hasattr(properties, "MaximumQoS")
    assert not hasattr(properties, "SharedSubscriptionAvailable"), "absent is yes"
    asker.connect()
    assert server.subscribe("ask/#") == 1 and asker.subscribe("answers/asker") == 1
    code = asker.publish(
        "ask/time", b"?", ResponseTopic="answers/asker", CorrelationData=b"\0\1",
        UserProperty=[("b", "1"), ("a", "2")], MessageExpiryInterval=100,
    )
    assert code == 0
    request = server.take().properties
    assert request.UserProperty == [("b", "1"), ("a", "2")]
    assert request.MessageExpiryInterval in (99, 100)
    server.publish(request.ResponseTopic, b"now", CorrelationData=request.CorrelationData)
    response = asker.take()
    assert (response.payload, response.properties.CorrelationData) == (b"now", b"\0\1")
    server.leave()
    asker.leave()


def test_a_session_with_an_expiry_outlives_a_kill(gateway):
    sleeper = Client(gateway, "sleeper")
    assert not sleeper.connect(expiry=3600)[0]
    assert sleeper.subscribe("jobs/#") == 1
    sleeper.leave()
    boss = Client(gateway, "boss")
    boss.connect()
    assert boss.publish("jobs/1", b"x", MessageExpiryInterval=1000, ContentType="a/b") == 0
    gateway.kill()
    gateway.start()
    sleeper = Client(gateway, "sleeper")
    assert sleeper.connect(clean=False, expiry=3600)[0]
    got = sleeper.take()
    assert (got.payload, got.properties.ContentType) == (b"x", "a/b")
    sleeper.leave()
