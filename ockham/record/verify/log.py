"""Verification of one log: every byte of its lines against schema, sequence, tiles and signed tree heads."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from ockham.errors import UnverifiableError
from ockham.record.evidence import LogState
from ockham.record.log_status import is_locked
from ockham.record.run_folder import RunFolder, first_sequence, open_regular_file
from ockham.record.segment_reader import read_first_event
from ockham.record.signed_heads import (
    HeadMatch,
    group_roots,
    match_heads,
    read_heads,
    read_if_possible,
)
from ockham.record.tlog.note import VerifierKey
from ockham.record.tlog.tiles import WIDTH, list_tiles, tile_path
from ockham.record.tlog.tree_head import CHECKPOINT, TreeHead
from ockham.record.verify.log_summary import LogSummary
from ockham.record.verify.report import LogReport, VerificationReport
from ockham.record.verify.segment import CHUNK, SegmentTask, verify_segment
from ockham.record.verify.tree import LogTree

COPY_HINT = "; a copy that was made while the run was written lacks them too"


class LogVerifier:
    """Reads one log once with `read`, and returns its report with `finish`.

    Args:
        folder: The run's folder.
        attempt: Attempt number, from 1.
        rank: Rank, from 0.
        keys: Keys that may have signed it.
        pins: Tree heads of this log from pins.
        report: Report to which findings are added.

    """

    def __init__(
        self,
        folder: RunFolder,
        attempt: int,
        rank: int,
        keys: Sequence[VerifierKey],
        pins: Sequence[TreeHead],
        report: VerificationReport,
    ) -> None:
        self.folder, self.attempt, self.rank, self.report = folder, attempt, rank, report
        self.path = folder.log_dir(attempt, rank)
        self.log_report = LogReport(attempt, rank)
        self.summary = LogSummary()
        # Heads before lines: a log that is being written then has at least the signed lines.
        self._heads = read_heads(folder, attempt, rank, keys, readable_only=True)
        self._report_heads()
        self._pins = group_roots(pins)
        self.tree = LogTree(self.path, {*self._heads.roots, *self._pins})
        self._signed = HeadMatch(0, 0, 0, ())
        self._tile_cause = f"tiles of log {attempt}-{rank}"
        # Set if the lines differ from what was signed or pinned.
        self.tamper_cause = ""

    def read(self, workers: Executor) -> Iterator[int]:
        """Verify all segments. Yield the number of lines of each finished one.

        Raises:
            UnverifiableError: If a segment cannot be read.

        """
        try:
            tasks = list(self._tasks())
        except OSError as error:
            raise UnverifiableError(f"{error.filename} cannot be read: {error.strerror}") from None
        report, summary = VerificationReport(self.folder.run_id), LogSummary()
        for task, judged in zip(tasks, workers.map(verify_segment, tasks), strict=True):
            report.merge(judged.report)
            summary.extend(judged.summary)
            self.tree.add(task.segment, judged.leaves, judged.block_offsets)
            yield len(judged.leaves) // 32
        self.tree.close()
        self._signed = match_heads(self._heads.roots, self.tree.size, self.tree.root_at)
        if not self._signed.is_complete:
            # The lines were checked up to a head that they contradict. Only lines up to a matching one count.
            tasks = [task._replace(signed=self._signed.size) for task in tasks]
            report, summary = VerificationReport(self.folder.run_id), LogSummary()
            for judged in workers.map(verify_segment, tasks):
                report.merge(judged.report)
                summary.extend(judged.summary)
        self.report.merge(report)
        self.summary.extend(summary)

    def finish(self) -> LogReport:
        """Compare the tree with heads, pins and tiles. Return the report of the log."""
        size = self.tree.size
        pinned = match_heads(self._pins, size, self.tree.root_at)
        self.log_report.events, self.log_report.root = size, self.tree.root.hex()
        self.log_report.signed, self.log_report.pinned = self._signed.size, pinned.size
        self._report_mismatches(self._signed, "signed", COPY_HINT)
        self._report_mismatches(pinned, "pinned")
        if not self._heads.valid and size:
            self._finding("unsigned", self.path / CHECKPOINT, "no tree head signed by a known key")
        elif pinned.size > self._signed.size and self._signed.is_complete:
            message = f"{pinned.size} events were signed when they were pinned, now {self._signed.size} are"
            self._finding("unsigned", self.path / CHECKPOINT, message)
        if kinds := sorted(self.summary.kinds_after_end - {"log.sealed"}):
            named = ", ".join(kind or "no event" for kind in kinds[:3])
            self._finding(
                "tampering", self.path, f"unsigned lines follow the signed end of the run ({named})"
            )
        if self._signed.is_complete:
            # Otherwise reported already.
            self._tiles()
        return self.log_report

    def state(self) -> LogState:
        """Return what the comparison with other logs needs. Call it after `finish`."""
        return LogState(self.log_report.signed, self.tree.size, self.tree.root_at)

    def _tasks(self) -> Iterator[SegmentTask]:
        segments = self.folder.segments(self.attempt, self.rank)
        if not segments:
            return
        first, world_size = 0, _world_size(segments[0])
        for before, segment in zip([None, *segments], segments, strict=False):
            last = segment == segments[-1]
            if first_sequence(segment) != first:
                message = f"begins with event {first_sequence(segment)}, and {first} was expected"
                self._finding("gap", segment, message)
            limit = self._heads.largest
            yield SegmentTask(
                self.folder, self.attempt, self.rank, segment, before, last, first, world_size, limit
            )
            first += _count_lines(segment)

    def _report_heads(self) -> None:
        """Add a finding for each note that is not a tree head of this log, and for missing files."""
        self.log_report.key = self._heads.key
        if self._heads.valid:
            self.report.count("signed tree heads", self._heads.valid)
        for problem in (*self._heads.problems, *self._heads.conflicts):
            self._finding(problem.kind, self.path / problem.file, problem.message, problem.cause)

    def _report_mismatches(self, match: HeadMatch, what: str, hint: str = "") -> None:
        """Add a finding for lost events, and one for each head that the lines contradict."""
        if match.largest > match.events:
            self._report_tampering(match.describe(what)[0] + hint, match.events)
        first = self.tree.first_mismatch
        at = "" if first is None else f"; event {first} differs from its tile"
        for size in match.differing:
            self._report_tampering(f"the first {size} events differ from the {what} ones{at}", first)

    def _report_tampering(self, message: str, sequence: int | None) -> None:
        self.tamper_cause = f"the lines of log {self.attempt}-{self.rank}"
        self._finding("tampering", self.path, message, self.tamper_cause, sequence)

    def _tiles(self) -> None:
        """Check the tiles of the newest signed tree, and those of a later one that a crash left."""
        levels = self.tree.levels()
        for level, index, width in list_tiles(self.log_report.signed):
            path = self.path / tile_path(level, index, width)
            if level == 0 and width == WIDTH:
                fits = index not in self.tree.mismatched_tiles
            else:
                fits = read_if_possible(path) == b"".join(self._hashes(levels, level, index)[:width])
            # The writer replaces a partial tile by that of a later tree.
            if not fits and not (width < WIDTH and self.has_moved()):
                message = "this tile is missing or does not hold the hashes of the lines"
                self._finding("derived", path, message, self._tile_cause)
        for path in sorted((self.path / "tile").rglob("*")):
            if path.name.startswith(".") and path.suffix == ".tmp":
                self._finding("crash tail", path, "a tile that was being written")
            elif path.is_file():
                self.report.count("tiles")
                if not self._is_tile(path, levels) and not self._is_later(path):
                    self._finding("derived", path, "no tile of this log", self._tile_cause)

    def has_moved(self) -> bool:
        """Return True if the writer has signed a later tree head since the verification began."""
        return read_if_possible(self.path / CHECKPOINT) != self._heads.newest

    def _is_later(self, path: Path) -> bool:
        """Return True if a writer removed the tile meanwhile, or if it reaches beyond the lines read."""
        if not self.has_moved() and not is_locked(self.path / "lock"):
            return False
        if not path.exists():
            return True
        parts = path.relative_to(self.path / "tile").parts
        digits = "".join(re.findall(r"[0-9]{3}", "/".join(parts[1:3])))
        if not parts[0].isdecimal() or not digits:
            return False
        return bool((int(digits) + 1) * WIDTH ** (int(parts[0]) + 1) > self.tree.size)

    def _hashes(self, levels: Sequence[Sequence[bytes]], level: int, index: int) -> Sequence[bytes]:
        """Return the at most 256 hashes that a tile can contain."""
        if level == 0:
            return self.tree.leaves(index)
        return levels[level - 1][index * WIDTH : (index + 1) * WIDTH] if level <= len(levels) else ()

    def _is_tile(self, path: Path, levels: Sequence[Sequence[bytes]]) -> bool:
        """Return True if a file is a tile of the lines, at this or an earlier size."""
        name = path.relative_to(self.path)
        parts = name.parts[1:]
        width = WIDTH
        if len(parts) > 2 and parts[-2].endswith(".p"):
            if not parts[-1].isdecimal():
                return False
            width, parts = int(parts[-1]), (*parts[:-2], parts[-2].removesuffix(".p"))
        digits = "".join(part.removeprefix("x") for part in parts[1:])
        if not parts[0].isdecimal() or not digits.isdecimal() or not 0 < width <= WIDTH:
            return False
        level, index = int(parts[0]), int(digits)
        if tile_path(level, index, width) != str(name):
            return False
        if level == 0 and width == WIDTH and index < len(self.tree.block_roots):
            return index not in self.tree.mismatched_tiles
        expected = self._hashes(levels, level, index)[:width]
        return len(expected) == width and read_if_possible(path) == b"".join(expected)

    def _finding(
        self, kind: Any, place: Path, message: str, cause: str = "", sequence: int | None = None
    ) -> None:
        inside = place.relative_to(self.folder.path) if place.is_relative_to(self.folder.path) else place
        self.report.add(kind, inside, message, sequence, cause)


def _world_size(segment: Path) -> int:
    """Return the number of ranks in the first line.

    1 if the line is not an event, which is reported elsewhere.
    """
    try:
        return int(read_first_event(segment)["data"]["world_size"])
    except (ValueError, KeyError, TypeError):
        return 1


def _count_lines(segment: Path) -> int:
    count = 0
    with open_regular_file(segment) as file:
        while data := file.read(CHUNK):
            count += data.count(b"\n")
    return count
