"""Free ports of the loopback."""

import random
import socket

_given = set()


def free_port():
    """A port of 127.0.0.1 that nobody listens on and that was not given before.

    Below the ephemeral range: a client that knocks again and again on the closed port of a stopped
    server could otherwise be given that very port for its own end, and connect to itself.
    """
    for _ in range(1000):
        port = random.SystemRandom().randint(15000, 31999)
        if port in _given:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
    raise RuntimeError("no free port between 15000 and 31999")
