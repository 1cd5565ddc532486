"""Entry point of the guard's child process: give up write access, then import modules that start threads.

    python -P -m ockham.guard RUNS MEMORY_MB CPU_SECONDS THREADS READER OPTIONS [RUN_ID ...]

READER selects what opens Parquet files:

* `duckdb`: DuckDB itself. It may read only below RUNS. The kernel must be able to remove all write access.
* `arrow`: Arrow, several times slower. DuckDB may open no file. Also used if the kernel cannot remove
  write access.

OPTIONS is a JSON object with `verified`, `keys` and `pinned`, see `Catalog`.
"""

from __future__ import annotations

import sys

from ockham.guard.landlock import forbid_writing


class BlockPandasImport:
    """Import finder that blocks pandas.

    Arrow imports an installed pandas when it creates its first array. This took a third of the start-up
    time, and this process never creates a DataFrame.
    """

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> None:
        """Raise ModuleNotFoundError for pandas, and leave all other modules to the next finder."""
        if name == "pandas":
            raise ModuleNotFoundError("pandas is blocked in this process", name=name)


if __name__ == "__main__":
    read_only = sys.argv[5] == "duckdb" and forbid_writing()
    sys.meta_path.insert(0, BlockPandasImport())
    from ockham.guard.worker import main

    sys.exit(main(sys.argv[1:], read_only=read_only))
