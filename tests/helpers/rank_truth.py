"""What the ranks of one training really did, compared with the log of each rank."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ockham.errors import OckhamError
from ockham.record.run_folder import RunFolder
from ockham.record.verify.run import verify_run
from ockham.replay.runner import replay_run
from tests.helpers.events import events
from tests.helpers.forked_cli import wait
from tests.helpers.ranks import spawn_ranks

LOSS_TOLERANCE = 1e-6
NORM_TOLERANCE = 1e-4


def train_ranks(
    folder: Path, size: int, module: str = "tests.helpers.rank_loop", **options: Any
) -> list[dict]:
    """Run a program on each rank. Return the truth of each."""
    words = ("-m", module, str(folder), json.dumps(options))
    env = {"OCKHAM_KEY_DIR": str(folder / "keys")}
    if size == 1:
        env["RANK"] = "0"
    done = wait(spawn_ranks(size, *words, **env))
    files = [folder / f"truth-{rank}.json" for rank in range(size)]
    assert all(file.exists() for file in files), [process.stderr[-2000:] for process in done]
    return [json.loads(file.read_text()) for file in files]


def write_truth(train: Callable[[], None], truth: Any, folder: Path) -> None:
    """Train on one rank, write the truth also after an error of Ockham, and end the process."""
    torch.set_num_threads(1)
    status = 0
    try:
        train()
    except OckhamError as error:
        truth.error, status = f"{type(error).__name__}: {error}", error.exit_status
    (folder / f"truth-{os.environ['RANK']}.json").write_text(json.dumps(vars(truth)))
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    sys.exit(status)


def read_data(folder: Path, rank: int, kind: str) -> list[dict]:
    """Return the data of all events of a kind in the log of one rank."""
    log_events = events(RunFolder(folder / "runs", "a"), 1, rank)
    return [event["data"] for event in log_events if event["type"] == f"ockham.{kind}.v1"]


def read_batches(folder: Path, rank: int) -> list[dict]:
    """Return the contexts of the batches of one rank."""
    return [data for data in read_data(folder, rank, "context.recorded") if data["hook"] == "batch"]


def assert_log_is_true(folder: Path, truths: list[dict], *, min_skips: int = 1) -> None:
    """Assert that each log contains what its rank did, and that the ranks did the same."""
    assert {truth["error"] for truth in truths} == {""}, [truth["error"] for truth in truths]
    assert len({truth["weights"] for truth in truths}) == 1, "the ranks have different weights"
    logs = [read_batches(folder, rank) for rank in range(len(truths))]
    for truth, contexts in zip(truths, logs, strict=True):
        assert_batches_are_true(contexts, truth)
    verdicts = [[context["left"].get("updated", True) for context in contexts] for contexts in logs]
    judged = [[context["given"]["task_loss"] for context in contexts] for contexts in logs]
    for rank, truth in enumerate(truths):
        assert verdicts[rank] == verdicts[0], f"rank {rank} has other verdicts"
        assert judged[rank] == judged[0], f"rank {rank} judged other bits"
        if len(truths) > 1:
            own = [context["given"]["rank_loss"] for context in logs[rank]]
            assert_close(own, truth["losses"])
    losses, tokens = (zip(*(truth[name] for truth in truths), strict=True) for name in ("losses", "tokens"))
    assert_close(judged[0], [_mean(*batch) for batch in zip(losses, tokens, strict=True)])
    assert verdicts[0].count(False) >= min_skips
    run_folder = RunFolder(folder / "runs", "a")
    report = verify_run(run_folder)
    assert report.sound, [str(finding) for finding in report.findings]
    assert replay_run(run_folder).identical
    for rank in range(len(truths)):
        # A loss scaler refuses a step with an overflow. Every other reason is a fault.
        reasons = {data["reason_code"] for data in read_data(folder, rank, "verdict.not_applied")}
        assert reasons <= {"NONFINITE_GRADIENT", "LOSS_SCALE_OVERFLOW"}


def assert_batches_are_true(contexts: list[dict], truth: dict) -> None:
    """Assert that the log of one rank names the steps, learning rates and norms of its optimizer."""
    steps: dict[int, list[int]] = {}
    for number, context in enumerate(contexts):
        steps.setdefault(context["iter_num"], []).append(number)
    assert len(contexts) == len(truth["moved"])
    taken = 0
    for numbers in steps.values():
        accepted = any(contexts[number]["left"].get("updated", True) for number in numbers)
        moved = [truth["moved"][number] for number in numbers]
        applied = contexts[numbers[-1]]["applied"]
        assert not any(moved[:-1]), f"batches {numbers}: the weights moved before the end of the step"
        assert moved[-1] == applied["updated"], f"batches {numbers}: {applied}, moved {moved}"
        assert accepted or not moved[-1], f"batches {numbers}: skipped, and the weights moved"
        if applied["updated"]:
            assert applied["learning_rates"] == truth["rates"][taken]
            assert_norm_is_true([contexts[number] for number in numbers], truth, taken)
            taken += 1
    assert taken == len(truth["rates"])


def assert_norm_is_true(contexts: list[dict], truth: dict, taken: int) -> None:
    """Assert that a step names its gradient norm after clipping, or before clipping, or both."""
    logged, measured = contexts[-1]["applied"].get("clipped_grad_norm"), contexts[-1]["measured"]
    if logged is not None:
        assert_close([logged], [truth["norms"][taken]], NORM_TOLERANCE)
    if truth["raw_norms"]:
        # The gradient is a mean over the accepted micro-batches.
        accepted = sum(context["left"].get("updated", True) for context in contexts)
        expected = truth["raw_norms"][taken] * len(contexts) / accepted
        assert_close([measured["grad_norm"]], [expected], NORM_TOLERANCE)
    assert logged is not None or truth["raw_norms"]


def assert_close(values: list[float], expected: list[float], tolerance: float = LOSS_TOLERANCE) -> None:
    """Assert that numbers are equal up to a relative tolerance."""
    assert len(values) == len(expected)
    for number, (value, other) in enumerate(zip(values, expected, strict=True)):
        assert math.isclose(value, other, rel_tol=tolerance), f"number {number}: {value}, expected {other}"


def _mean(values: tuple[float, ...], weights: tuple[int, ...]) -> float:
    return sum(value * weight for value, weight in zip(values, weights, strict=True)) / sum(weights)
