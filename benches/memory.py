#!/usr/bin/env python3
"""What iotedged and mosquitto hold in memory, alone and with clients: `make memory`.

Each broker runs in turn, round after round, and the medians are compared. It is left alone for a
minute; then clients connect, one after another, and are silent. That all of them are there is shown
at the end: each pings and is answered.

PSS counts what several processes share in parts, RSS counts it whole. This one shares the C library
with both, and with TLS OpenSSL with mosquitto. iotedged runs as it is shipped:
a policy that each client is asked for, its databases on disk; mosquitto is the system's.
`--check` fails where iotedged holds more than it is to: 8 MB alone, and with clients over TCP
no more than mosquitto.
"""

import argparse
import json
import os
import pathlib
import resource
import socket
import statistics
import subprocess
import sys
import time

import run

IDLE_MB = 8.0
TIMES_MOSQUITTO = 1.0
HEADERS = (
    b"GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Protocol: mqtt\r\n\r\n"
)
PING, PONG = b"\xc0\0", b"\xd0\0"


def iotedged(transport):
    def command(folder, port):
        (folder / "policies.d").mkdir()
        (folder / "policies.d" / "bench.json").write_text(json.dumps(run.POLICY))
        protocol = {"tcp": "mqtt", "ws": "ws", "tls": "mqtts"}[transport]
        (folder / "iotedge.toml").write_text(
            f'data_dir = "{folder}/data"\n'
            f'[[listener]]\nprotocol = "{protocol}"\naddress = "127.0.0.1:{port}"\n'
            'auth = "anonymous"\npolicy = "bench"\n'
            f'[admin]\naddress = "127.0.0.1:{run.free_port()}"\nsocket = "{folder}/control.sock"\n'
        )
        return [run.BIN / "iotedged", "--config", folder / "iotedge.toml"]

    return command


def mosquitto(transport):
    def command(folder, port):
        lines = [f"listener {port} 127.0.0.1", "allow_anonymous true", "log_type error"]
        if transport == "tls":
            key, certificate = folder / "key.pem", folder / "certificate.pem"
            subprocess.run(
                ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                 "-subj", "/CN=localhost", "-days", "2", "-keyout", key, "-out", certificate],
                check=True, capture_output=True,
            )
            # mosquitto gives up root before it reads them.
            for path in (folder, key, certificate):
                path.chmod(0o755)
            lines += [f"certfile {certificate}", f"keyfile {key}"]
        (folder / "mosquitto.conf").write_text("\n".join(lines) + "\n")
        return ["mosquitto", "-c", folder / "mosquitto.conf"]

    return command


MAKERS = {"iotedged": iotedged, "mosquitto": mosquitto}


def memory(pid):
    """PSS and RSS in MB, as the system counts them (1,024 bytes a kB)."""
    found = {}
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        key, _, rest = line.partition(":")
        if key in ("Pss", "Rss"):
            found[key] = int(rest.split()[0]) / 1024
    return found["Pss"], found["Rss"]


class Client:
    def __init__(self, number, port, transport):
        self.websocket = transport == "ws"
        self.number = number
        link = socket.create_connection(("127.0.0.1", port), timeout=20)
        if transport == "tls":
            # Not before: mosquitto shares its OpenSSL, and what is shared is not counted whole.
            import ssl

            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            link = context.wrap_socket(link)
        self.link = link
        if self.websocket:
            link.sendall(HEADERS)
            head = b""
            while b"\r\n\r\n" not in head:
                head += link.recv(1)
        name = b"bench-memory-%d" % number
        body = b"\0\4MQTT\4\2" + (1200).to_bytes(2, "big") + len(name).to_bytes(2, "big") + name
        answer = self.ask(bytes([0x10, len(body)]) + body, 4)
        if answer[:1] != b"\x20" or answer[3] != 0:
            sys.exit(f"client {number} was refused: {answer!r}")

    def ask(self, packet, length):
        """Sends a packet and reads so many bytes of the answer."""
        if self.websocket:
            packet = bytes([0x82, 0x80 | len(packet)]) + bytes(4) + packet
            length += 2
        self.link.sendall(packet)
        answer = b""
        while len(answer) < length:
            more = self.link.recv(length - len(answer))
            if not more:
                sys.exit(f"client {self.number} was thrown out")
            answer += more
        return answer[2:] if self.websocket else answer


def measure(name, transport, options):
    """MB: PSS and RSS alone, PSS and RSS with clients."""
    run.PEERS[name] = MAKERS[name](transport)
    with run.Broker(name) as broker:
        time.sleep(options.settle if transport == "tcp" else min(options.settle, 5))
        alone = memory(broker.process.pid)
        clients = [Client(n, broker.port, transport) for n in range(options.clients)]
        time.sleep(options.hold)
        together = memory(broker.process.pid)
        for client in clients:
            if client.ask(PING, 2) != PONG:
                sys.exit(f"{name}: client {client.number} is not there")
        for client in clients:
            client.link.close()
    return *alone, *together


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="over TCP; the others have one")
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--settle", type=float, default=60, help="seconds before the first look")
    parser.add_argument("--hold", type=float, default=10, help="seconds before the second look")
    parser.add_argument("--transport", action="append", choices=["tcp", "ws", "tls"], help="only these")
    parser.add_argument("--broker", action="append", choices=MAKERS, help="only these")
    parser.add_argument("--check", action="store_true", help="fail where it is too much")
    options = parser.parse_args()
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(limit, 65536), limit))
    # Debian keeps mosquitto out of a user's path.
    os.environ["PATH"] += os.pathsep + "/usr/sbin"

    names = options.broker or list(MAKERS)
    title = f"{options.clients:,} clients"
    rows = [["", "", "PSS alone", "RSS alone", f"PSS, {title}", f"RSS, {title}", "bytes a client"]]
    found = {}
    for transport in options.transport or ["tcp", "ws", "tls"]:
        rounds = options.rounds if transport == "tcp" else 1
        # Not every mosquitto has WebSocket.
        here = [name for name in names if (transport, name) != ("ws", "mosquitto")]
        taken = {name: [] for name in here}
        for number in range(rounds):
            for name in here[number % len(here) :] + here[: number % len(here)]:
                taken[name].append(measure(name, transport, options))
                figures = " ".join(f"{value:7.2f}" for value in taken[name][-1])
                print(f"round {number + 1}  {transport:4} {name:10} {figures}", flush=True)
        for name in here:
            medians = [statistics.median(column) for column in zip(*taken[name])]
            found[transport, name] = medians
            each = (medians[2] - medians[0]) * 1024 * 1024 / options.clients
            rows.append([transport, name, *(f"{value:.2f}" for value in medians), f"{each:.0f}"])
    print(f"\nMB, medians of {options.rounds} rounds over TCP\n")
    run.table(rows)
    if options.check:
        ours, theirs = found["tcp", "iotedged"], found["tcp", "mosquitto"]
        if ours[0] >= IDLE_MB or ours[2] > TIMES_MOSQUITTO * theirs[2]:
            sys.exit("iotedged holds more memory than it is to")


if __name__ == "__main__":
    main()
