#!/usr/bin/env python3
"""The bridge beside mosquitto's, and what it writes to the disk: `make bench-bridge`.

1. End to end: QoS 1 messages of 200 bytes go to a local broker and come out of an upstream mosquitto;
   once through iotedged, once through a mosquitto with a bridge and persistence, by turns. Every number
   is looked for at the upstream, in its order. The pace is from the first publish to the last arrival.
2. Bytes to the disk for each message at 1,000 a second, as the kernel counts them for the process
   (`write_bytes`, on a real file system), beside the store's own figure: with the link down and drained
   afterwards, and with the link up behind a line of 20 ms there and back.

iotedged runs as it is shipped, with a policy that is asked for each message. The queue alone beside bare
SQLite is `cargo bench -p iotedge-store --bench flash`, which `make bench-bridge` runs too.
"""

import argparse
import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

from run import POLICY, ROOT, free_port

TOPIC = b"bench/out/line-1"
PAYLOAD = 200
# Fixed header, remaining length (two bytes at this size), topic, packet id, number, filling.
FORM = struct.Struct(f">BBBH{len(TOPIC)}sHQ{PAYLOAD - 8}x")
LENGTH = FORM.size - 3
PUBLISH = 0x32


def publish(packet_id, number):
    low, high = LENGTH & 0x7F | 0x80, LENGTH >> 7
    return FORM.pack(PUBLISH, low, high, len(TOPIC), TOPIC, packet_id, number)


def text(value):
    return struct.pack(">H", len(value)) + value


def connect(port, client_id, clean=True, wait=20):
    deadline = time.monotonic() + wait
    while True:
        try:
            link = socket.create_connection(("127.0.0.1", port), timeout=60)
            break
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    body = text(b"MQTT") + bytes([4, 2 if clean else 0, 0, 0]) + text(client_id.encode())
    link.sendall(bytes([0x10, len(body)]) + body)
    answer = read(link, 4)
    if answer[0] != 0x20 or answer[3] != 0:
        sys.exit(f"{client_id} is refused: {answer.hex()}")
    return link


def read(link, length):
    data = b""
    while len(data) < length:
        more = link.recv(length - len(data))
        if not more:
            sys.exit("a broker has closed a connection")
        data += more
    return data


class Taker(threading.Thread):
    """Subscribes at the upstream and looks for every number once and in order."""

    def __init__(self, port, count):
        super().__init__(daemon=True)
        self.count, self.next, self.again, self.wrong, self.last = count, 0, 0, None, 0.0
        self.link = connect(port, "bench-taker")
        body = b"\0\1" + text(b"bench/#") + b"\1"
        self.link.sendall(bytes([0x82, len(body)]) + body)
        read(self.link, 5)
        self.start()

    def run(self):
        left = b""
        while self.next < self.count and self.wrong is None:
            data = self.link.recv(1 << 18)
            if not data:
                self.wrong = "the upstream has closed the connection"
                return
            data = left + data
            whole = len(data) // FORM.size * FORM.size
            acks = []
            for kind, _, _, _, topic, packet_id, number in FORM.iter_unpack(data[:whole]):
                if kind & 0xF6 != PUBLISH or topic != TOPIC:
                    self.wrong = f"no message of ours: {kind:#x} {topic}"
                    return
                if number == self.next:
                    self.next += 1
                elif number < self.next:
                    self.again += 1
                else:
                    self.wrong = f"{number} came where {self.next} was due"
                    return
                acks.append(b"\x40\x02" + struct.pack(">H", packet_id))
            left = data[whole:]
            self.link.sendall(b"".join(acks))
        self.last = time.monotonic()

    def whole(self, wait):
        self.join(wait)
        if self.wrong or self.is_alive():
            sys.exit(self.wrong or f"{self.next} of {self.count} have come")


def send(port, count, rate=None, window=500):
    """Publishes numbers and waits for all acknowledgements; when the first left."""
    link = connect(port, "bench-publisher")
    start = time.monotonic()
    sent = acked = 0
    left = b""
    while acked < count:
        most = min(count, acked + window)
        if rate:
            most = min(most, int((time.monotonic() - start) * rate) + 1)
        if sent < most:
            link.sendall(b"".join(publish(n % 65_535 + 1, n) for n in range(sent, most)))
            sent = most
        if rate and sent < count:
            link.settimeout(0.001)
        else:
            link.settimeout(60)
        with contextlib.suppress(socket.timeout):
            data = left + link.recv(1 << 16)
            if not data:
                sys.exit("the local broker has closed the publisher's connection")
            whole = len(data) // 4 * 4
            for at in range(0, whole, 4):
                if data[at] != 0x40:
                    sys.exit("the local broker says something strange")
            acked += whole // 4
            left = data[whole:]
    link.close()
    return start


class Line:
    """A TCP relay that holds everything back for half of the round trip each way."""

    def __init__(self, to, round_trip):
        self.to, self.delay = to, round_trip / 2
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            near, _ = self.socket.accept()
            far = socket.create_connection(("127.0.0.1", self.to))
            for a, b in ((near, far), (far, near)):
                a.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self.carry, args=(a, b), daemon=True).start()

    def carry(self, a, b):
        waiting, there, ended = [], threading.Condition(), []

        def write():
            while True:
                with there:
                    while not waiting and not ended:
                        there.wait()
                    if not waiting:
                        return
                    due, data = waiting.pop(0)
                time.sleep(max(0, due - time.monotonic()))
                with contextlib.suppress(OSError):
                    b.sendall(data)

        threading.Thread(target=write, daemon=True).start()
        with contextlib.suppress(OSError):
            while data := a.recv(1 << 16):
                with there:
                    waiting.append((time.monotonic() + self.delay, data))
                    there.notify()
        with there:
            ended.append(True)
            there.notify()


class Process:
    """Something that runs for the length of a `with`, in a folder on a real disk."""

    def __init__(self, name, configure):
        self.name, self.configure, self.port = name, configure, free_port()

    def __enter__(self):
        self.held = tempfile.TemporaryDirectory(prefix="bench-", dir=ROOT / "target")
        self.folder = pathlib.Path(self.held.name)
        self.log = open(self.folder / "log", "w+b")
        argv = self.configure(self.folder, self.port)
        self.process = subprocess.Popen(argv, stdout=self.log, stderr=self.log, cwd=self.folder)
        connect(self.port, "bench-knock").close()
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)
        self.log.close()
        self.held.cleanup()

    def written(self):
        io = pathlib.Path(f"/proc/{self.process.pid}/io").read_text()
        return int(re.search(r"^write_bytes: (\d+)", io, re.M)[1])


def upstream(folder, port):
    path = folder / "mosquitto.conf"
    path.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\nlog_type error\nmax_queued_messages 0\n"
        # Its acknowledgements wait for those of the kernel otherwise, 40 ms a window.
        "set_tcp_nodelay true\n"
    )
    return ["mosquitto", "-c", path]


def mosquitto(to):
    def configure(folder, port):
        path = folder / "mosquitto.conf"
        path.write_text(
            f"listener {port} 127.0.0.1\nallow_anonymous true\nlog_type error\nmax_queued_messages 0\n"
            # It saves all it has every half hour and at its end, and acknowledges before.
            f"set_tcp_nodelay true\npersistence true\npersistence_location {folder}/\n"
            f"connection cloud\naddress 127.0.0.1:{to}\ntopic bench/# out 1\ncleansession false\n"
            "bridge_protocol_version mqttv311\nnotifications false\nmax_inflight_messages 100\n"
        )
        os.chmod(folder, 0o777)
        return ["mosquitto", "-c", path]

    return configure


def iotedged(to, sync, binary):
    def configure(folder, port):
        admin = free_port()
        (folder / "admin").write_text(str(admin))
        (folder / "policies.d").mkdir()
        (folder / "policies.d" / "bench.json").write_text(json.dumps(POLICY))
        (folder / "iotedge.toml").write_text(
            f"""data_dir = "{folder}/data"
[[listener]]
protocol = "mqtt"
address = "127.0.0.1:{port}"
auth = "anonymous"
policy = "bench"
[store]
sync = "{sync}"
max_bytes = "8GiB"
[admin]
address = "127.0.0.1:{admin}"
socket = "{folder}/control.sock"
[[upstream]]
name = "cloud"
url = "mqtt://127.0.0.1:{to}"
client_id = "gateway"
[[upstream.route]]
direction = "out"
filter = "bench/#"
qos = 1
"""
        )
        return [binary, "--config", folder / "iotedge.toml"]

    return configure


def metric(gateway, name):
    admin = (gateway.folder / "admin").read_text()
    with urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics") as answer:
        found = re.search(rf"^{name}(?:{{[^}}]*}})? (\d+)", answer.read().decode(), re.M)
    return int(found[1])


def until(condition, wait=60):
    deadline = time.monotonic() + wait
    while not condition():
        if time.monotonic() > deadline:
            sys.exit("waited in vain")
        time.sleep(0.05)


def end_to_end(make, count):
    with Process("upstream", upstream) as far:
        with Process("local", make(far.port)) as near:
            # The bridge is there when a first message is.
            warm = Taker(far.port, 1)
            send(near.port, 1)
            warm.whole(30)
            taker = Taker(far.port, count)
            start = send(near.port, count)
            taker.whole(300)
            return count / (taker.last - start)


def link_up(sync, binary, seconds):
    with Process("upstream", upstream) as far:
        line = Line(far.port, 0.020)
        with Process("iotedged", iotedged(line.port, sync, binary)) as near:
            until(lambda: metric(near, "iotedge_upstream_connected") == 1)
            time.sleep(1.5)
            taker = Taker(far.port, seconds * 1000)
            before, stored = near.written(), metric(near, "iotedge_store_written_bytes")
            send(near.port, seconds * 1000, rate=1000)
            taker.whole(60)
            time.sleep(2.5)
            count = seconds * 1000
            return (
                (near.written() - before) / count,
                (metric(near, "iotedge_store_written_bytes") - stored) / count,
            )


def link_down(sync, binary, seconds):
    port = free_port()
    with Process("iotedged", iotedged(port, sync, binary)) as near:
        time.sleep(1.5)
        count = seconds * 1000
        before, stored = near.written(), metric(near, "iotedge_store_written_bytes")
        send(near.port, count, rate=1000)
        queued = near.written() - before
        far = Process("upstream", upstream)
        far.port = port
        with far:
            Taker(port, count).whole(120)
            until(lambda: metric(near, "iotedge_route_queued") == 0)
            time.sleep(2.5)
            return (
                queued / count,
                (near.written() - before) / count,
                (metric(near, "iotedge_store_written_bytes") - stored) / count,
            )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=50_000, help="messages end to end")
    parser.add_argument("--seconds", type=int, default=10, help="of 1,000 messages a second")
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "target" / "release" / "iotedged")
    options = parser.parse_args()
    options.binary = options.binary.resolve()
    # Debian keeps mosquitto out of a user's path.
    os.environ["PATH"] += os.pathsep + "/usr/sbin"

    ways = {
        "mosquitto": mosquitto,
        'iotedged, sync = "full"': lambda to: iotedged(to, "full", options.binary),
        'iotedged, sync = "50ms"': lambda to: iotedged(to, "50ms", options.binary),
    }
    paces = {name: [] for name in ways}
    for number in range(options.rounds):
        names = list(ways)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            paces[name].append(end_to_end(ways[name], options.count))
    print(f"\nEnd to end, messages a second, medians of {options.rounds}; every number checked\n")
    theirs = statistics.median(paces["mosquitto"])
    for name, all_of_it in paces.items():
        pace = statistics.median(all_of_it)
        print(f"  {name:28} {pace:10,.0f}  {pace / theirs:5.1f} times mosquitto's")
    print("\nBytes to the disk for a message of 200 bytes at 1,000 a second (by the store's own count)\n")
    for sync in ("50ms", "full"):
        queued, drained, stored = link_down(sync, options.binary, options.seconds)
        print(f"  link down, {sync:5} {queued:8,.0f} queued, {drained:8,.0f} and drained ({stored:,.0f})")
        up, stored = link_up(sync, options.binary, options.seconds)
        print(f"  link up,   {sync:5} {up:8,.0f} ({stored:,.0f})")


if __name__ == "__main__":
    main()
