"""The C programs of this tree, built against its headers and its shared library."""

import os
import pathlib

from .binaries import ROOT, build_dir
from .process import run


class Programs:
    """`programs("-O2")` is the folder of those built with this optimisation."""

    def __init__(self, make_folder):
        self._make_folder = make_folder
        self._built = {}
        self.library = pathlib.Path(os.environ.get("IOTEDGE_LIB_DIR") or build_dir()).resolve()

    def __call__(self, optimise):
        if optimise not in self._built:
            library = self.library
            there = (library / "libiotedge.so").exists()
            assert there, f"build it first: cargo build -p iotedge-ffi ({library})"
            out = self._make_folder("c" + optimise)
            done = run(
                [ROOT / "tests" / "c" / "build.sh", out, library], deadline=120,
                env={"OPTIMISE": optimise},
            )
            assert done.returncode == 0, done.stdout + done.stderr
            self._built[optimise] = out
        return self._built[optimise]
