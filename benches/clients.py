#!/usr/bin/env python3
"""libiotedge beside libmosquitto: `make bench-c`.

One program in C, built with each library, publishes 64 bytes with QoS 0 and QoS 1 over TLS to the
same server, and connects many clients to see what each of them holds. The server is the system's
mosquitto. The two take turns, round after round, and medians are compared; `--check` fails where
libiotedge is behind by more than the noise of a round.
"""

import argparse
import pathlib
import shlex
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import run

HERE = pathlib.Path(__file__).resolve().parent
LIBRARIES = ("libiotedge", "libmosquitto")


def certificate(folder):
    key, pem = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
         "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=CA:FALSE",
         "-days", "2", "-keyout", key, "-out", pem],
        check=True, capture_output=True,
    )
    # mosquitto gives up root before it reads them.
    for path in (folder, key, pem):
        path.chmod(0o755)
    return key, pem


def build(folder):
    programs = {}
    for library in LIBRARIES:
        out = folder / library
        flags = {
            "libiotedge": ["-I", HERE.parent / "include", "-L", run.BIN, "-liotedge", f"-Wl,-rpath,{folder}"],
            "libmosquitto": ["-DMOSQUITTO", "-lmosquitto"],
        }[library]
        subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", HERE / "c" / "client.c", "-o", out, *flags], check=True)
        programs[library] = out
    (folder / "libiotedge.so.1").symlink_to(run.BIN / "libiotedge.so")
    return programs


def wait_open(port):
    for _ in range(200):
        try:
            return socket.create_connection(("127.0.0.1", port), 1).close()
        except ConnectionRefusedError:
            time.sleep(0.05)
    sys.exit("mosquitto does not listen")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--messages", type=int, default=200_000)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        key, pem = certificate(folder)
        port = run.free_port()
        (folder / "mosquitto.conf").write_text(
            f"listener {port} 127.0.0.1\nallow_anonymous true\nlog_type error\n"
            f"max_inflight_messages 0\ncertfile {pem}\nkeyfile {key}\n"
        )
        programs = build(folder)
        server = subprocess.Popen(["mosquitto", "-c", folder / "mosquitto.conf"], stderr=subprocess.DEVNULL)
        try:
            wait_open(port)
            failed = compare(programs, port, pem, options)
        finally:
            server.terminate()
            server.wait()
    sys.exit(failed and options.check)


def compare(programs, port, pem, options):
    def ask(library, what, count):
        command = [programs[library], str(port), pem, what, str(count)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{shlex.join(map(str, command))}: {done.stderr}")
        return [float(word) for word in done.stdout.split()]

    figures = {}
    for _ in range(options.rounds):
        for library in LIBRARIES:
            for what in ("qos0", "qos1"):
                seconds, processor = ask(library, what, options.messages)
                figures.setdefault((what, "messages/s"), {}).setdefault(library, []).append(options.messages / seconds)
                micros = processor / options.messages * 1e6
                figures.setdefault((what, "µs of processor"), {}).setdefault(library, []).append(micros)
            held = ask(library, "memory", options.clients)[0] / 1024
            figures.setdefault(("memory", "kB a client"), {}).setdefault(library, []).append(held)
    print(f"| | {LIBRARIES[0]} | {LIBRARIES[1]} | ratio |\n|---|---|---|---|")
    behind = False
    for (what, unit), values in figures.items():
        ours, theirs = (statistics.median(values[library]) for library in LIBRARIES)
        ratio = ours / theirs
        print(f"| {what}, {unit} | {ours:,.2f} | {theirs:,.2f} | {ratio:.2f} |")
        behind |= ratio < 0.9 if unit == "messages/s" else unit.startswith("kB") and ratio > 1.1
    return behind


if __name__ == "__main__":
    main()
