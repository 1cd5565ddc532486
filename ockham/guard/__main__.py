"""The child's first lines: give up writing while there is one thread, then import what starts more.

    python -P -m ockham.guard RUNS MEMORY_MB CPU_SECONDS THREADS READER [RUN_ID ...]

READER says who opens Parquet. `duckdb`: DuckDB itself, which may read below RUNS and nowhere else, where the kernel
can take every way to write from the process. `arrow`, and where the kernel can't: Arrow, several times slower, and
DuckDB may open nothing at all.
"""

from __future__ import annotations

import sys

from ockham.guard.landlock import forbid_writing


class BlockPandasImport:
    """A finder that knows no pandas: Arrow imports it, where it is installed, at the first array that it makes.

    That was a third of what this process took to be ready, and it never makes a DataFrame.
    """

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> None:
        """As any finder."""
        if name == "pandas":
            raise ModuleNotFoundError("no pandas here", name=name)


if __name__ == "__main__":
    read_only = sys.argv[5] == "duckdb" and forbid_writing()
    sys.meta_path.insert(0, BlockPandasImport())
    from ockham.guard.worker import main

    sys.exit(main(sys.argv[1:], read_only=read_only))
