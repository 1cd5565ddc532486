"""Evidence that travels with the records: the cut log, compressed, in `evidence/` beside them.

`evidence/<run>.<attempt>-<rank>.jsonl.gz` holds the lines themselves and nothing derived; the root that the record
names says whether they are the ones. A record with packed evidence is checked without the run's folder.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from ockham.errors import CannotJudgeError
from ockham.odr.claims import Side
from ockham.odr.evidence import Cut
from ockham.record.folder import RunFolder, segment_name, write_durably

MAX_UNPACKED = 256 * 2**20  # bytes: a file of a few kilobytes can claim to be a thousand times that


def packed_file(folder: Path, side: Side) -> Path:
    """Where the evidence of a side is packed."""
    return folder / f"{side.run}.{side.attempt}-{side.rank}.jsonl.gz"


def pack(one: Cut, folder: Path) -> Path:
    """Write a cut log; the same lines give the same bytes."""
    lines = b"".join(segment.read_bytes()[:size] for segment, size in one.parts)
    file = packed_file(folder, one.side)
    write_durably(file, gzip.compress(lines, compresslevel=9, mtime=0))
    return file


def unpack(folder: Path, side: Side, runs: Path) -> RunFolder | None:
    """Lay a packed log out as a run folder below `runs`; None where nothing is packed.

    Raises:
        CannotJudgeError: if the file is no such thing, or too big.

    """
    file = packed_file(folder, side)
    if not file.is_file():
        return None
    try:
        with gzip.open(file, "rb") as stream:
            lines = stream.read(MAX_UNPACKED + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise CannotJudgeError(f"packed evidence {file} cannot be read: {error}") from None
    if len(lines) > MAX_UNPACKED:
        raise CannotJudgeError(f"packed evidence {file} holds more than {MAX_UNPACKED >> 20} MiB")
    target = RunFolder(runs, side.run)
    write_durably(target.log(side.attempt, side.rank) / segment_name(0), lines)
    write_durably(target.run_json, b"{}")
    return target
