"""One arm of a study as an `ockham train` process: its own seeds, its own threads, its own run in the log."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from ockham.errors import UnverifiableError
from ockham.policy import Policy
from ockham.record.parquet.tables import read_complete_lines
from ockham.record.run_folder import RunFolder

TERMINAL_REASONS = (b'"COMPLETED"', b'"HALTED_BY_POLICY"', b'"NO_ANCHOR"')
MAX_ERROR_CHARACTERS = 400  # characters of a failed process's last line
INTERRUPTED = 130


def train(
    folder: RunFolder,
    document: Mapping[str, Any],
    settings: Sequence[str],
    *,
    size: str = "nano",
    data: str = "",
) -> None:
    """Train a run to its end, and wait for it.

    Args:
        folder: of the run that is made.
        document: its policy, as a policy file has it.
        settings: `name=value` for the trainer.
        size: model by name.
        data: text to train on; empty for the trainer's own.

    Raises:
        UnverifiableError: if the process fails; its last line is in the message.
        KeyboardInterrupt: if it was interrupted.

    """
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / f"{document.get('name', 'policy')}.yaml"
        write_policy(path, document)
        words = ["--policy", str(path), "--size", size, *(["--data", data] if data else [])]
        _run(folder, [*words, *(word for setting in settings for word in ("--set", setting))])


def resume(folder: RunFolder) -> None:
    """Go on with a run that was interrupted; raises as `train` does."""
    _run(folder, ["--resume"])


def write_policy(path: Path, document: Mapping[str, Any]) -> None:
    """Write a policy file; the order of its plugins is that of the chain, so keys must not be sorted."""
    with path.open("wb") as file:
        YAML(typ="rt").dump(dict(document), file)


def is_finished(folder: RunFolder) -> bool:
    """Whether the newest attempt came to its end, by itself or by its policy."""
    for attempt, rank in folder.logs()[-1:]:
        for segment in folder.segments(attempt, rank)[-1:]:
            last = (read_complete_lines(segment)[0] or [b""])[-1]
            return b"ockham.run.finished.v1" in last and any(reason in last for reason in TERMINAL_REASONS)
    return False


def policy_document(policy: Policy) -> dict[str, Any]:
    """A policy as a policy file has it."""
    content = policy.content
    plugins = {
        entry["name"]: {**entry["settings"], "use": entry["use"], "shadow": entry["shadow"]}
        for entry in content["plugins"]
    }
    whole = {key: content[key] for key in ("policy", "name", "description", "targets", "hyperparameters")}
    return {**whole, "plugins": plugins}


def _run(folder: RunFolder, words: Sequence[str]) -> None:
    program = [sys.executable, "-c", "from ockham.cli import main; main()", "train"]
    place = ["--runs", str(folder.runs), "--run", folder.run_id]
    done = subprocess.run([*program, *place, *words], capture_output=True, text=True, check=False)  # noqa: S603 - our own verb
    if done.returncode == INTERRUPTED:
        raise KeyboardInterrupt
    if not is_finished(folder):
        last_line = (done.stderr.strip().splitlines() or [""])[-1][
            :MAX_ERROR_CHARACTERS
        ]  # ours is one line; of a traceback the error
        raise UnverifiableError(f"{folder.run_id}: `ockham train` ended with {done.returncode}: {last_line}")
