"""Private folder in which DuckDB stores intermediate results when memory is full."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref

PREFIX = "ockham-duckdb-"


def make_spill_dir(owner: object) -> str:
    """Create a folder of mode 0700 with a random name, and remove it when *owner* is collected.

    A fixed name in the shared temporary folder could be created by another user first. Returns empty text,
    which means no spilling, if no folder can be created.

    Args:
        owner: Object that uses the folder. A forked process does not remove the folder.

    """
    try:
        path = tempfile.mkdtemp(prefix=PREFIX)
    except OSError:
        return ""
    weakref.finalize(owner, _remove, path, os.getpid())
    return path


def _remove(path: str, process: int) -> None:
    if os.getpid() == process:
        shutil.rmtree(path, ignore_errors=True)
