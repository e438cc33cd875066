"""A gateway of one's own, and the logs when something fails."""

from harness.fixtures import (  # noqa: F401 - pytest finds them here
    binaries,
    daemon,
    pytest_runtest_makereport,
    tidy,
)
