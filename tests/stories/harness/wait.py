"""Waiting for what another process does, with a deadline."""

import time


class Late(AssertionError):
    """What was waited for did not come in time."""


def until(condition, what, deadline=10.0, every=0.02):
    """Asks `condition` until it answers with something true, and returns that.

    For what gives no event of its own: a file of another process, a counter behind a socket.
    """
    end = time.monotonic() + deadline
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() >= end:
            raise Late(f"{what}: not within {deadline} s; last answer: {answer!r}")
        time.sleep(every)
