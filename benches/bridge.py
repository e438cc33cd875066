#!/usr/bin/env python3
"""The bridge beside mosquitto's, and what it writes to the disk: `make bench-bridge`.

1. End to end: QoS 1 messages of 200 bytes go to a local broker and come out of an upstream; once through
   iotedged, once through a mosquitto with a bridge and persistence, by turns. Every number is looked for
   at the upstream: one that is missing or out of its publisher's order ends the run. The pace is from the
   first publish to the last arrival, and the local broker's processor time for a message stands beside it.
   mosquitto runs once as it is shipped (20 messages in flight) and once with as many in flight as
   iotedged; it acknowledges what it has in memory alone, and saves every half hour and at its end.
   iotedged acknowledges what is on its disk or upstream.
   The upstream is `bench-far`, which checks and acknowledges and does nothing else: with a mosquitto there
   (`--upstream mosquitto`) that one's pace is a part of what is measured.
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
import subprocess
import sys
import tempfile
import time
import urllib.request

from run import BIN, POLICY, ROOT, free_port

TICKS = os.sysconf("SC_CLK_TCK")


def until(condition, wait=60):
    deadline = time.monotonic() + wait
    while not condition():
        if time.monotonic() > deadline:
            sys.exit("waited in vain")
        time.sleep(0.02)


def listens(port):
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
        return True
    return False


class Process:
    """Something that runs for the length of a `with`, in a folder on a real disk."""

    def __init__(self, configure, port=None):
        self.configure, self.port = configure, port or free_port()

    def __enter__(self):
        self.held = tempfile.TemporaryDirectory(prefix="bench-", dir=ROOT / "target")
        self.folder = pathlib.Path(self.held.name)
        self.log = open(self.folder / "log", "w+b")
        argv = self.configure(self.folder, self.port)
        self.process = subprocess.Popen(argv, stdout=self.log, stderr=self.log, cwd=self.folder)
        until(lambda: listens(self.port) or self.died())
        return self

    def died(self):
        if self.process.poll() is not None:
            sys.exit(f"{self.process.args[0]} has ended: {(self.folder / 'log').read_text()}")

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)
        self.log.close()
        self.held.cleanup()

    def written(self):
        io = pathlib.Path(f"/proc/{self.process.pid}/io").read_text()
        return int(re.search(r"^write_bytes: (\d+)", io, re.M)[1])

    def seconds(self):
        """Processor time so far."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS


class Far:
    """`bench-far`: the upstream, or the line to one, and the publishers."""

    def __init__(self, port, *arguments):
        argv = [BIN / "bench-far", "--listen", f"127.0.0.1:{port}", *map(str, arguments)]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.line()

    def line(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit("bench-far has given up")
        return line

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def begin(self, near):
        """A first message has come through."""
        print(f"127.0.0.1:{near.port}", file=self.process.stdin, flush=True)
        self.line()

    def result(self):
        result = json.loads(self.line())
        if any(result[what] for what in ("lost", "disordered", "strange")):
            sys.exit(f"not all came in order: {result}")
        return result


def upstream(folder, port):
    path = folder / "mosquitto.conf"
    path.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\nlog_type error\nmax_queued_messages 0\n"
        # Its acknowledgements wait for those of the kernel otherwise, 40 ms a window.
        "set_tcp_nodelay true\nmax_inflight_messages 0\n"
    )
    return ["mosquitto", "-c", path]


def mosquitto(to, in_flight=None):
    def configure(folder, port):
        path = folder / "mosquitto.conf"
        path.write_text(
            f"listener {port} 127.0.0.1\nallow_anonymous true\nlog_type error\nmax_queued_messages 0\n"
            # It saves all it has every half hour and at its end, and acknowledges before.
            f"set_tcp_nodelay true\npersistence true\npersistence_location {folder}/\n"
            f"connection cloud\naddress 127.0.0.1:{to}\ntopic bench/# out 1\ncleansession false\n"
            "bridge_protocol_version mqttv311\nnotifications false\n"
            + (f"max_inflight_messages {in_flight}\n" if in_flight else "")
        )
        os.chmod(folder, 0o777)
        return ["mosquitto", "-c", path]

    return configure


def iotedged(to, sync, binary, in_flight=None):
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
{f"max_inflight = {in_flight}" if in_flight else ""}
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


def end_to_end(make, options, publishers, round_trip, messages):
    """Messages a second, and the local broker's microseconds of processor time for each."""
    with contextlib.ExitStack() as stack:
        arguments = ["--publishers", publishers, "--messages", messages, "--round-trip", round_trip]
        if options.upstream == "mosquitto":
            arguments += ["--upstream", f"127.0.0.1:{stack.enter_context(Process(upstream)).port}"]
        port = free_port()
        far = stack.enter_context(Far(port, *arguments))
        near = stack.enter_context(Process(make(port)))
        far.begin(near)
        before = near.seconds()
        rate = far.result()["rate"]
        return rate, (near.seconds() - before) / messages * 1e6


def link_up(sync, binary, seconds):
    port, count = free_port(), seconds * 1000
    with Far(port, "--messages", count, "--rate", 1000, "--round-trip", 20) as far:
        with Process(iotedged(port, sync, binary)) as near:
            until(lambda: metric(near, "iotedge_upstream_connected") == 1)
            time.sleep(1.5)
            far.begin(near)
            before, stored = near.written(), metric(near, "iotedge_store_written_bytes")
            far.result()
            time.sleep(2.5)
            return (
                (near.written() - before) / count,
                (metric(near, "iotedge_store_written_bytes") - stored) / count,
            )


def link_down(sync, binary, seconds):
    port, elsewhere, count = free_port(), free_port(), seconds * 1000
    with Process(iotedged(port, sync, binary)) as near:
        time.sleep(1.5)
        before, stored = near.written(), metric(near, "iotedge_store_written_bytes")
        # Its messages are looked for at an upstream that comes later.
        argv = ["--messages", count, "--rate", 1000, "--publish-only"]
        with Far(elsewhere, *argv) as far:
            far.begin(near)
            far.line()
        queued = near.written() - before
        with Far(port, "--messages", count, "--take-only") as far:
            far.begin(near)
            far.result()
            until(lambda: metric(near, "iotedge_route_queued") == 0)
            time.sleep(2.5)
            return (
                queued / count,
                (near.written() - before) / count,
                (metric(near, "iotedge_store_written_bytes") - stored) / count,
            )


# Publishers, milliseconds there and back, messages.
SCENARIOS = [(1, 0, 100_000), (20, 0, 100_000), (1, 20, 20_000), (20, 20, 20_000)]


def compare(options):
    ways = {
        "mosquitto as shipped": lambda to: mosquitto(to),
        "mosquitto, 100 in flight": lambda to: mosquitto(to, 100),
        'iotedged, sync = "50ms"': lambda to: iotedged(to, "50ms", options.binary),
        'iotedged, sync = "full"': lambda to: iotedged(to, "full", options.binary),
        "mosquitto, 1,000 in flight": lambda to: mosquitto(to, 1000),
        "iotedged, 50ms, 1,000 in flight": lambda to: iotedged(to, "50ms", options.binary, 1000),
    }
    for publishers, round_trip, messages in SCENARIOS:
        label = f"{publishers}/{round_trip}"
        if options.only and label not in options.only:
            continue
        chosen = [name for name in ways if not options.ways or any(w in name for w in options.ways)]
        figures = {name: [] for name in chosen}
        for number in range(options.rounds):
            at = number % len(chosen)
            for name in chosen[at:] + chosen[:at]:
                scale = options.messages or messages
                figures[name].append(end_to_end(ways[name], options, publishers, round_trip, scale))
        print(f"\n{publishers} publishers, {round_trip} ms there and back; medians of {options.rounds}")
        print(f"  {'':34} {'messages/s':>10} {'CPU us':>7}  times each mosquitto")
        paces = {name: statistics.median(rate for rate, _ in runs) for name, runs in figures.items()}
        theirs = [pace for name, pace in paces.items() if name.startswith("mosquitto")]
        for name, runs in figures.items():
            cost = statistics.median(cost for _, cost in runs)
            times = "  ".join(f"{paces[name] / pace:4.1f}" for pace in theirs)
            print(f"  {name:34} {paces[name]:10,.0f} {cost:7.1f}  {times}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--messages", type=int, help="end to end, instead of a number for each case")
    parser.add_argument("--only", nargs="*", help="PUBLISHERS/MILLISECONDS, for instance 1/20")
    parser.add_argument("--ways", nargs="*", help="parts of the names of what is compared")
    parser.add_argument("--upstream", choices=["checks", "mosquitto"], default="checks")
    parser.add_argument("--no-disk", action="store_true", help="leave the bytes to the disk out")
    parser.add_argument("--seconds", type=int, default=10, help="of 1,000 messages a second")
    parser.add_argument("--binary", type=pathlib.Path, default=BIN / "iotedged")
    options = parser.parse_args()
    options.binary = options.binary.resolve()
    # Debian keeps mosquitto out of a user's path.
    os.environ["PATH"] += os.pathsep + "/usr/sbin"
    compare(options)
    if options.no_disk:
        return
    print("\nBytes to the disk for a message of 200 bytes at 1,000 a second (by the store's own count)\n")
    for sync in ("50ms", "full"):
        queued, drained, stored = link_down(sync, options.binary, options.seconds)
        print(f"  link down, {sync:5} {queued:8,.0f} queued, {drained:8,.0f} and drained ({stored:,.0f})")
        up, stored = link_up(sync, options.binary, options.seconds)
        print(f"  link up,   {sync:5} {up:8,.0f} ({stored:,.0f})", flush=True)


if __name__ == "__main__":
    main()
