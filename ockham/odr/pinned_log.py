"""Evidence: one log up to a pinned position, its root, and a runs folder with exactly these events.

A constraint is queried on a copy of the runs folder that ends at `through_sequence`. It contains no later
events, other runs or derived files. A growing log therefore changes no verdict, and only lines with the named
root are evaluated.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ockham.errors import UnverifiableError
from ockham.event import TYPES, event_kind
from ockham.odr.record_data import EvidenceSide
from ockham.record.evidence import LogKey, LogLink, LogState, previous_logs, read_evidence, resume_problems
from ockham.record.parquet.builder import update_parquet
from ockham.record.payloads import decode_line
from ockham.record.run_folder import (
    RunFolder,
    list_regular_files,
    list_runs,
    open_regular_file,
    read_regular_file,
)
from ockham.record.schema import make_validator
from ockham.record.tlog.merkle import CompactRange, leaf_hash
from ockham.record.verify.run import own_keys

MAX_LINE = 65_536
_CONTEXT = b'"type":"ockham.context.recorded.v1"'


class CitedEvent(NamedTuple):
    """An event with the cited ID prefix, and its position."""

    sequence: int
    event: dict[str, Any]


class PinnedLog(NamedTuple):
    """A log up to a pinned position.

    Attributes:
        side: Baseline or candidate, as the record describes it.
        folder: The run.
        size: Number of events up to the position. `total` counts the whole log.
        root: RFC 6962 root over the lines up to the position, in hex.
        parts: Segments, and how many bytes of each are before the position.
        segments: Segments of the whole log.
        finished: True if the log contains the end of the run.
        earlier: The log from which this one resumed, up to the size and root that `run.resumed` names. Its
            own `earlier` continues the chain. None if this log did not resume.

    """

    side: EvidenceSide
    folder: RunFolder
    size: int
    total: int
    root: str
    parts: tuple[tuple[Path, int], ...]
    segments: tuple[Path, ...]
    finished: bool
    earlier: PinnedLog | None = None

    def chain(self) -> Iterator[PinnedLog]:
        """Yield this log and all logs from which it resumed, the newest first."""
        log: PinnedLog | None = self
        while log is not None:
            yield log
            log = log.earlier


def parse_event(line: bytes) -> dict[str, Any] | None:
    """Return the event of a line, or None if it does not fit its schema. The log can be untrusted."""
    try:
        return check_schema(decode_line(line))
    except ValueError:
        return None


def check_schema(event: Any) -> dict[str, Any] | None:
    """Return the event, or None if it does not fit its schema."""
    try:
        kind = event_kind(event["type"])
        return event if kind in TYPES and make_validator()(kind, event) else None
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def find_run(run: str, places: Sequence[Path]) -> RunFolder | None:
    """Return the run folder in the first folder of runs that contains it."""
    folders = (RunFolder(place, run) for place in places)
    return next((folder for folder in folders if folder.exists()), None)


def read_pinned_log(side: EvidenceSide, folder: RunFolder) -> PinnedLog | None:
    """Read a log once: hash it up to the position, and count its events. None if the log does not exist.

    The logs from which it resumed are read too.

    Raises:
        UnverifiableError: If the log cannot be read, is that of another run, or an earlier log has another
            root than `run.resumed` names.

    """
    segments = folder.segments(side.attempt, side.rank)
    if not segments:
        return None
    _require_own_log(folder, segments)
    tree, total, finished, first = CompactRange(), 0, False, b""
    parts: dict[Path, int] = {}
    try:
        for segment, line in _lines(segments):
            first = first or line
            if side.through is None or total <= side.through:
                tree.append(leaf_hash(line))
                parts[segment] = parts.get(segment, 0) + len(line) + 1
            finished = finished or b'"type":"ockham.run.finished.v1"' in line
            total += 1
    except OSError as error:
        raise UnverifiableError(f"log of run {side.run}: {error.strerror}") from None
    earlier = _read_earlier_log(side, folder, first, tree.size)
    root, whole = tree.root().hex(), tuple(segments)
    return PinnedLog(side, folder, tree.size, total, root, tuple(parts.items()), whole, finished, earlier)


def _require_own_log(folder: RunFolder, segments: Sequence[Path]) -> None:
    """Check that the first event of a log is one of this run.

    Raises:
        UnverifiableError: If another run is in the folder.

    """
    first = next(_lines(segments), None)
    event = None if first is None else parse_event(first[1])
    if event is not None and event["source"] != f"ockham://runs/{folder.run_id}":
        other = event["source"].rpartition("/")[2]
        raise UnverifiableError(
            f"run {folder.run_id}: the folder contains the log of run {other}; restore it from a copy"
        )


def read_pinned_lines(log: PinnedLog) -> Iterator[bytes]:
    """Yield the lines of a log up to its pinned position, without newlines."""
    for segment, size in log.parts:
        with open_regular_file(segment) as file:
            yield from file.read(size).split(b"\n")[:-1]


def find_events(log: PinnedLog, prefix: str) -> list[CitedEvent]:
    """Return the events anywhere in a log whose ID begins with a prefix."""
    needle, found, before = f'"id":"{prefix}'.encode(), list[CitedEvent](), 0
    for segment in log.segments:
        data = read_regular_file(segment)
        at = data.find(needle)
        while at >= 0:
            sequence = before + data.count(b"\n", 0, at)
            end = data.find(b"\n", at)
            line = data[data.rfind(b"\n", 0, at) + 1 : end]
            event = parse_event(line) if sequence < log.total else None
            if event is not None and str(event["id"]).startswith(prefix):
                found.append(CitedEvent(sequence, event))
            at = data.find(needle, end) if end >= 0 else -1
        before += data.count(b"\n")
    return found


def resumed_from(first_line: bytes, place: LogKey) -> LogLink | None:
    """Return the log of the same rank that the first event of a log resumes, or None."""
    event = parse_event(first_line)
    if event is None or event["type"] != "ockham.run.resumed.v1":
        return None
    link = next(iter(previous_logs(event["data"], place)), None)
    return link if link is not None and 0 < link.log[0] < place[0] else None


def _read_earlier_log(
    side: EvidenceSide, folder: RunFolder, first_line: bytes, size: int
) -> PinnedLog | None:
    """Return the log from which a log resumed, compared with the root in its first event.

    Args:
        side: The later log.
        folder: The run.
        first_line: First line of the later log.
        size: Number of lines of the later log that the record pins.

    Raises:
        UnverifiableError: If the earlier log is missing or has another root.

    """
    place = (side.attempt, side.rank)
    link = resumed_from(first_line, place)
    if link is None or link.size == 0:
        return None
    earlier = side._replace(attempt=link.log[0], through=link.size - 1, root=link.root, decisions=())
    found = read_pinned_log(earlier, folder)
    states = {place: LogState(size, size, lambda _: None)}
    if found is not None:
        root = bytes.fromhex(found.root)
        states[link.log] = LogState(found.size, found.size, lambda at: root if at == found.size else None)
    for problem in resume_problems(place, [link], states):
        raise UnverifiableError(f"log {problem.log[0]}-{problem.log[1]} of run {side.run}: {problem.message}")
    return found


def pin_side(name: str, folder: RunFolder, rank: int = 0) -> EvidenceSide | None:
    """Return a side of the evidence at present.

    It names the newest attempt, its last signed event, and the last ACCEPT of the memory. An attempt without
    a batch, such as a resume that had nothing to do, is skipped if there is another one. None if the run has
    no signed event of this rank.

    Raises:
        UnverifiableError: If the run differs from what was signed, or its folder contains another run.

    """
    for attempt, its_rank in folder.logs():
        _require_own_log(folder, folder.segments(attempt, its_rank))
    evidence = read_evidence(folder, own_keys(folder))
    if evidence.problems:
        raise UnverifiableError(f"{evidence.problems[0]}; run `ockham verify {folder.run_id}`")
    attempts = [a for a, r in reversed(folder.logs()) if r == rank]
    attempt = next((a for a in attempts if _has_batches(folder.segments(a, rank))), max(attempts, default=0))
    log = evidence.logs.get((attempt, rank))
    if log is None or log.signed == 0:
        return None
    accepted: tuple[str, ...] = ()
    for _, line in itertools.islice(_lines(folder.segments(attempt, rank)), log.signed):
        if b'"plugin":"memory"' in line and b'"action":"ACCEPT"' in line and (event := parse_event(line)):
            accepted = (str(event["id"]),)
    side = EvidenceSide(name, folder.run_id, attempt, rank, log.signed - 1, "", accepted)
    found = read_pinned_log(side, folder)
    return (
        None if found is None or found.size == 0 else side._replace(through=found.size - 1, root=found.root)
    )


def _has_batches(segments: Sequence[Path]) -> bool:
    return any(_CONTEXT in line for _, line in _lines(segments))


def _lines(segments: Sequence[Path]) -> Iterator[tuple[Path, bytes]]:
    """Yield every complete line without its newline. A torn tail ends the log."""
    for segment in segments:
        with open_regular_file(segment) as file:
            while line := file.readline(MAX_LINE):
                if not line.endswith(b"\n"):
                    return
                yield segment, line[:-1]


def build_runs_folder(cuts: Sequence[PinnedLog], runs: Path) -> None:
    """Create a runs folder with only the pinned logs, the logs from which they resumed, and their policies.

    run.json is empty, because no root covers it. A policy is used only if its digest is its name.
    """
    # Of two cuts of one log the longer one stays.
    for one in sorted((log for cut in cuts for log in cut.chain()), key=lambda log: log.size):
        target = RunFolder(runs, one.side.run)
        target.path.mkdir(parents=True, exist_ok=True)
        target.run_json.write_bytes(b"{}")
        for policy in list_policies(one.folder):
            _link(policy, target.path / "policies" / policy.name)
        for segment, size in one.parts:
            _copy_prefix(segment, size, target.log_dir(one.side.attempt, one.side.rank) / segment.name)


def build_parquet(runs: Path) -> None:
    """Write Parquet of everything in a folder made by `build_runs_folder`.

    It takes about 40 us per event.
    """
    for run in list_runs(runs):
        folder = RunFolder(runs, run)
        for attempt, rank in folder.logs():
            update_parquet(folder, attempt, rank, last=True)


def list_policies(folder: RunFolder) -> list[Path]:
    """Return the run's policies whose bytes match the digest in their name."""
    place = folder.path / "policies"
    files = [place / name for name in sorted(list_regular_files(place)) if name.endswith(".json")]
    return [file for file in files if hashlib.sha256(read_regular_file(file)).hexdigest() == file.stem]


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if not os.path.lexists(target):
        target.symlink_to(source.resolve())


def _copy_prefix(source: Path, size: int, target: Path) -> None:
    """Copy the first bytes of a segment, or link it if that is the whole file."""
    target.unlink(missing_ok=True)
    if source.stat().st_size == size:
        _link(source, target)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as full, target.open("wb") as part:
        part.write(full.read(size))
