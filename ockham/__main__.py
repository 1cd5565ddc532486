"""Entry point of the `ockham` command, of `python -m ockham` and of `torchrun -m ockham train`."""

from __future__ import annotations

import sys
from typing import NoReturn

INTERRUPTED = 130


def main() -> NoReturn:
    """Run the command line.

    Ctrl-C while the commands are being imported exits with status 130 and without a traceback.
    """
    try:
        from ockham.cli import main as cli_main
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    cli_main()


if __name__ == "__main__":
    # `-m` puts the working folder first on the import path, and it may contain untrusted modules.
    if not sys.flags.safe_path:
        del sys.path[0]
    main()
