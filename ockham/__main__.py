"""The `ockham` command; `python -m ockham`, and with it `torchrun -m ockham train`."""

from __future__ import annotations

import sys
from typing import NoReturn

INTERRUPTED = 130


def main() -> NoReturn:
    """Entry point: Ctrl-C while the verbs are still being imported is as quiet as one within a verb."""
    try:
        from ockham.cli import main as typed
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    typed()


if __name__ == "__main__":
    # The working folder may be a stranger's, and `-m` would import what lies there before all else.
    if not sys.flags.safe_path:
        del sys.path[0]
    main()
