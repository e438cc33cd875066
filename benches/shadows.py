#!/usr/bin/env python3
"""Device shadows beside bare SQLite on this machine: `make bench-shadows`.

For each way to commit (`store.sync`): how many updates a second one thing and 1,000 things take, each
update an attribute of a shadow of about 1 KB, counted when its answer on `update/accepted` has come; and
how many gets. Beside the updates, in turns on the same disk, SQLite alone puts documents of the same size
under as many keys: in batches of the sizes that iotedged formed, and one by one. Then 100,000 shadows of
1 KB: what they cost in memory, and how long a get takes.

iotedged runs as it is shipped, with a policy that is asked for each message.
"""

import argparse
import json
import pathlib
import re
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

import run

BIN = run.BIN
POLICY = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Action": "iot:Connect", "Resource": "arn:aws:iot:*:*:client/bench-*"},
        {
            "Effect": "Allow",
            "Action": ["iot:Publish", "iot:Receive"],
            "Resource": "arn:aws:iot:*:*:topic/$aws/things/bench-*",
        },
        {
            "Effect": "Allow",
            "Action": "iot:Subscribe",
            "Resource": "arn:aws:iot:*:*:topicfilter/$aws/things/*",
        },
    ],
}


class Gateway:
    """iotedged for the length of a `with`."""

    def __init__(self, sync):
        self.sync = sync
        self.port, self.admin = run.free_port(), run.free_port()

    def __enter__(self):
        self.temporary = tempfile.TemporaryDirectory(prefix="bench-", dir=run.ROOT / "target")
        self.folder = pathlib.Path(self.temporary.name)
        (self.folder / "policies.d").mkdir()
        (self.folder / "policies.d" / "bench.json").write_text(json.dumps(POLICY))
        (self.folder / "iotedge.toml").write_text(
            f"""data_dir = "{self.folder}/data"
[[listener]]
protocol = "mqtt"
address = "127.0.0.1:{self.port}"
auth = "anonymous"
policy = "bench"
[store]
sync = "{self.sync}"
[admin]
address = "127.0.0.1:{self.admin}"
socket = "{self.folder}/control.sock"
"""
        )
        self.log = open(self.folder / "log", "w+b")
        argv = [BIN / "iotedged", "--config", self.folder / "iotedge.toml"]
        self.process = subprocess.Popen(argv, stdout=self.log, stderr=self.log, cwd=self.folder)
        deadline = time.monotonic() + 20
        while not (self.folder / "control.sock").exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.log.seek(0)
                sys.exit("iotedged does not answer:\n" + self.log.read().decode()[-3000:])
            time.sleep(0.05)
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(20)
        self.log.close()
        self.temporary.cleanup()

    def ask(self, *argv):
        address = ["--address", f"127.0.0.1:{self.port}"]
        argv = [BIN / "bench-shadow", *address, *map(str, argv)]
        done = subprocess.run(argv, stdout=subprocess.PIPE, check=True)
        return json.loads(done.stdout)

    def metrics(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/metrics") as answer:
            return answer.read().decode()

    def commits(self):
        """Commits so far by the upper bound of their size, and the documents in all of them."""
        text, below, counts = self.metrics(), 0, {}
        name = "iotedge_store_commit_documents"
        for bound, count in re.findall(rf'{name}_bucket{{le="(\d+)"}} (\d+)', text):
            counts[int(bound)] = int(count) - below
            below = int(count)
        return counts, int(re.search(rf"{name}_sum (\d+)", text)[1])

    def document_bytes(self):
        with sqlite3.connect(f"file:{self.folder}/data/state.db?mode=ro", uri=True) as database:
            query = "SELECT avg(length(body)) FROM documents WHERE collection = 'shadows'"
            return round(database.execute(query).fetchone()[0])

    def rss_mb(self):
        text = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) / 1024

    def bare(self, name, seconds, size, keys, batches):
        """Documents a second of SQLite alone, on the same disk."""
        file = self.folder / f"{name}.db"
        argv = [BIN / "bench-sqlite", "--file", file, "--payload", str(size), "--seconds", str(seconds)]
        argv += ["--keys", str(keys), "--batches", ",".join(f"{s}:{t}" for s, t in batches)]
        done = subprocess.run(argv, stdout=subprocess.PIPE, check=True)
        return float(done.stdout)


def formed(before, after):
    """The batches between two looks, as (size, times)."""
    (counts, total), (counts_after, total_after) = before, after
    sizes = []
    for bound, count in counts_after.items():
        if times := count - counts.get(bound, 0):
            sizes.append((bound * 0.75 if bound > 2 else bound, times))
    scale = (total_after - total) / sum(size * times for size, times in sizes)
    return [(max(1, round(size * scale)), times) for size, times in sizes]


def updates(gateway, things, options):
    clients = min(things, 20)
    gateway.ask("create", "--things", things, "--clients", clients, "--bytes", options.bytes)
    size = gateway.document_bytes()
    load = ("--things", things, "--clients", clients, "--seconds", options.seconds)
    found = {"ours": [], "same": [], "single": [], "ratio": [], "get": []}
    for number in range(options.rounds):
        before = gateway.commits()
        ours = gateway.ask("update", *load)["per_second"]
        batches = formed(before, gateway.commits())
        same = gateway.bare(f"same{things}-{number}", options.seconds, size, things, batches)
        single = gateway.bare(f"single{things}-{number}", options.seconds, size, things, [(1, 1)])
        get = gateway.ask("get", *load)["per_second"]
        for name, value in (("ours", ours), ("same", same), ("single", single), ("get", get)):
            found[name].append(value)
        found["ratio"].append(ours / same)
    middle = {name: statistics.median(values) for name, values in found.items()}
    mean = sum(s * t for s, t in batches) / sum(t for _, t in batches)
    return middle, size, mean


def compare(options):
    rows = [["sync", "things", "updates/s", "SQLite, same batches", "ratio", "SQLite, one by one", "ratio",
             "a commit", "gets/s"]]
    for sync in options.sync:
        for things in options.things:
            with Gateway(sync) as gateway:
                middle, size, mean = updates(gateway, things, options)
            rows.append([
                sync, f"{things:,}", run.grouped(middle["ours"]), run.grouped(middle["same"]),
                f"{middle['ratio']:.2f}", run.grouped(middle["single"]),
                f"{middle['ours'] / middle['single']:.2f}", f"{mean:.0f}", run.grouped(middle["get"]),
            ])
    print(f"\nDocuments of {size:,} bytes as stored; medians of {options.rounds} rounds\n")
    run.table(rows)


def many(options):
    with Gateway("full") as gateway:
        # Few at once: what many clients have under way is another measurement.
        few = ("--clients", 2, "--window", 10, "--bytes", options.bytes)
        gateway.ask("create", "--things", 20, *few)
        time.sleep(1)
        before = gateway.rss_mb()
        create = gateway.ask("create", "--things", options.many, *few)
        time.sleep(1)
        after = gateway.rss_mb()
        one = gateway.ask("get", "--things", options.many, "--clients", 1, "--window", 1,
                          "--seconds", options.seconds)
        print(f"\n{options.many:,} shadows of {gateway.document_bytes():,} bytes as stored\n")
        run.table([
            ["", ""],
            ["created a second", run.grouped(create["per_second"])],
            ["memory before and after, MB", f"{before:.1f}, {after:.1f}"],
            ["growth, MB", f"{after - before:.1f}"],
            ["get of any of them, one at a time: p50, µs", run.grouped(one["p50_us"])],
            ["p99, µs", run.grouped(one["p99_us"])],
            ["memory after the gets, MB", f"{gateway.rss_mb():.1f}"],
        ])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each load")
    parser.add_argument("--bytes", type=int, default=800, help="of a shadow's state, about")
    parser.add_argument("--sync", action="append", choices=["full", "50ms"])
    parser.add_argument("--things", action="append", type=int)
    parser.add_argument("--many", type=int, default=100_000, help="0: not")
    options = parser.parse_args()
    options.sync = options.sync or ["full", "50ms"]
    options.things = options.things or [1, 1000]
    compare(options)
    if options.many:
        many(options)


if __name__ == "__main__":
    main()
