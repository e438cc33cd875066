"""A disk whose power can be cut: `tests/c/power_cut.c` before a program."""

import pathlib
import shutil
import signal

from harness.binaries import ROOT
from harness.process import run

SOURCE = ROOT / "tests" / "c" / "power_cut.c"
CUT = signal.SIGRTMAX - 1


def build(folder):
    shim = pathlib.Path(folder) / "power_cut.so"
    done = run(["cc", "-Wall", "-Wextra", "-Werror", "-O2", "-shared", "-fPIC", "-o", shim, SOURCE, "-ldl"])
    assert done.returncode == 0, done.stderr
    return shim


class Disk:
    """The disk below one folder. `environment()` puts a program on it."""

    def __init__(self, shim, folder):
        self.shim, self.folder = shim, pathlib.Path(folder).resolve()
        self.shadow = self.folder.parent / (self.folder.name + ".shadow")
        self.full = self.folder.parent / (self.folder.name + ".full")

    def environment(self, seed=1, cut_at=0, **more):
        """`cut_at`: the operation at which the power goes; else it goes at the signal `CUT`."""
        shutil.rmtree(self.shadow, ignore_errors=True)
        self.shadow.mkdir(parents=True)
        return {
            "LD_PRELOAD": str(self.shim), "POWER_DIR": str(self.folder), "POWER_SHADOW": str(self.shadow),
            "POWER_FULL": str(self.full), "POWER_SEED": str(seed), "POWER_CUT_AT": str(cut_at), **more,
        }
