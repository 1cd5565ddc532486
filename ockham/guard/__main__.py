"""The child's first lines: give up writing while there is one thread, then import what starts more.

    python -P -m ockham.guard RUNS MEMORY_MB CPU_SECONDS THREADS READER [RUN_ID ...]

READER says who opens Parquet. `duckdb`: DuckDB itself, which may read below RUNS and nowhere else, where the kernel
can take every way to write from the process. `arrow`, and where the kernel can't: Arrow, several times slower, and
DuckDB may open nothing at all.
"""

from __future__ import annotations

import sys

from ockham.guard.landlock import forbid_writing

if __name__ == "__main__":
    read_only = sys.argv[5] == "duckdb" and forbid_writing()
    from ockham.guard.child import main

    sys.exit(main(sys.argv[1:], read_only=read_only))
