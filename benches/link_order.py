#!/usr/bin/env python3
"""Renews daemon/link-order.txt: which functions iotedged runs, so that they lie side by side.

    IOTEDGE_LINK_ORDER=off CARGO_PROFILE_RELEASE_STRIP=none \\
        cargo build --release -p iotedge -p iotedge-benches && benches/link_order.py

(valgrind knows no functions outside the section .text, which the order takes them out of.)

It runs target/release/iotedged under valgrind's callgrind: started and left alone, with clients that
come, subscribe, ping and go; then with messages. `--keep` adds to the list there is instead of
replacing it: for another version of Rust, whose own functions have other names.
"""

import argparse
import bisect
import collections
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
LIST = HERE.parent / "daemon" / "link-order.txt"
sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]

import run  # noqa: E402

# How often the daemon looks around is counted in seconds: each of its ticks comes once.
QUIET = 25
HEAD = """\
# Functions that every gateway runs, by the names of their sections without ".text."; `*` stands for
# what each compilation names anew. The further down, the more of what a name stands for does not run.
# Last come parts of the house that others of these are in: what is new is likely to be there. Made by
# benches/link_order.py.
"""
# A part of the house is such a part if so much of it runs.
LIKELY = 0.1
DROP = "_RINvNtCs*_4core3ptr13drop_in_place*"


class Callgrind(run.Broker):
    """A start that finds what the first one left."""

    def __init__(self, out):
        def command(folder, port):
            daemon = run.iotedged(folder, port)
            first = subprocess.Popen(daemon, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            while not (folder / "control.sock").exists():
                time.sleep(0.05)
            first.terminate()
            first.wait()
            return ["valgrind", "--tool=callgrind", "--dump-instr=yes", f"--callgrind-out-file={out}", *daemon]

        run.PEERS["callgrind"] = command
        super().__init__("callgrind")


def connect(name, version):
    """CONNECT with a clean session; in version 5 without properties."""
    properties = b"\0" if version == 5 else b""
    body = b"\0\4MQTT" + bytes([version, 2]) + b"\0\x3c" + properties + len(name).to_bytes(2, "big") + name
    return bytes([0x10, len(body)]) + body


def subscribe(topic, version):
    properties = b"\0" if version == 5 else b""
    body = b"\0\1" + properties + len(topic).to_bytes(2, "big") + topic + b"\1"
    return bytes([0x82, len(body)]) + body


def clients(port):
    """They come, subscribe, ping, and stay until they are dropped."""
    links = []
    for n in range(20):
        version = 4 + n % 2
        link = socket.create_connection(("127.0.0.1", port))
        link.settimeout(60)
        name, topic = b"bench-%d" % n, b"bench/%d" % n
        for packet, answer in (
            (connect(name, version), 0x20), (subscribe(topic, version), 0x90), (b"\xc0\0", 0xD0),
        ):
            link.sendall(packet)
            assert link.recv(100)[0] == answer
        links.append(link)
    return links


def dump(broker):
    """What ran since the last dump goes into a file of its own."""
    subprocess.run(["callgrind_control", "--dump", str(broker.process.pid)], check=True, stdout=subprocess.DEVNULL)
    time.sleep(2)


def profile(out, work):
    """Files with a number: the first is the start, the second what came after it."""
    with Callgrind(out) as broker:
        time.sleep(1)
        dump(broker)
        work(broker)
        # Without the functions of a stop: they are seldom needed.
        dump(broker)


def quiet(broker):
    links = clients(broker.port)
    time.sleep(QUIET)
    for link in links:
        link.sendall(b"\xc0\0\xe0\0")
        link.close()
    time.sleep(1)


def busy(broker):
    for qos in "0", "1":
        options = ["--seconds", "2", "--payload", "64", "--publishers", "2", "--subscribers", "2", "--qos", qos]
        account = broker.load("flow", *options)
        assert "failed" not in account, account


def addresses(out, binary):
    """The addresses of all instructions of `binary` that ran: at the start, and after it."""
    found = [set(), set()]
    for path in sorted(out.parent.glob(out.name + ".*")):
        ran = found[path.name != out.name + ".1"]
        names, current, address = {}, None, 0
        with path.open() as lines:
            for line in lines:
                if m := re.match(r"(c?ob)=\((\d+)\)(?: (.*))?", line):
                    if m[3]:
                        names[m[2]] = m[3].strip()
                    if m[1] == "ob":
                        current = m[2]
                elif m := re.match(r"(0x[0-9a-f]+|\+\d+|-\d+|\*) ", line):
                    if m[1].startswith("0x"):
                        address = int(m[1], 16)
                    elif m[1] != "*":
                        address += int(m[1])
                    if names.get(current) == str(binary):
                        ran.add(address)
    return found


class Functions:
    def __init__(self, binary):
        self.all = []
        listed = subprocess.run(["nm", "-S", "-n", binary], capture_output=True, text=True, check=True)
        for line in listed.stdout.splitlines():
            part = line.split(" ", 3)
            if len(part) == 4 and part[1] and part[2] in "tTwW":
                self.all.append((int(part[0], 16), int(part[1], 16), part[3]))
        if not self.all:
            sys.exit(f"{binary} has no symbols: build it with CARGO_PROFILE_RELEASE_STRIP=none")
        if ".text.used" in subprocess.run(["readelf", "-SW", binary], capture_output=True, text=True).stdout:
            sys.exit(f"{binary} is in order already: build it with IOTEDGE_LINK_ORDER=off")
        self.starts = [start for start, _, _ in self.all]

    def at(self, addresses):
        """The indices of the functions that the addresses are in, with their other names."""
        found = set()
        for address in addresses:
            i = bisect.bisect_right(self.starts, address) - 1
            if i < 0 or address >= self.all[i][0] + self.all[i][1]:
                continue
            found.add(i)
            while i > 0 and self.starts[i - 1] == self.starts[i]:
                i -= 1
                found.add(i)
        return found

    def bytes(self, indices):
        return sum({self.all[i][0]: self.all[i][1] for i in indices}.values())


def pattern(name):
    """A function's section in every compilation: without hashes."""
    # The legacy mangling ends in a hash, the new one has one in each crate's name.
    name = re.sub(r"17h[0-9a-f]{16}E.*$", "17h*", name)
    if name.startswith("_R"):
        name = re.sub(r"Cs[0-9A-Za-z]{5,13}_", "Cs*_", name)
        # Back references count characters, and those of the hashes with them.
        name = re.sub(r"B[0-9A-Za-z]{0,3}_", "B*_", name)
        # Of the copies that crates have of a generic function any one may be taken.
        last = re.search(r"Cs\*_(\d+)_?(\w+)$", name)
        if last and int(last[1]) == len(last[2]):
            name = name[:last.start()] + "Cs*"
    # What several parts of a program have a copy of is numbered.
    name = re.sub(r"^(_R.*?)(\.\d+)?$", r"\1*", name)
    # Parts and variants that the C compiler makes of a function.
    return re.sub(r"\.(constprop|isra|part|cold|llvm)\..*$", ".*", name)


def in_order(functions, used):
    """The patterns of the functions at those indices. What stands for others, too, comes last."""
    whole, ran = collections.Counter(), collections.Counter()
    for i, (_, size, name) in enumerate(functions.all):
        whole[pattern(name)] += size
        if i in used:
            ran[pattern(name)] += size
    return sorted(ran, key=lambda p: (-(ran[p] * 10 // whole[p]), p))


def parts(name):
    """The parts of the house that a function is in, as patterns: its module and what is above it.
    None for a function of others."""
    m = re.match(r"_R(?:I?Nv|NC|I?NvM|I?NvX)\w*?((?:Nt)*)Cs[0-9A-Za-z]{5,13}_(\d+)(iotedge\w*)", name)
    if not m:
        return []
    rest, path = m[2] + m[3], []
    while (n := re.match(r"(\d+)_?", rest)) and len(path) <= len(m[1]) // 2:
        path.append(rest[n.end():n.end() + int(n[1])])
        rest = rest[n.end() + int(n[1]):]
    return ["_R*Cs*_" + "".join(f"{len(step)}{step}" for step in path[:k]) + "*" for k in (len(path), 2) if k > 1]


def is_part(pattern):
    """A name that stands for more than the variants of one function."""
    return pattern == DROP or pattern.startswith("_R*")


def likely(functions, used):
    """The parts of the house of which much runs, the narrower first, and what takes values apart."""
    whole, ran = collections.Counter(), collections.Counter()
    for i, (_, size, name) in enumerate(functions.all):
        for part in set(parts(name)):
            whole[part] += size
            if i in used:
                ran[part] += size
    found = [part for part in ran if ran[part] >= LIKELY * whole[part]]
    return sorted(found, key=lambda p: (-len(p), p)) + [DROP]


def main():
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--keep", action="store_true")
    args = options.parse_args()
    binary = run.BIN / "iotedged"
    functions = Functions(binary)
    start, after = set(), set()
    with tempfile.TemporaryDirectory() as folder:
        for work in quiet, busy:
            out = pathlib.Path(folder, work.__name__)
            profile(out, work)
            begun, went_on = addresses(out, binary)
            start |= functions.at(begun)
            after |= functions.at(went_on)
    used = start | after
    # What only the start needs is given back after it, so it lies by itself.
    patterns, rest = in_order(functions, after), likely(functions, used)
    known = set(patterns)
    patterns += [p for p in in_order(functions, start) if p not in known]
    if args.keep:
        there = [line for line in LIST.read_text().splitlines() if not line.startswith("#")]
        known = set(there)
        patterns = [p for p in there if not is_part(p)] + [p for p in patterns if p not in known]
        rest = [p for p in there if is_part(p) and p not in rest] + rest
    patterns += rest
    LIST.write_text(HEAD + "".join(f"{p}\n" for p in patterns))
    print(f"{len(used)} functions of {functions.bytes(used)} bytes, {len(after)} of {functions.bytes(after)} "
          f"after the start; {len(patterns)} patterns")


if __name__ == "__main__":
    main()
