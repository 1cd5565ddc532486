"""`python -m ockham`, and with it `torchrun -m ockham train`."""

from __future__ import annotations

import sys

if not sys.flags.safe_path:
    del sys.path[
        0
    ]  # the working folder, which may be a stranger's: `-m` would import what lies there before all else

from ockham.cli import main

if __name__ == "__main__":
    main()
