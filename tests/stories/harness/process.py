"""Processes whose output is kept and can be waited for."""

import os
import re
import signal
import subprocess
import threading
import time

from .wait import Late

# Everything started since the story began; conftest prints their logs when a story fails, and
# ends what still runs.
started = []


class Process:
    """A child in a process group of its own, stdout and stderr read as one log."""

    def __init__(self, argv, name, cwd=None, env=None, stdin=subprocess.DEVNULL):
        self.name = name
        self.argv = [str(a) for a in argv]
        self.lines = []
        self._closed = False
        self._news = threading.Condition()
        self.popen = subprocess.Popen(
            self.argv,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        started.append(self)

    def _read(self):
        for raw in self.popen.stdout:
            line = raw.decode("utf-8", "replace").rstrip("\r\n")
            with self._news:
                self.lines.append(line)
                self._news.notify_all()
        with self._news:
            self._closed = True
            self._news.notify_all()

    @property
    def pid(self):
        return self.popen.pid

    @property
    def running(self):
        return self.popen.poll() is None

    @property
    def log(self):
        with self._news:
            return "\n".join(self.lines)

    def wait_for_line(self, pattern, deadline=10.0, since=0):
        """The first match of `pattern` in the lines from number `since` on."""
        pattern = re.compile(pattern)
        end = time.monotonic() + deadline
        at = since
        with self._news:
            while True:
                while at < len(self.lines):
                    match = pattern.search(self.lines[at])
                    at += 1
                    if match:
                        return match
                left = end - time.monotonic()
                if self._closed or left <= 0:
                    why = "its output ended" if self._closed else f"not within {deadline} s"
                    raise Late(f"{self.name}: no line with {pattern.pattern!r}: {why}\n" + self._tail())
                self._news.wait(left)

    def mark(self):
        """The number of lines so far, for `wait_for_line(since=...)`."""
        with self._news:
            return len(self.lines)

    def _tail(self, count=60):
        return "\n".join(f"  {self.name}| {line}" for line in self.lines[-count:])

    def signal(self, number):
        self.popen.send_signal(number)

    def wait(self, deadline=10.0):
        """The exit code; minus the number of the signal that ended it."""
        try:
            code = self.popen.wait(deadline)
        except subprocess.TimeoutExpired:
            said = f"{self.name} (pid {self.pid}) still runs after {deadline} s\n" + self._tail()
            raise Late(said) from None
        self._reader.join(5)
        return code

    def kill(self):
        """SIGKILL, and gone when this returns."""
        if self.running:
            self.signal(signal.SIGKILL)
        return self.wait()

    def terminate(self, deadline=10.0):
        """SIGTERM; the exit code."""
        if self.running:
            self.signal(signal.SIGTERM)
        return self.wait(deadline)

    def destroy(self):
        """Ends it and all it has started, whatever state it is in."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.popen.wait()


def run(argv, deadline=30.0, input=None, cwd=None, env=None):
    """Runs a program to its end; `returncode`, `stdout` and `stderr` as text."""
    return subprocess.run(
        [str(a) for a in argv],
        timeout=deadline,
        input=input,
        cwd=cwd,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        errors="replace",
    )
