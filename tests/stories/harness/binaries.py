"""Where the programs under test are."""

import os
import pathlib
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[3]


def build_dir():
    """$IOTEDGE_BIN_DIR, else the debug build of this tree."""
    given = os.environ.get("IOTEDGE_BIN_DIR")
    return pathlib.Path(given).resolve() if given else ROOT / "target" / "debug"


class Binaries:
    """`iotedged` and, the same executable by another name, `iotedgectl`."""

    def __init__(self):
        self.iotedged = build_dir() / "iotedged"
        if not os.access(self.iotedged, os.X_OK):
            raise RuntimeError(
                f"{self.iotedged} is not there: build it (cargo build -p iotedge), or name its "
                "folder in IOTEDGE_BIN_DIR"
            )
        self._names = tempfile.TemporaryDirectory(prefix="ioe-bin-")
        self.iotedgectl = pathlib.Path(self._names.name) / "iotedgectl"
        self.iotedgectl.symlink_to(self.iotedged)
