"""One arm of a study as an `ockham train` process with its own seeds, threads and run."""

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
from ockham.record.log_status import read_log_status
from ockham.record.run_folder import RunFolder

TERMINAL_REASONS = ("COMPLETED", "HALTED_BY_POLICY", "NO_ANCHOR")
# Characters of a failed process's last line.
MAX_ERROR_CHARACTERS = 400
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
        folder: Folder of the new run.
        document: Its policy, as in a policy file.
        settings: `name=value` settings of the trainer.
        size: Name of a model size.
        data: Text to train on. Empty uses the trainer's own.

    Raises:
        UnverifiableError: If the process fails. The message contains its last line.
        KeyboardInterrupt: If it was interrupted.

    """
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / f"{document.get('name', 'policy')}.yaml"
        write_policy(path, document)
        words = ["--policy", str(path), "--size", size, *(["--data", data] if data else [])]
        _run(folder, [*words, *(word for setting in settings for word in ("--set", setting))])


def resume(folder: RunFolder) -> None:
    """Continue an interrupted run. Raises the errors of `train`."""
    _run(folder, ["--resume"])


def write_policy(path: Path, document: Mapping[str, Any]) -> None:
    """Write a policy file. Keys are not sorted, because the order of the plugins is that of the chain."""
    with path.open("wb") as file:
        YAML(typ="rt").dump(dict(document), file)


def is_finished(folder: RunFolder) -> bool:
    """Return True if the newest attempt ended, by itself or by its policy."""
    for attempt, rank in folder.logs()[-1:]:
        status = read_log_status(folder, attempt, rank)
        return status.finished and status.reason_code in TERMINAL_REASONS
    return False


def policy_document(policy: Policy) -> dict[str, Any]:
    """Return a policy as in a policy file."""
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
    done = subprocess.run(  # noqa: S603 - our own command
        [*program, *place, *words], capture_output=True, text=True, check=False
    )
    if done.returncode == INTERRUPTED:
        raise KeyboardInterrupt
    if not is_finished(folder):
        # Ours is one line; of a traceback the error.
        last_line = (done.stderr.strip().splitlines() or [""])[-1][:MAX_ERROR_CHARACTERS]
        raise UnverifiableError(f"{folder.run_id}: `ockham train` ended with {done.returncode}: {last_line}")
