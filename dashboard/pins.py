"""Pins of `ockham dashboard --pin`: signed tree heads that were stored elsewhere.

They are read for each verification, so that a pin that is added to a folder counts from the next one on.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

from ockham.errors import BadInputError
from ockham.record.tlog.pin import MAX_PIN_BYTES, parse_pin

# Files, and folders with files that end in .pin, one per line.
PINS_VARIABLE = "OCKHAM_PINS"


def pin_files() -> list[Path]:
    """Return the pin files, in the order of their names."""
    files: list[Path] = []
    for path in map(Path, os.environ.get(PINS_VARIABLE, "").splitlines()):
        files += sorted(path.glob("*.pin")) if path.is_dir() else [path]
    return files


def pins_state() -> str:
    """Return a digest of names, sizes and times of the pin files. Empty without pins."""
    state = []
    for path in pin_files():
        with contextlib.suppress(OSError):
            info = path.stat()
            state.append((str(path), info.st_size, info.st_mtime_ns, info.st_ctime_ns))
    return hashlib.sha256(repr(state).encode()).hexdigest() if state else ""


def pins_of_run(run_id: str) -> list[bytes]:
    """Return the pins of a run. A file may contain pins of several runs.

    Raises:
        BadInputError: If a file cannot be read, or is not a pin. Without it, less would be verified.

    """
    start = f"ockham/runs/{run_id}/".encode()
    pins = []
    for path in pin_files():
        try:
            with path.open("rb") as file:
                data = file.read(MAX_PIN_BYTES + 1)
        except OSError as error:
            raise BadInputError(f"pin {path}: cannot be read: {error.strerror}") from None
        pins += [note for note in parse_pin(data) if note.startswith(start)]
    return pins
