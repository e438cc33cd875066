"""A faulty network between the bridge and its upstream, on the loopback.

It knows where MQTT packets end: a fault can be bound to the third PUBLISH, and acknowledgements can
overtake each other as they do not within TCP.
"""

import asyncio
import collections
import random
import socket
import struct
import threading

from harness import raw
from harness.ports import free_port
from harness.wait import Late

UP, DOWN = "up", "down"


class Proxy:
    """Forwards to a port. All methods may be called from the test's thread, at any moment."""

    def __init__(self, target, seed=0):
        self.target, self.port = target, free_port()
        self.random = random.Random(seed)
        # The faults. Each is looked at anew for each packet.
        self.delay = 0.0
        self.bytes_per_second = None
        self.reorder = 0
        # Bytes up after which each connection is reset.
        self.cut_after = None
        self._cut_at = None
        # What happened.
        self.connections = 0
        self.bytes = {UP: 0, DOWN: 0}
        self.packets = {UP: collections.Counter(), DOWN: collections.Counter()}
        self._news = threading.Condition()
        self._links = set()
        self._loop = asyncio.new_event_loop()
        self._server = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        asyncio.set_event_loop(self._loop)
        self._flows = asyncio.Event()
        self._flows.set()
        self._loop.run_forever()

    def start(self):
        self._thread.start()
        return self.up()

    def stop(self):
        if self._thread.is_alive():
            self._ask(self._end())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(5)

    def _ask(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    # Faults.

    def up(self):
        """Listens, again."""
        self._ask(self._up())
        return self

    def down(self):
        """Resets what is there and refuses what comes."""
        self._ask(self._down())

    def cut(self):
        """Resets what is there; the next connection is welcome."""
        self._ask(self._cut())

    def cut_at(self, way, kind, count=1):
        """Resets the connection instead of forwarding the `count`th packet of that type from now."""
        self._cut_at = [way, kind, count]

    def stall(self):
        """Nothing moves, and nobody is told: no FIN, no RST, connections are still taken."""
        self._loop.call_soon_threadsafe(lambda: self._flows.clear())

    def flow(self):
        """The end of all faults."""
        self.delay, self.bytes_per_second, self.reorder, self._cut_at = 0.0, None, 0, None
        self.cut_after = None
        self._loop.call_soon_threadsafe(lambda: self._flows.set())
        return self.up()

    # Events.

    def wait(self, condition, what, deadline=30.0):
        """Waits until `condition(self)`; asked anew at each packet, connection and end of one."""
        with self._news:
            if not self._news.wait_for(lambda: condition(self), deadline):
                raise Late(f"proxy: {what}: not within {deadline} s; {self.connections} connections, "
                           f"packets {self.packets}")

    def wait_connections(self, count, deadline=30.0):
        self.wait(lambda p: p.connections >= count, f"{count} connections", deadline)

    def _tell(self):
        with self._news:
            self._news.notify_all()

    # Inside the loop.

    async def _up(self):
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    async def _down(self):
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._cut()

    async def _end(self):
        await self._down()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    async def _cut(self):
        for link in list(self._links):
            link.cut()

    async def _accept(self, reader, writer):
        self.connections += 1
        self._tell()
        try:
            far = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            reset(writer)
            return
        link = Link(self, (reader, writer), far)
        self._links.add(link)
        await link.run()
        self._links.discard(link)
        self._tell()

    def _is_cut(self, way, kind):
        if not self._cut_at or self._cut_at[:2] != [way, kind]:
            return False
        self._cut_at[2] -= 1
        if self._cut_at[2] > 0:
            return False
        self._cut_at = None
        return True


class Link:
    """One connection and its other half."""

    def __init__(self, proxy, near, far):
        self.proxy, self.near, self.far = proxy, near, far
        self.tasks, self.bytes = [], 0

    def cut(self):
        for _, writer in (self.near, self.far):
            reset(writer)
        for task in self.tasks:
            task.cancel()

    async def run(self):
        for way, source, sink in ((UP, self.near, self.far), (DOWN, self.far, self.near)):
            queue = asyncio.Queue(256)
            self.tasks += [
                asyncio.ensure_future(self._read(way, source[0], queue)),
                asyncio.ensure_future(self._write(way, queue, sink[1])),
            ]
        done, _ = await asyncio.wait(self.tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            if not task.cancelled() and task.exception():
                # The end of one side is the end of both.
                self.cut()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _read(self, way, reader, queue):
        buffer = b""
        while True:
            data = await reader.read(65536)
            due = self.proxy._loop.time() + self.proxy.delay
            if not data:
                await queue.put((due, None, b""))
                return
            buffer += data
            while (found := raw.split(buffer)) is not None:
                *_, size = found
                await queue.put((due, found[0], buffer[:size]))
                buffer = buffer[size:]

    async def _write(self, way, queue, writer):
        proxy, held = self.proxy, []
        while True:
            # Held acknowledgements go when nothing comes behind them.
            if held and queue.empty():
                await asyncio.sleep(0.01)
                if queue.empty():
                    await self._send(way, self._shuffled(held), writer)
                    held = []
                    continue
            due, kind, data = await queue.get()
            if (wait := due - proxy._loop.time()) > 0:
                await asyncio.sleep(wait)
            await proxy._flows.wait()
            if way == UP:
                self.bytes += len(data)
            spent = proxy.cut_after is not None and self.bytes > proxy.cut_after
            if spent or kind is not None and proxy._is_cut(way, kind):
                self.cut()
                return
            if kind == raw.PUBACK and proxy.reorder:
                held.append(data)
                if len(held) < proxy.reorder:
                    continue
                data, held = self._shuffled(held), []
            elif held:
                data, held = self._shuffled(held) + data, []
            if data:
                await self._send(way, data, writer)
            if kind is None:
                writer.write_eof()
                return
            proxy.packets[way][kind] += 1
            proxy._tell()

    def _shuffled(self, held):
        self.proxy.random.shuffle(held)
        return b"".join(held)

    async def _send(self, way, data, writer):
        proxy = self.proxy
        proxy.bytes[way] += len(data)
        while data:
            part = data
            if proxy.bytes_per_second:
                part = data[: max(1, proxy.bytes_per_second // 100)]
                await asyncio.sleep(len(part) / proxy.bytes_per_second)
            writer.write(part)
            await writer.drain()
            data = data[len(part) :]


def reset(writer):
    """Ends a connection with RST, as a network does that has forgotten it."""
    link = writer.get_extra_info("socket")
    if link is not None:
        try:
            link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError:
            pass
    writer.transport.abort()
