"""The clients of one test, for both versions."""

import itertools

from conformance import websocket, wire, wire5


class Bench:
    """The clients of one test. Client ids and topics of different tests have nothing in common."""

    speaks, speaks_frames = wire.Client, websocket.Client
    # What packets are made with, and how CONNECT names the version.
    wire, level = wire, 4
    # What stands for properties where a packet has none, and the option Retain As Published: not
    # in this version.
    no_properties, as_published = b"", 0
    _numbers = itertools.count(1)

    def __init__(self, broker, frames=False):
        """With `frames` all goes over WebSocket."""
        self.broker = broker
        self._frames = frames
        self._name = f"t{next(self._numbers)}"
        self._clients = []
        self._guests = itertools.count(1)

    def id(self, name=""):
        """A client id of this test's own, of letters and digits only."""
        return f"{self._name}x{name}"

    def topic(self, name="a"):
        """A topic or filter of this test's own: `NAME` below a level that nobody else uses."""
        return f"open/{self._name}/{name}"

    def open(self, port=None):
        """A connection on which nothing has been said."""
        port = port or self.broker.port
        if self._frames:
            return self._keep(self.speaks_frames(self.broker.in_frames(port)))
        return self._keep(self.speaks(port))

    def upgraded(self, name=None, **how):
        """A connection in WebSocket frames, whatever the others speak; `how` is the handshake's.
        Without a name nothing has been said on it."""
        client = self._keep(self.speaks_frames(self.broker.ws_port, **how))
        if name:
            client.connect(self.id(name))
        return client

    def _keep(self, client):
        self._clients.append(client)
        return client

    def client(self, name=None, port=None, **how):
        """A connected client; without a name, a new one."""
        client = self.open(port)
        client.connect(self.id(name or f"guest{next(self._guests)}"), **how)
        return client

    def subscriber(self, *filters, name=None, **how):
        """A connected client with subscriptions (filter, qos), all granted as asked."""
        client = self.client(name, **how)
        assert client.subscribe(*filters) == [qos for _, qos in filters]
        return client

    def stored(self, name, *filters, **how):
        """A connected client with these subscriptions, whose session outlives its connection."""
        connect = self.subscriber if filters else self.client
        return connect(*filters, name=name, clean=False, **how)

    def away(self, name, *filters, **how):
        """A stored session with these subscriptions and no connection."""
        self.stored(name, *filters, **how).leave()

    def back(self, name, **how):
        """The stored session again."""
        client = self.client(name, clean=False, **how)
        assert client.session_present
        return client

    @staticmethod
    def will(topic, payload, qos=1, retain=False):
        """A will, as CONNECT takes it."""
        return {"will": (topic, payload, qos, retain)}

    def ends(self, *data, code=None, **how):
        """A client that says this after CONNECT is thrown out without another word; `code` is what
        version 5 says."""
        client = self.client(**how)
        client.send(*data)
        client.thrown_out(code)

    def rejects(self, *data, code):
        """A connection that begins with this is closed without another word; `code` is what
        version 5 says."""
        assert self.refused(*data) == []

    def sent_to(self, sub, qos, count):
        """So many messages, with their numbers, that a subscriber has not acknowledged."""
        pub = self.client()
        for n in range(count):
            pub.publish(self.topic(), b"%d" % n, qos=qos)
        return [sub.expect(wire.PUBLISH) for _ in range(count)]

    def refused(self, *data):
        """A connection that begins with this is closed; what was said on it."""
        client = self.open()
        client.send(*data)
        return client.closed()

    def close(self):
        for client in self._clients:
            client.close()


class Bench5(Bench):
    """The same in version 5. What names a client takes properties behind the name, as
    (identifier, value) pairs."""

    speaks, speaks_frames = wire5.Client, websocket.Client5
    wire, level = wire5, 5
    no_properties, as_published = b"\0", 8
    # Seconds that a session outlives its connection, where a test does not say.
    STAYS = (wire5.SESSION_EXPIRY, 3600)

    def _keep(self, client):
        client.tells_why = self.broker.tells_why
        return super()._keep(client)

    def client(self, name=None, *pairs, port=None, **how):
        """A connected client; without a name, a new one."""
        client = self.open(port)
        client.connect(self.id(name or f"guest{next(self._guests)}"), *pairs, **how)
        return client

    def subscriber(self, *filters, name=None, pairs=(), **how):
        """A connected client with subscriptions (filter, options), all granted as asked; `pairs`
        are CONNECT's properties."""
        client = self.client(name, *pairs, **how)
        assert client.subscribe(*filters) == [options & 3 for _, options in filters]
        return client

    def stored(self, name, *filters, **how):
        """A connected client with these subscriptions, whose session outlives its connection."""
        if filters:
            return self.subscriber(*filters, name=name, pairs=[self.STAYS], **how)
        return self.client(name, self.STAYS, **how)

    def back(self, name, *pairs, **how):
        """The stored session again."""
        client = self.client(name, *(pairs or [self.STAYS]), clean=False, **how)
        assert client.session_present
        return client

    @staticmethod
    def will(topic, payload, qos=1, retain=False):
        """A will without properties, as CONNECT takes it."""
        return {"will": (topic, payload, qos, []), "will_retain": retain}

    def ends(self, *data, code, **how):
        """A client that says this after CONNECT is thrown out, and told this reason code."""
        super().ends(*data, code=code, **how)

    def rejects(self, *data, code):
        """A connection that begins with this is closed, and told this reason code."""
        self.refused(*data, code=code)

    def refused(self, *data, code):
        """A connection that begins with this is closed, and told this reason code."""
        client = self.open()
        client.send(*data)
        client.thrown_out(code, wire.CONNACK)
