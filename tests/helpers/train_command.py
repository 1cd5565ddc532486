"""train.py as a subprocess, with a tiny model and a text in a folder of the test."""

from __future__ import annotations

import os
import subprocess
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
from safetensors.torch import load_file

from ockham import resources
from ockham.record.run_folder import RunFolder
from tests.helpers import forked_cli
from tests.helpers.events import events
from tests.helpers.tiny_trainer import TINY, text

PAUSED_TRAIN = "tests.helpers.paused_train"
TRAIN_SCRIPT = resources.data_root() / "train.py"


def build_arguments(folder: Path, *options: str) -> list[str]:
    """Return script and arguments of a tiny training. The text is created if it does not exist."""
    if not (folder / "text.txt").exists():
        text(folder)
    overrides = [word for setting in (*TINY, "device=cpu") for word in ("--set", setting)]
    paths = ["--runs", str(folder / "runs"), "--data", str(folder / "text.txt")]
    return [str(TRAIN_SCRIPT), *paths, *overrides, *options]


def build_environment(folder: Path) -> dict[str, str]:
    """Return the environment without variables of Ockham, with a key folder of the test."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OCKHAM")}
    return {**environment, "OCKHAM_KEY_DIR": str(folder / "keys")}


def run_train(folder: Path, *options: str) -> subprocess.CompletedProcess:
    """Run train.py to its end."""
    return forked_cli.run(*build_arguments(folder, *options), env=build_environment(folder))


def start_train(folder: Path, *options: str) -> BaseProcess:
    """Start train.py and return its process."""
    return forked_cli.start(*build_arguments(folder, *options), env=build_environment(folder))


def start_paused_train(folder: Path, *options: str) -> BaseProcess:
    """Start train.py, which waits after the checkpoint of iteration 19."""
    words = build_arguments(folder, *options)[1:]
    return forked_cli.start("-m", PAUSED_TRAIN, *words, env=build_environment(folder))


def wait_for_checkpoint(folder: Path, run: str, iter_num: int, process: BaseProcess) -> None:
    """Wait for a resumable checkpoint of an iteration or a later one. Only the newest two are kept."""
    while not has_checkpoint(RunFolder(folder / "runs", run), iter_num):
        assert process.exitcode is None, "the process has ended"
        time.sleep(0.005)


def has_checkpoint(folder: RunFolder, iter_num: int) -> bool:
    """Return True if a resumable checkpoint of an iteration or a later one exists in the first attempt."""
    paths = (folder.path / "checkpoints").glob("resume-????????")
    return any(int(path.name.removeprefix("resume-")) >= iter_num for path in paths)


def load_resume_weights(folder: Path, run: str, iter_num: int, attempt: int = 1) -> dict[str, torch.Tensor]:
    """Return the weights of a resumable checkpoint."""
    name = f"resume-{iter_num:08d}"
    if attempt > 1:
        name += f".{attempt}"
    return load_file(folder / "runs" / run / "checkpoints" / name / "model.safetensors")


def select_data(kind: str, log_events: list[dict]) -> list[dict]:
    """Return the data of the events of a kind."""
    return [event["data"] for event in log_events if event["type"] == f"ockham.{kind}.v1"]


def read_decisions(
    folder: Path, run: str, attempt: int = 1, rank: int = 0, first_iter: int = 0
) -> list[dict]:
    """Return all decisions from an iteration on, without their position in the log."""
    decisions = select_data("decision.made", events(RunFolder(folder / "runs", run), attempt, rank))
    position = ("sequence", "attempt", "rank")
    return [
        {key: value for key, value in decision.items() if key not in position}
        for decision in decisions
        if decision["iter_num"] >= first_iter
    ]
