#!/usr/bin/env python3
"""Compares iotedged with mosquitto and rumqttd on this machine: `make bench`.

Every scenario runs against each broker in turn, round after round, so that what the machine does
beside it meets all alike; the medians of the rounds are compared. Load and broker share the
machine: a figure is good for comparing, not for promising. Publishers are at most 4,000 messages
ahead of the slowest subscriber, so that the pace is what a broker delivers; the floods show what it
does when they are not. They write as much at once as that and their windows allow; with --batch 1
each message is a write of its own, and the load is the limit for all but the slowest broker. What
came of it, and what falls short, is in docs/decisions/0005-runs.md.

iotedged runs as it is shipped: a policy that is asked for each message, no check left out, its
databases on disk with sync = "full". mosquitto is the system's, with an open listener and no limit
to its queues. rumqttd has the limits of its own example file.
"""

import argparse
import contextlib
import json
import os
import pathlib
import re
import resource
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
BIN = ROOT / "target" / "release"

SCENARIOS = {
    "1->1 QoS 0": ["--qos", "0"],
    "1->1 QoS 1": ["--qos", "1"],
    "50->1 QoS 0": ["--publishers", "50", "--qos", "0"],
    "50->1 QoS 1": ["--publishers", "50", "--qos", "1"],
    "1->50 QoS 0": ["--subscribers", "50", "--qos", "0"],
    "1->50 QoS 1": ["--subscribers", "50", "--qos", "1"],
    # mosquitto as it is shipped takes no more than 20 of QoS 2 at once, and closes.
    "1->1 QoS 2": ["--qos", "2", "--window", "20"],
    "1->50 QoS 2": ["--subscribers", "50", "--qos", "2", "--window", "20"],
    "1->1 QoS 1 durable": ["--qos", "1", "--persistent"],
    # The subscriber is away: every message is committed before its publisher hears of it. Beside
    # it runs bare SQLite, with the same payloads in batches of the sizes that iotedged formed.
    "1->offline QoS 1": ["--qos", "1", "--offline"],
    "20->offline QoS 1": ["--publishers", "20", "--qos", "1", "--offline"],
    # Publishers that write whatever the broker reads, and a subscriber that may not keep up.
    "1->1 QoS 0 flood": ["--qos", "0", "--ahead", "0"],
    "1->1 QoS 1 flood": ["--qos", "1", "--ahead", "0"],
    "latency QoS 1, 1,000/s": ["--qos", "1", "--rate", "1000"],
}

POLICY = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Action": "iot:Connect",
            "Resource": "arn:aws:iot:local:000000000000:client/bench-*",
        },
        {
            "Effect": "Allow",
            "Action": ["iot:Publish", "iot:Receive"],
            "Resource": "arn:aws:iot:local:000000000000:topic/bench/*",
        },
        {
            "Effect": "Allow",
            "Action": "iot:Subscribe",
            "Resource": "arn:aws:iot:local:000000000000:topicfilter/bench/*",
        },
        {
            "Effect": "Deny",
            "Action": "iot:Publish",
            "Resource": "arn:aws:iot:local:000000000000:topic/bench/forbidden/*",
        },
    ],
}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def iotedged(folder, port):
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
[broker]
# As mosquitto has it below: the loads fill a queue beyond what is shipped.
max_queued_messages = 100000000
max_queued_bytes = "8GiB"
[store]
max_bytes = "16GiB"
[admin]
address = "127.0.0.1:{admin}"
socket = "{folder}/control.sock"
"""
    )
    return [BIN / "iotedged", "--config", folder / "iotedge.toml"]


def mosquitto(folder, port):
    path = folder / "mosquitto.conf"
    # Without a limit: it drops QoS 1 messages beyond 1,000 queued ones otherwise, most of 50->1.
    path.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\nlog_type error\n"
        "max_queued_messages 0\n"
    )
    return ["mosquitto", "-c", path]


def rumqttd(folder, port):
    return [BIN / "bench-rumqttd", f"127.0.0.1:{port}"]


def wire(folder, port):
    """No broker: the most that the load can measure, at 1->1 QoS 0 only."""
    return [BIN / "bench-load", "--address", f"127.0.0.1:{port}", "wire"]


BROKERS = {"iotedged": iotedged, "mosquitto": mosquitto, "rumqttd": rumqttd}
PEERS = {**BROKERS, "wire": wire}


FAILED = dict.fromkeys(
    ("delivered", "lost", "duplicates", "disordered", "strange", "deliveries_per_second"), 0
)
FAILED |= {"p50_us": float("nan"), "p99_us": float("nan")}


class Broker:
    """A broker that runs for the length of a `with`."""

    def __init__(self, name):
        self.name = name
        self.port = free_port()

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="bench-", dir=ROOT / "target")
        folder = pathlib.Path(self.folder.name)
        self.log = open(folder / "log", "w+b")
        argv = PEERS[self.name](folder, self.port)
        self.process = subprocess.Popen(argv, stdout=self.log, stderr=self.log, cwd=folder)
        deadline = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                time.sleep(0.3)
                return self
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.fail("does not answer")
            time.sleep(0.05)

    def fail(self, what):
        self.log.seek(0)
        tail = self.log.read()[-3000:].decode("utf-8", "replace")
        sys.exit(f"{self.name} {what}:\n{tail}")

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(3)
        except subprocess.TimeoutExpired:
            # rumqttd's router cannot be stopped.
            self.process.kill()
            self.process.wait()
        self.log.close()
        self.folder.cleanup()

    def load(self, *argv):
        done = subprocess.run(
            [BIN / "bench-load", "--address", f"127.0.0.1:{self.port}", *argv],
            capture_output=True,
            text=True,
        )
        if done.returncode == 0:
            return json.loads(done.stdout)
        if self.process.poll() is not None:
            self.fail("has ended")
        return {**FAILED, "failed": done.stderr.strip().removeprefix("bench-load: ")}

    def commit_sizes(self):
        """How many messages the commits so far had, as `size:times` (the middle of each bucket)."""
        # Not before: it brings OpenSSL along, and what mosquitto shares is not counted whole.
        import urllib.request

        port = int((pathlib.Path(self.folder.name) / "admin").read_text())
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            text = answer.read().decode()
        name = "iotedge_store_commit_messages"
        below, sizes = 0, []
        for bound, count in re.findall(rf'{name}_bucket{{le="(\d+)"}} (\d+)', text):
            if times := int(count) - below:
                sizes.append((int(bound) * 0.75 if int(bound) > 2 else int(bound), times))
            below = int(count)
        whole = int(re.search(rf"{name}_sum (\d+)", text)[1])
        scale = whole / sum(size * times for size, times in sizes)
        return [(max(1, round(size * scale)), times) for size, times in sizes]

    def bare_sqlite(self, options):
        """Messages a second of SQLite alone, on the same disk."""
        sizes = ",".join(f"{size}:{times}" for size, times in self.commit_sizes())
        argv = [BIN / "bench-sqlite", "--file", pathlib.Path(self.folder.name) / "bare.db"]
        argv += ["--payload", str(options.payload), "--seconds", str(options.seconds)]
        done = subprocess.run([*argv, "--batches", sizes], stdout=subprocess.PIPE, check=True)
        return float(done.stdout), sizes

    def rss_mb(self):
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        return float("nan")

    def rss_with_clients(self, clients):
        load = subprocess.Popen(
            [BIN / "bench-load", "--address", f"127.0.0.1:{self.port}", "idle"]
            + ["--clients", str(clients)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            if load.stdout.readline().strip() != f"connected {clients}":
                self.fail(f"does not hold {clients} clients")
            time.sleep(1)
            return self.rss_mb()
        finally:
            load.stdin.close()
            load.wait()


def wrong(account, qos):
    """What must not be, whatever the speed: the order is kept, at QoS 1 and 2 nothing is lost, at
    QoS 2 nothing comes twice."""
    found = {key: account[key] for key in ("failed", "strange", "disordered") if account.get(key)}
    if qos != "0" and account["lost"]:
        found["lost"] = account["lost"]
    if qos == "2" and account["duplicates"]:
        found["duplicates"] = account["duplicates"]
    return found


def grouped(number):
    return f"{number:,.0f}"


def notes(accounts):
    """Losses and repetitions of all rounds, as words."""
    published = sum(a["delivered"] + a["lost"] for a in accounts)
    found = sorted({a["failed"] for a in accounts if "failed" in a})
    lost = sum(a["lost"] for a in accounts)
    if lost:
        found.append(f"lost {100 * lost / max(published, 1):.1f} %")
    for key in ("duplicates", "disordered", "strange"):
        count = sum(a[key] for a in accounts)
        if count:
            found.append(f"{key} {grouped(count)}")
    return ", ".join(found)


def table(rows):
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for n, row in enumerate(rows):
        cells = [row[0].ljust(widths[0])] + [c.rjust(w) for c, w in zip(row[1:], widths[1:])]
        print("| " + " | ".join(cells) + " |")
        if n == 0:
            print("|" + "|".join("-" * (w + 2) for w in widths) + "|")


def report(names, scenarios, results, memory):
    first, *peers = names
    print(f"\nDeliveries a second, medians of {len(next(iter(results.values())))} rounds\n")
    rows = [["", *names, *(f"{first} / {peer}" for peer in peers)]]
    remarks = []
    for scenario in scenarios:
        if scenario.startswith("latency"):
            continue
        rates = {
            n: statistics.median(a["deliveries_per_second"] for a in results[scenario, n])
            for n in names
        }
        ratios = [f"{rates[first] / rates[p]:.1f}" if rates[p] else "-" for p in peers]
        rows.append([scenario, *(grouped(rates[n]) for n in names), *ratios])
        for name in names:
            if remark := notes(results[scenario, name]):
                remarks.append(f"  {scenario}, {name}: {remark}")
    table(rows)
    bare(first, scenarios, results)
    for scenario in scenarios:
        if scenario.startswith("latency"):
            print(f"\n{scenario}, microseconds\n")
            rows = [["", *names]]
            for key, title in (("p50_us", "p50"), ("p99_us", "p99")):
                row = [statistics.median(a[key] for a in results[scenario, n]) for n in names]
                rows.append([title, *map(grouped, row)])
            table(rows)
    print("\nResident memory, MB\n")
    rows = [["", *names]]
    for i, title in enumerate(("idle", "1,000 connected clients")):
        rows.append([title, *(f"{memory[n][i]:.1f}" for n in names)])
    table(rows)
    print("\nWhat was counted: every message by its publisher and number, at each subscriber.")
    print("\n".join(remarks) if remarks else "  nothing lost, repeated or out of order")


def bare(first, scenarios, results):
    """What of SQLite's own pace is left."""
    rows = [["", first, "bare SQLite", "ratio", "batches"]]
    for scenario in scenarios:
        accounts = [a for a in results[scenario, first] if a.get("sqlite")]
        if not accounts:
            continue
        ours = statistics.median(a["deliveries_per_second"] for a in accounts)
        bare = statistics.median(a["sqlite"] for a in accounts)
        ratio = statistics.median(a["deliveries_per_second"] / a["sqlite"] for a in accounts)
        rows.append([scenario, grouped(ours), grouped(bare), f"{ratio:.2f}", accounts[0]["batches"]])
    if len(rows) > 1:
        print("\nDurable messages a second beside SQLite alone in batches of the same sizes\n")
        table(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each load")
    parser.add_argument("--payload", type=int, default=64, help="bytes")
    parser.add_argument("--batch", type=int, default=512, help="messages that a publisher writes at once")
    parser.add_argument("--broker", action="append", choices=PEERS, help="only these")
    parser.add_argument("--scenario", action="append", choices=SCENARIOS, help="only these")
    parser.add_argument("--json", type=pathlib.Path, help="write every account to this file")
    options = parser.parse_args()
    names = options.broker or list(BROKERS)
    scenarios = options.scenario or list(SCENARIOS)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(limit, 65536), limit))
    # Debian keeps mosquitto out of a user's path.
    os.environ["PATH"] += os.pathsep + "/usr/sbin"

    results = {(s, n): [] for s in scenarios for n in names}
    common = ["--seconds", str(options.seconds), "--payload", str(options.payload)]
    common += ["--batch", str(options.batch)]
    faults = []
    for number in range(1, options.rounds + 1):
        for scenario in scenarios:
            for name in names[number % len(names) :] + names[: number % len(names)]:
                with Broker(name) as broker:
                    account = broker.load("flow", *common, *SCENARIOS[scenario])
                    if "--offline" in SCENARIOS[scenario] and name == "iotedged":
                        account["sqlite"], account["batches"] = broker.bare_sqlite(options)
                results[scenario, name].append(account)
                qos = SCENARIOS[scenario][SCENARIOS[scenario].index("--qos") + 1]
                if (found := wrong(account, qos)) and name == "iotedged":
                    faults.append(f"round {number}, {scenario}: {found}")
                rate = grouped(account["deliveries_per_second"])
                print(f"round {number}  {scenario:24} {name:10} {rate:>12}/s  {notes([account])}",
                      flush=True)
    memory = {}
    for name in names:
        with Broker(name) as broker:
            time.sleep(1)
            memory[name] = (broker.rss_mb(), broker.rss_with_clients(1000))
    report(names, scenarios, results, memory)
    if options.json:
        accounts = [{"scenario": s, "broker": n, "accounts": a} for (s, n), a in results.items()]
        options.json.write_text(json.dumps({"accounts": accounts, "rss_mb": memory}, indent=1))
    if faults:
        sys.exit("iotedged did wrong:\n  " + "\n  ".join(faults))


if __name__ == "__main__":
    main()
