"""References to a run that its removal would break: decision records, pins, attestations and other runs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from ockham.odr.record import DecisionRecord
from ockham.record.ledger import read_entries
from ockham.record.run_folder import RunFolder, list_runs, read_regular_file

_GIT_SECONDS = 10
_ATTESTING = ("ockham.replay.attested.v1", "ockham.odr.checked.v1", "ockham.checkpoint.approved.v1")


def find_references(folder: RunFolder, records: Sequence[DecisionRecord]) -> list[str]:
    """Return what refers to a run, each as one phrase.

    Args:
        folder: The run.
        records: Decision records that may cite it.

    """
    found = [
        f"decision record {record.claims.id} cites it"
        for record in records
        if any(side.run == folder.run_id for side in record.claims.sides)
    ]
    found += [f"git tag {tag} pins it" for tag in _pinning_tags(folder)]
    found += [f"{kind} in the ledger refers to it" for kind in sorted(_attestations(folder))]
    return found + [f"run {run_id} continues its weights" for run_id in _derived_runs(folder)]


def _pinning_tags(folder: RunFolder) -> list[str]:
    """Return the annotated tags of the git repository that contain a tree head of the run."""
    command = ["git", "for-each-ref", "--format=%(refname:short)%00%(contents)%01", "refs/tags"]
    try:
        done = subprocess.run(  # noqa: S603 - git of the user's PATH
            command, capture_output=True, check=False, timeout=_GIT_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    tags = (part.strip().partition("\0") for part in done.stdout.decode("utf-8", "replace").split("\1"))
    return [name for name, _, text in tags if f"ockham/runs/{folder.run_id}/" in text]


def _attestations(folder: RunFolder) -> set[str]:
    """Return the kinds of the ledger's events that attest something about the run."""
    kinds = set()
    for line in read_entries(folder.runs):
        try:
            event = orjson.loads(line)
            if event["type"] in _ATTESTING and folder.run_id in _named_runs(event["data"]):
                kinds.add(str(event["type"]).removeprefix("ockham.").removesuffix(".v1"))
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    return kinds


def _named_runs(data: dict[str, Any]) -> set[Any]:
    evidence = data.get("evidence") or []
    return {data.get("run_id"), *(each.get("run") or each.get("run_id") for each in evidence)}


def _derived_runs(folder: RunFolder) -> Iterator[str]:
    """Yield the runs whose weights began with a checkpoint of the run."""
    for run_id in list_runs(folder.runs):
        try:
            settings = json.loads(read_regular_file(RunFolder(folder.runs, run_id).run_json))["settings"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        parts = Path(str(settings.get("init_from") or "")).parts if isinstance(settings, dict) else ()
        if isinstance(settings, dict) and (
            settings.get("from_run") == folder.run_id or folder.run_id in parts
        ):
            yield run_id
