"""What the kernel says of a process."""

import os
import pathlib
import time

TICKS = os.sysconf("SC_CLK_TCK")


def rollup(pid, name):
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no {name} in smaps_rollup")


def pss(pid):
    """Proportional set size in bytes: its own memory, and its share of what is shared."""
    return rollup(pid, "Pss")


def held(pid):
    """Bytes that it holds of its own, without code and files: code comes back when it is run for the
    first time after the start, and that of a debug build is large."""
    return rollup(pid, "Anonymous")


def cpu(pid):
    """Seconds of processor time that it has used."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def ready_after(gateway):
    """Starts it: seconds until it is ready."""
    began = time.monotonic()
    gateway.spawn()
    while gateway.admin("/readyz")[0] != 200:
        assert gateway.alive, gateway.process.log
        assert time.monotonic() - began < 60, "not ready within a minute"
        # It is measured: a look as often as the machine likes.
        time.sleep(0.002)
    return time.monotonic() - began


def slope(points):
    """By how much y grows with x, by least squares over (x, y) pairs."""
    n = len(points)
    mean_x, mean_y = sum(x for x, _ in points) / n, sum(y for _, y in points) / n
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread


def mb(count):
    return f"{count / 1e6:.2f} MB"
