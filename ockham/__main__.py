"""`python -m ockham`, and with it `torchrun -m ockham train`."""

from __future__ import annotations

import sys

# The working folder may be a stranger's, and `-m` would import what lies there before all else.
if not sys.flags.safe_path:
    del sys.path[0]

from ockham.cli import main

if __name__ == "__main__":
    main()
