"""A network of one's own, for programs whose ports are fixed."""

import shutil

from .process import Process, run


class Loopback:
    """A network namespace with nothing but a loopback; needs no root where user namespaces are on."""

    def __init__(self):
        for tool in ("unshare", "nsenter", "ip"):
            if not shutil.which(tool):
                raise RuntimeError(f"{tool} is not installed (apt-get install util-linux iproute2)")
        self.keeper = Process(
            ["unshare", "--user", "--map-root-user", "--net", "sh", "-c",
             "ip link set lo up && echo up && exec sleep infinity"],
            "netns",
        )
        self.keeper.wait_for_line("^up$")

    def wrap(self, argv):
        """The command line that runs `argv` in there."""
        return [
            "nsenter", "--target", str(self.keeper.pid), "--user", "--preserve-credentials", "--net",
            "--", *[str(a) for a in argv],
        ]

    def start(self, argv, name, **how):
        return Process(self.wrap(argv), name, **how)

    def run(self, argv, **how):
        return run(self.wrap(argv), **how)
