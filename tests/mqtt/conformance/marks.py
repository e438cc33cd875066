"""Why a test is expected to fail, or has nothing to say about a broker."""

import pytest

_OURS = "config.getoption('broker') == 'iotedge'"
_MOSQUITTO = "config.getoption('broker') == 'mosquitto'"


def pending(reason):
    """The daemon does not do this yet. A test that passes all the same fails: remove its mark."""
    return pytest.mark.xfail(_OURS, strict=True, reason=reason)


def defect(what):
    """The daemon does this wrong."""
    return pending(f"defect: {what}")


def not_mosquitto(why):
    """mosquitto deviates here, or cannot be configured for it."""
    return pytest.mark.skipif(_MOSQUITTO, reason=f"mosquitto: {why}")
