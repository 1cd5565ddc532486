"""Verify: is this run what was recorded? Offline, reading only, believing nothing but the bytes and the keys given."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from ockham.errors import BadInputError, CannotJudgeError
from ockham.record.folder import RunFolder
from ockham.record.note import VerifierKey, parse_key
from ockham.record.pin import pinned_heads
from ockham.record.report import Report
from ockham.record.verify_derived import check_derived
from ockham.record.verify_log import LogCheck
from ockham.record.verify_ranks import judge_together
from ockham.record.verify_story import Story

Progress = Callable[[int], None]


def verify_run(
    folder: RunFolder, *, keys: Sequence[VerifierKey] = (), pins: Sequence[bytes] = (), derived: bool = True,
    progress: Progress | None = None,
) -> Report:  # fmt: skip
    """Check every byte of a run.

    Args:
        folder: the run.
        keys: verifier keys that the person who asks trusts; without one, the run's own word is taken and it is said so.
        pins: signed tree heads that were kept elsewhere.
        derived: compare each Parquet file with the lines too.
        progress: told the number of events read so far.

    Raises:
        CannotJudgeError: if there is no log.
        BadInputError: if a pin is none, or of another run.

    """
    report = Report(folder.run_id)
    if not folder.logs():
        raise CannotJudgeError(f"{folder.path} has no log to judge")
    own = _own_key(folder)
    accepted = list(keys) or ([own] if own is not None else [])
    if not accepted:
        raise CannotJudgeError(f"{folder.run_json} names no verifier key; give one with --key")
    if not keys:
        report.add("key not pinned", "run.json", f"taken from the run itself: {own}")
    elif own is not None and own not in keys:
        report.add("tampering", "run.json", "names another verifier key than the one given")
    pinned = pinned_heads(folder, pins, accepted, report)
    checks: dict[tuple[int, int], LogCheck] = {}
    stories: dict[tuple[int, int], Story] = {}
    for attempt, rank in folder.logs():
        place = (attempt, rank)
        checks[place] = LogCheck(folder, attempt, rank, accepted, pinned.get(place, []), report)
        stories[place] = Story(folder, attempt, rank, report)
        for line in checks[place]:
            stories[place].tell(line)
            report.count("events")
            if progress is not None and report.checked["events"] % 5_000 == 0:
                progress(report.checked["events"])
        stories[place].end()
        report.logs.append(checks[place].finish())
        if derived:
            check_derived(folder, attempt, rank, report)
    pruned = frozenset().union(*(story.pruned for story in stories.values()))  # a later attempt prunes too
    for place, story in stories.items():
        _checkpoints(folder, story, checks[place], pruned, report)
    judge_together(stories, checks, report)
    _reach(report, bool(pins))
    return report


def known_keys(texts: Sequence[str]) -> list[VerifierKey]:
    """Verifier keys from texts, or from files that hold one.

    Raises:
        BadInputError: if one is none.

    """
    return [parse_key(Path(text).read_text(encoding="utf-8") if _is_file(text) else text) for text in texts]


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):
        return False


def _own_key(folder: RunFolder) -> VerifierKey | None:
    try:
        return parse_key(str(json.loads(folder.run_json.read_bytes()).get("verifier_key")))
    except (OSError, ValueError, AttributeError, BadInputError):
        return None


def _checkpoints(
    folder: RunFolder, story: Story, check: LogCheck, pruned: frozenset[str], report: Report
) -> None:
    """Files as recorded, and the tree head in the metadata is one of this log."""
    for saved in story.checkpoints:
        root = check.root_at(saved["log_size"])
        if root is None or root.hex() != saved["log_root"]:
            report.add(
                "tampering",
                saved["snapshot_id"],
                f"names a root of {saved['log_size']} events that the log never had",
                saved["sequence"],
            )
        path = folder.checkpoint(saved["snapshot_id"])
        if saved["snapshot_id"] in pruned:
            continue
        for file in saved["files"]:
            report.count("checkpoint files")
            try:
                data = (path / Path(file["name"]).name).read_bytes()
            except OSError:
                report.add(
                    "checkpoint",
                    f"checkpoints/{saved['snapshot_id']}/{file['name']}",
                    "is missing",
                    saved["sequence"],
                )
                continue
            if hashlib.sha256(data).hexdigest() != file["sha256"]:
                report.add(
                    "checkpoint",
                    f"checkpoints/{saved['snapshot_id']}/{file['name']}",
                    "has other bytes than recorded",
                    saved["sequence"],
                )
            elif file["name"].endswith(".safetensors"):
                _metadata(saved, file["name"], data, report)


def _metadata(saved: Mapping[str, Any], name: str, data: bytes, report: Report) -> None:
    """safetensors: eight bytes of length, then a JSON header whose `__metadata__` is text by name."""
    try:
        size = int.from_bytes(data[:8], "little")
        told = orjson.loads(data[8 : 8 + size]).get("__metadata__") or {}
        said = (json.loads(told["log_size"]), json.loads(told["log_root"])) if "log_size" in told else None
    except (ValueError, KeyError, AttributeError):
        report.add(
            "checkpoint",
            f"checkpoints/{saved['snapshot_id']}/{name}",
            "is no safetensors file",
            saved["sequence"],
        )
        return
    if said is not None and said != (saved["log_size"], saved["log_root"]):
        report.add(
            "checkpoint",
            f"checkpoints/{saved['snapshot_id']}/{name}",
            "names another tree head than the log does",
            saved["sequence"],
        )


def _reach(report: Report, pins_given: bool) -> None:
    for log in report.logs:
        if log.signed < log.events:
            what = f"{log.events - log.signed} events behind the newest signed tree head"
            report.add("not signed", f"log/{log.attempt}-{log.rank}", what)
        if log.pinned < log.events:
            what = f"pinned up to event {log.pinned} of {log.events}" if pins_given else "no pin was given"
            report.add("not pinned", f"log/{log.attempt}-{log.rank}", what)
