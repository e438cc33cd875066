#!/usr/bin/env python3
"""What authorization costs on the way of a publish: instructions of the daemon for a QoS 1 publish under
a policy of twenty statements, beside one that allows everything. `make bench-policy` runs it.

The daemon runs under callgrind twice for each case, with few and with many publishes: the difference is
what the publishes took, without start and stop. IOTEDGE_BIN_DIR names the folder of another build.
"""

import json
import os
import pathlib
import re
import signal
import socket
import struct
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
BINARY = pathlib.Path(os.environ.get("IOTEDGE_BIN_DIR") or ROOT / "target/release") / "iotedged"
FEW, MANY = 2_000, 22_000
ARN = "arn:aws:iot:*:*:"

OPEN = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "iot:*", "Resource": "*"}]}
FINE = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "iot:Connect", "Resource": ARN + "client/c*"}]
    + [
        {"Effect": "Allow", "Action": "iot:Publish", "Resource": f"{ARN}topic/a{n}/${{iot:ClientId}}/*"}
        for n in range(18)
    ]
    + [{"Effect": "Allow", "Action": "iot:Publish", "Resource": ARN + "topic/site/${iot:ClientId}/*"}],
}


def text(value):
    return struct.pack(">H", len(value)) + value


def packet(first, body):
    length, rest = b"", len(body)
    while True:
        rest, digit = divmod(rest, 128)
        length += bytes([digit | (128 if rest else 0)])
        if not rest:
            return bytes([first]) + length + body


def publish(port, count, topics):
    """Publishes and waits for each hundred acknowledgements."""
    link = socket.create_connection(("127.0.0.1", port))
    link.settimeout(120)
    link.sendall(packet(0x10, text(b"MQTT") + b"\x04\x02\x00\x00" + text(b"client1")))
    assert link.recv(4)[3] == 0
    for begin in range(0, count, 100):
        burst = b"".join(
            packet(
                0x32,
                text(b"site/client1/t%d" % (number % topics))
                + struct.pack(">H", 1 + number % 100)
                + b"x" * 64,
            )
            for number in range(begin, begin + 100)
        )
        link.sendall(burst)
        left = 4 * 100
        while left:
            got = len(link.recv(left))
            assert got, "closed"
            left -= got
    link.close()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def instructions(policy, count, topics):
    with tempfile.TemporaryDirectory(prefix="ioe-") as folder:
        folder = pathlib.Path(folder)
        port, admin = free_port(), free_port()
        (folder / "policies.d").mkdir()
        (folder / "policies.d/p.json").write_text(json.dumps(policy))
        (folder / "iotedge.toml").write_text(
            f'data_dir = "{folder}/data"\n'
            f'[[listener]]\nprotocol = "mqtt"\naddress = "127.0.0.1:{port}"\n'
            'auth = "anonymous"\npolicy = "p"\n'
            f'[admin]\naddress = "127.0.0.1:{admin}"\nsocket = "{folder}/c.sock"\n'
            '[log]\nlevel = "error"\n'
        )
        daemon = subprocess.Popen(
            ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out", BINARY,
             "--config", folder / "iotedge.toml"],
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            while not (folder / "c.sock").exists():
                assert daemon.poll() is None, daemon.stderr.read()
                time.sleep(0.05)
            publish(port, count, topics)
        finally:
            daemon.send_signal(signal.SIGTERM)
        said = daemon.communicate(timeout=120)[1]
        return int(re.search(r"Collected : (\d+)", said)[1])


def each(policy, topics):
    return (instructions(policy, MANY, topics) - instructions(policy, FEW, topics)) / (MANY - FEW)


def main():
    print(f"instructions of a QoS 1 publish; {BINARY}")
    cases = (
        ("one topic", 1),
        ("100 topics", 100),
        ("1,000 topics", 1000),
        ("10,000 topics, most decided anew", 10_000),
    )
    for name, topics in cases:
        everything, fine = each(OPEN, topics), each(FINE, topics)
        cost = 100 * (fine / everything - 1)
        print(f"{name:34} allow all {everything:8.0f}   20 statements {fine:8.0f}   {cost:+.1f} %")


if __name__ == "__main__":
    main()
