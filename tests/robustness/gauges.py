"""What the kernel says of a process."""

import os
import pathlib

TICKS = os.sysconf("SC_CLK_TCK")


def pss(pid):
    """Proportional set size in bytes: its own memory, and its share of what is shared."""
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no Pss in smaps_rollup")


def cpu(pid):
    """Seconds of processor time that it has used."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def slope(points):
    """By how much y grows with x, by least squares over (x, y) pairs."""
    n = len(points)
    mean_x, mean_y = sum(x for x, _ in points) / n, sum(y for _, y in points) / n
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread


def mb(count):
    return f"{count / 1e6:.2f} MB"
