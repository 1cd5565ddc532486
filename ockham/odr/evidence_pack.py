"""Evidence that travels with the records: the cut log, compressed, in `evidence/` beside them.

`evidence/<run>.<attempt>-<rank>.jsonl.gz` holds the lines themselves and nothing derived; the root that the record
names says whether they are the ones. `evidence/policies/` holds the policies that they name, by their digests. A
record with packed evidence is checked without the run's folder. Packed files may come from a stranger, so every line
must be an event by its schema before anything else reads it.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from ockham.errors import UnverifiableError
from ockham.odr.pinned_log import PinnedLog, event_of, policies_of
from ockham.odr.record_data import EvidenceSide
from ockham.record.run_folder import RunFolder, atomic_write, segment_name

MAX_UNPACKED = 256 * 2**20  # bytes: a file of a few kilobytes can claim to be a thousand times that


def packed_file(folder: Path, side: EvidenceSide) -> Path:
    """Where the evidence of a side is packed."""
    return folder / f"{side.run}.{side.attempt}-{side.rank}.jsonl.gz"


def pack_log(one: PinnedLog, folder: Path) -> Path:
    """Write a cut log and its policies; the same lines give the same bytes."""
    lines = b"".join(segment.read_bytes()[:size] for segment, size in one.parts)
    file = packed_file(folder, one.side)
    atomic_write(file, gzip.compress(lines, compresslevel=9, mtime=0))
    for policy in policies_of(one.folder):
        atomic_write(folder / "policies" / policy.name, policy.read_bytes())
    return file


def unpack_log(folder: Path, side: EvidenceSide, runs: Path) -> RunFolder | None:
    """Lay a packed log out as a run folder below `runs`; None where nothing is packed.

    Raises:
        UnverifiableError: if the file is no such thing, too big, or holds a line that is no event.
        RunError: if the side names no run.

    """
    target = RunFolder(runs, side.run)  # refuses a name that leaves the folder, before a path is made of it
    file = packed_file(folder, side)
    if not file.is_file():
        return None
    try:
        with gzip.open(file, "rb") as stream:
            lines = stream.read(MAX_UNPACKED + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UnverifiableError(f"packed evidence {file.name} cannot be read: {error}") from None
    if len(lines) > MAX_UNPACKED:
        raise UnverifiableError(f"packed evidence {file.name} holds more than {MAX_UNPACKED >> 20} MiB")
    revisions = _revisions(file.name, lines)
    atomic_write(target.log_dir(side.attempt, side.rank) / segment_name(0), lines)
    atomic_write(target.run_json, b"{}")
    for digest in sorted(revisions):
        policy = folder / "policies" / f"{digest}.json"
        if policy.is_file():
            atomic_write(target.path / "policies" / policy.name, policy.read_bytes())
    return target


def _revisions(name: str, lines: bytes) -> set[str]:
    """The digests of the policies that the lines name.

    Raises:
        UnverifiableError: naming the first line that is no event.

    """
    found = set()
    for at, line in enumerate(lines.split(b"\n")[:-1]):
        event = event_of(line)
        if event is None:
            raise UnverifiableError(f"packed evidence {name}: line {at + 1} is no event")
        if event["type"] == "ockham.policy.loaded.v1":
            found.add(event["data"]["policy_revision"].removeprefix("sha256:"))
    return found
