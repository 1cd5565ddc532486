"""Checkpoint folders: atomic writing, finding the newest resumable one, pruning old ones.

The content of the files belongs to the trainer. This module treats them as bytes.
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

from ockham.errors import BadInputError, CheckpointError, DataError, UnverifiableError
from ockham.record.durable_io import atomic_path, fsync_dir
from ockham.record.log_status import read_log_status
from ockham.record.run_folder import RunFolder, read_regular_file

STATE = "state.json"
KEEP_LAST_RESUMABLE = 2
_RESUME = re.compile(r"resume-([0-9]{8,})(?:\.([0-9]+))?")


class CheckpointFiles(NamedTuple):
    """Files of one checkpoint by name, and the digest of the weights.

    A resumable checkpoint contains the state given by `Run.save_checkpoint` as JSON in `state.json`.
    """

    files: Mapping[str, bytes]
    weights_sha256: str


class ResumePoint(NamedTuple):
    """Point at which a run can be resumed: its newest resumable checkpoint, or its beginning.

    Attributes:
        settings: Last settings of the trainer.
        path: Checkpoint folder, None at the beginning.
        snapshot_id: ID of the checkpoint, None at the beginning.
        data: Training data of the run.
        ended: Reason code of the end, None if the run was killed.

    """

    iter_num: int
    snapshot_id: str | None
    path: Path | None
    state: dict[str, Any]
    settings: dict[str, Any]
    data: dict[str, Any]
    ended: str | None = None

    def require_data(self, run_id: str, data: Mapping[str, Any]) -> None:
        """Check that the run continues on the data it was started on.

        Raises:
            DataError: If the digests differ.

        """
        if self.data.get("sha256") != data.get("sha256"):
            was, now = self.data.get("name"), data.get("name")
            raise DataError(
                f"run {run_id!r} was started on other data ({was!r}, another digest) than {now!r}"
            )

    def is_complete(self, max_iters: int) -> bool:
        """Return True if the run has completed all of these steps.

        A resume would then add an empty attempt.

        Raises:
            BadInputError: If it has done more than these steps.

        """
        if max_iters < self.iter_num:
            raise BadInputError(
                f"max_iters={max_iters}: the run has done {self.iter_num} steps already; "
                f"a resumed run takes {self.iter_num} or more"
            )
        return self.iter_num == max_iters and self.ended == "COMPLETED"


def make_snapshot_id(kind: str, iter_num: int, attempt: int) -> str:
    """Return `accepted-00000120`, or `accepted-00000120.2` in the second attempt.

    A later attempt can repeat an iteration.
    """
    return f"{kind}-{iter_num:08d}" + (f".{attempt}" if attempt > 1 else "")


def write_checkpoint(folder: Path, files: Mapping[str, bytes]) -> list[dict[str, Any]]:
    """Write files as one checkpoint folder. Return name, sha256 and bytes of each.

    Raises:
        CheckpointError: If the files cannot be written. No file remains then.

    """
    try:
        # Left by a crash.
        for left in folder.parent.glob(f".{folder.name}.*tmp"):
            shutil.rmtree(left, ignore_errors=True)
        with atomic_path(folder) as temporary:
            temporary.mkdir(parents=True)
            for name, data in files.items():
                with (temporary / name).open("wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
            fsync_dir(temporary)
        fsync_dir(folder.parent)
    except OSError as error:
        raise CheckpointError(f"cannot write checkpoint {folder}: {error.strerror}") from None
    return [
        {"name": name, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        for name, data in sorted(files.items())
    ]


def find_resume_point(runs: str | Path, run_id: str, *, rank: int = 0, world_size: int = 1) -> ResumePoint:
    """Return the point at which a run can be resumed.

    Args:
        runs: Folder of all runs.
        run_id: The run.
        rank: Rank whose state is returned if the checkpoint was saved by as many ranks; otherwise rank 0's is
            returned.
        world_size: Number of ranks that resume.

    Raises:
        RunError: If the run does not exist.
        CheckpointError: If the newest state cannot be read.

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
    """Return the reason code of the end of the newest attempt."""
    try:
        found = read_log_status(folder, folder.last_attempt(), 0)
    except UnverifiableError:
        return None
    return found.reason_code if found.finished else None


def _resumable(folder: RunFolder) -> list[Path]:
    """Return folders of resumable checkpoints: newest iteration first, then newest attempt."""
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
    """Delete all but the newest two resumable checkpoints. Return the IDs of the deleted ones."""
    old = _resumable(folder)[KEEP_LAST_RESUMABLE:]
    for path in old:
        shutil.rmtree(path)
    return [path.name for path in old]
