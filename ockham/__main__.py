"""`python -m ockham`, and with it `torchrun -m ockham train`."""

from __future__ import annotations

from ockham.cli import main

if __name__ == "__main__":
    main()
