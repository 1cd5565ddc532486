"""Identity of a run folder: its name must be the run ID in its run.json."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import orjson

from ockham.errors import RunError
from ockham.record.run_folder import RunFolder, read_regular_file


def recorded_run_id(folder: RunFolder) -> str | None:
    """Return the run ID in run.json, or None if it contains none."""
    try:
        metadata = orjson.loads(read_regular_file(folder.run_json))
    except (OSError, ValueError):
        return None
    run_id = metadata.get("run_id") if isinstance(metadata, dict) else None
    return run_id if isinstance(run_id, str) else None


def describe_renamed(folder: RunFolder) -> str | None:
    """Return what is wrong with the name of a run folder and how to correct it, or None if it is right."""
    run_id = recorded_run_id(folder)
    if run_id is None or run_id == folder.run_id:
        return None
    return f"folder {folder.run_id!r} contains run {run_id!r:.80}; rename the folder to the ID of its run"


def check_run_name(folder: RunFolder) -> RunFolder:
    """Return the folder if its name is the ID of its run.

    Raises:
        RunError: If it has another name. The message contains both names.

    """
    if (problem := describe_renamed(folder)) is not None:
        raise RunError(problem)
    return folder


def list_renamed(runs: str | Path, run_ids: Iterable[str]) -> dict[str, str]:
    """Return run ID -> message for each folder whose name is not the ID of its run."""
    problems = {run_id: describe_renamed(RunFolder(runs, run_id)) for run_id in run_ids}
    return {run_id: problem for run_id, problem in problems.items() if problem is not None}
