"""A serial line of two pseudo terminals, joined by socat, and someone who talks on it."""

import fcntl
import os
import shutil
import termios
import threading
import time

from .process import Process
from .wait import until


class SerialLine:
    """`far` is where the daemon opens its port; what is written to `near` comes out there."""

    def __init__(self, folder):
        if not shutil.which("socat"):
            raise RuntimeError("socat is not installed (apt-get install socat)")
        folder.mkdir(parents=True, exist_ok=True)
        self.near, self.far = folder / "tty-near", folder / "tty-far"
        self.process = None
        self._held = None

    def plug(self):
        ends = [f"pty,raw,echo=0,link={end}" for end in (self.near, self.far)]
        self.process = Process(["socat", "-d", "-d", *ends], "socat")
        self.process.wait_for_line("starting data transfer loop")
        until(lambda: self.near.exists() and self.far.exists(), "socat has made its terminals")
        self._held = os.open(self.far, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        return self

    def release(self):
        """Lets the next one open the port that a killed process had for itself alone.

        The last close of a real port does this; socat keeps both its terminals open for ever.
        """
        fcntl.ioctl(self._held, termios.TIOCNXCL)

    def unplug(self):
        """The port goes away, as a USB adapter does."""
        os.close(self._held)
        self.process.terminate()
        until(lambda: not os.path.lexists(self.far), "socat has removed its terminals")

    def write(self, data):
        with open(self.near, "wb", buffering=0) as port:
            port.write(data)


class Feeder:
    """Writes lines at an even pace, and can be told to pause."""

    def __init__(self, line, lines, per_second):
        self._fd = os.open(line.near, os.O_WRONLY | os.O_NOCTTY)
        self._lines, self._period = lines, 1.0 / per_second
        self._may = threading.Event()
        self._may.set()
        self._end = threading.Event()
        self.written = 0
        self.error = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self):
        self._thread.start()
        return self

    def _run(self):
        try:
            next_at = time.monotonic()
            for text in self._lines:
                self._may.wait()
                if self._end.is_set():
                    return
                os.write(self._fd, text)
                self.written += 1
                # The pace of a sensor, not a way to wait for someone.
                next_at = max(next_at + self._period, time.monotonic() - 0.05)
                self._end.wait(max(0.0, next_at - time.monotonic()))
        except OSError as error:
            self.error = error

    def pause(self):
        self._may.clear()

    def resume(self):
        self._may.set()

    def flush(self):
        """Returns when all that was written has left this end."""
        termios.tcdrain(self._fd)

    @property
    def done(self):
        return not self._thread.is_alive()

    def join(self, deadline):
        self._thread.join(deadline)
        assert self.done, f"the feeder has written {self.written} of {len(self._lines)} lines"
        assert self.error is None, f"the feeder failed: {self.error}"

    def stop(self):
        self._end.set()
        self._may.set()
        self._thread.join(5)
        os.close(self._fd)
