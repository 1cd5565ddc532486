"""Checkpoint folders: written whole or not at all, the newest resumable one found again, old ones pruned.

What is in the files is the trainer's business; here they are bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ockham.errors import BadInputError, CheckpointError, UnverifiableError
from ockham.record.log_status import read_log_status
from ockham.record.run_folder import RunFolder, fsync_dir, read_regular_file

STATE = "state.json"
KEEP_LAST_RESUMABLE = 2
_RESUME = re.compile(r"resume-([0-9]{8,})(?:\.([0-9]+))?")


class CheckpointFiles(NamedTuple):
    """What a trainer hands over to be kept: files by name, and the digest of the weights alone.

    A checkpoint to go on from has the state that `Run.checkpoint` gave as JSON in `state.json`.
    """

    files: Mapping[str, bytes]
    weights_sha256: str


class ResumePoint(NamedTuple):
    """Where a run can go on: its newest resumable checkpoint, or its beginning where it has none yet.

    `settings` are the trainer's as the run was last under them; `path` and `snapshot_id` are None at the beginning;
    `data` is what the run was started on; `ended` says how it ended (COMPLETED), None where it was killed.
    """

    iter_num: int
    snapshot_id: str | None
    path: Path | None
    state: dict[str, Any]
    settings: dict[str, Any]
    data: dict[str, Any]
    ended: str | None = None

    def is_complete(self, max_iters: int) -> bool:
        """Whether the run has done all of these steps and said so: going on would add an attempt with nothing in it.

        Raises:
            BadInputError: if it has done more than these.

        """
        if max_iters < self.iter_num:
            raise BadInputError(
                f"max_iters={max_iters}: the run has done {self.iter_num} steps already; a run that goes on takes "
                f"{self.iter_num} or more"
            )
        return self.iter_num == max_iters and self.ended == "COMPLETED"


def make_snapshot_id(kind: str, iter_num: int, attempt: int) -> str:
    """`accepted-00000120`, and `accepted-00000120.2` in the second attempt, which may pass that iteration again."""
    return f"{kind}-{iter_num:08d}" + (f".{attempt}" if attempt > 1 else "")


def write_checkpoint(folder: Path, files: Mapping[str, bytes]) -> list[dict[str, Any]]:
    """Write files as one checkpoint folder; returns name, sha256 and bytes of each.

    Raises:
        CheckpointError: if the disk refuses; nothing of it is left then.

    """
    temporary = folder.with_name(f".{folder.name}.tmp")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        for name, data in files.items():
            with (temporary / name).open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        fsync_dir(temporary)
        temporary.rename(folder)
        fsync_dir(folder.parent)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise CheckpointError(f"cannot write checkpoint {folder}: {error.strerror}") from None
    return [
        {"name": name, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        for name, data in sorted(files.items())
    ]


def find_resume_point(runs: str | Path, run_id: str, *, rank: int = 0, world_size: int = 1) -> ResumePoint:
    """Where a run can go on.

    Args:
        runs: the folder of all runs.
        run_id: the run.
        rank: whose state `run` in the state is, where the checkpoint was made by as many ranks; else it is rank 0's.
        world_size: how many ranks go on.

    Raises:
        RunError: if there is no such run.
        CheckpointError: if the newest state cannot be read.

    """
    folder = RunFolder(runs, run_id).require_exists()
    about, ended = _json(folder.run_json), _ended(folder)
    for path in _resumable(folder)[:1]:
        state = _json(path / STATE)
        if len(each := state.get("ranks", [])) == world_size:
            state["run"] = each[rank]["run"]
        settings = {**about["settings"], **state.get("trainer", {}).get("settings", {})}
        return ResumePoint(int(state["iter_num"]) + 1, path.name, path, state, settings, about["data"], ended)
    return ResumePoint(0, None, None, {}, dict(about["settings"]), about["data"], ended)


def _ended(folder: RunFolder) -> str | None:
    """The reason code of the end of the newest attempt."""
    try:
        found = read_log_status(folder, folder.last_attempt(), 0)
    except UnverifiableError:
        return None
    return found.reason_code if found.last == "run.finished" else None


def _resumable(folder: RunFolder) -> list[Path]:
    """Folders of resumable checkpoints, the newest iteration first, of equal ones the newest attempt."""
    found = [
        (path, match)
        for path in folder.checkpoints.glob("resume-*")
        if (match := _RESUME.fullmatch(path.name))
    ]
    newest = sorted(found, key=lambda pair: (int(pair[1][1]), int(pair[1][2] or 1)), reverse=True)
    return [path for path, _ in newest]


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(read_regular_file(path))
        if isinstance(value, dict):
            return value
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error})") from None
    raise CheckpointError(f"{path}: holds no JSON object")


def prune(folder: RunFolder) -> list[str]:
    """Delete all but the newest two resumable checkpoints; returns the IDs of those that went."""
    old = _resumable(folder)[KEEP_LAST_RESUMABLE:]
    for path in old:
        shutil.rmtree(path)
    return [path.name for path in old]
