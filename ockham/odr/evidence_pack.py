"""Packed evidence: the compressed pinned log in the folder `evidence/` of the records.

`evidence/<run>.<attempt>-<rank>.jsonl.gz` contains the lines and no derived data. The root in the record
identifies them. The logs from which it resumed are packed too; each later log contains their roots.
`evidence/policies/` contains the policies that they name, by digest. A record with packed
evidence can be checked without the run's folder. Packed files can be untrusted, so every line must be a valid
event before it is used.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from ockham.errors import UnverifiableError
from ockham.odr.pinned_log import PinnedLog, list_policies, parse_event, resumed_from
from ockham.odr.record_data import EvidenceSide
from ockham.record.durable_io import atomic_write
from ockham.record.run_folder import RunFolder, segment_name

# bytes: a file of a few kilobytes can claim to be a thousand times that.
MAX_UNPACKED = 256 * 2**20


def packed_file(folder: Path, side: EvidenceSide) -> Path:
    """Return the path of the packed evidence of a side."""
    return folder / f"{side.run}.{side.attempt}-{side.rank}.jsonl.gz"


def pack_log(one: PinnedLog, folder: Path) -> Path:
    """Write a pinned log, the logs from which it resumed, and its policies. Equal lines give equal bytes."""
    for log in one.chain():
        lines = b"".join(segment.read_bytes()[:size] for segment, size in log.parts)
        atomic_write(packed_file(folder, log.side), gzip.compress(lines, compresslevel=9, mtime=0))
    for policy in list_policies(one.folder):
        atomic_write(folder / "policies" / policy.name, policy.read_bytes())
    return packed_file(folder, one.side)


def unpack_log(folder: Path, side: EvidenceSide, runs: Path) -> RunFolder | None:
    """Write a packed log as a run folder below `runs`. Return None if there is no packed log.

    Raises:
        UnverifiableError: If the file is not a packed log, too large, or contains a line that is not an
            event.
        RunError: If the side names no run.

    """
    # Refuses a name that leaves the folder, before a path is made of it.
    target = RunFolder(runs, side.run)
    if not packed_file(folder, side).is_file():
        return None
    revisions: set[str] = set()
    log: EvidenceSide | None = side
    while log is not None and packed_file(folder, log).is_file():
        file = packed_file(folder, log)
        lines = _read_packed(file)
        revisions |= _revisions(file.name, lines)
        atomic_write(target.log_dir(log.attempt, log.rank) / segment_name(0), lines)
        resumed = resumed_from(lines.partition(b"\n")[0], (log.attempt, log.rank))
        log = None if resumed is None else log._replace(attempt=resumed.log[0])
    atomic_write(target.run_json, b"{}")
    for digest in sorted(revisions):
        policy = folder / "policies" / f"{digest}.json"
        if policy.is_file():
            atomic_write(target.path / "policies" / policy.name, policy.read_bytes())
    return target


def _read_packed(file: Path) -> bytes:
    """Return the lines of a packed log.

    Raises:
        UnverifiableError: If the file is not a packed log, or too large.

    """
    try:
        with gzip.open(file, "rb") as stream:
            lines = stream.read(MAX_UNPACKED + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UnverifiableError(f"packed evidence {file.name} cannot be read: {error}") from None
    if len(lines) > MAX_UNPACKED:
        raise UnverifiableError(f"packed evidence {file.name} holds more than {MAX_UNPACKED >> 20} MiB")
    return lines


def _revisions(name: str, lines: bytes) -> set[str]:
    """Return the digests of the policies that the lines name.

    Raises:
        UnverifiableError: If a line is not an event. The message names the first one.

    """
    found = set()
    for at, line in enumerate(lines.split(b"\n")[:-1]):
        event = parse_event(line)
        if event is None:
            raise UnverifiableError(f"packed evidence {name}: line {at + 1} is not an event")
        if event["type"] == "ockham.policy.loaded.v1":
            found.add(event["data"]["policy_revision"].removeprefix("sha256:"))
    return found
