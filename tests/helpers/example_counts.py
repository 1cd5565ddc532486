"""Number of generated cases of slow tests: few in `make test`, many in `make fault-injection`."""

from __future__ import annotations

import os

VARIABLE = "OCKHAM_TEST_EXAMPLES"


def examples(count: int) -> int:
    """Return the number of cases, multiplied by the environment variable `OCKHAM_TEST_EXAMPLES`."""
    return count * int(os.environ.get(VARIABLE, "1"))


def stride(step: int) -> int:
    """Return the distance between two cases of a complete list: *step*, or 1 if the variable is set."""
    return 1 if VARIABLE in os.environ else step
