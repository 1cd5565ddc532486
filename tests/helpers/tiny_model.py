"""A language model with a few thousand weights, its batches, and checks of the log of its training."""

from __future__ import annotations

import torch

from ockham.nano import GPT
from ockham.record.run_folder import RunFolder
from ockham.record.verify.run import verify_run
from ockham.replay.runner import replay_run
from ockham.run import Run
from tests.helpers.events import events

BLOCK_SIZE = 8
VOCAB_SIZE = 32
FACTS = {"max_iters": 40, "vocab_size": VOCAB_SIZE, "seed": 1, "model_params": 4_000}


def make_model() -> GPT:
    """Return the model. Its weights are always the same."""
    torch.manual_seed(1)
    return GPT(vocab_size=VOCAB_SIZE, block_size=BLOCK_SIZE, n_layer=1, n_head=2, n_embd=16)


def make_batches(count: int, size: int = 4) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return batches that count upwards from random numbers.

    They are learned in a few dozen steps, and some of them are harder than others.
    """
    random = torch.Generator().manual_seed(2)
    result = []
    for number in range(count):
        start = torch.randint(0, VOCAB_SIZE, (size, 1), generator=random)
        tokens = (start + torch.arange(BLOCK_SIZE + 1) * (1 + number % 3)) % VOCAB_SIZE
        result.append((tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()))
    return result


def make_run(folder, run_id: str = "a", policy: str = "balanced", *overrides: str, **facts) -> Run:
    """Return a run under a policy, not opened yet."""
    return Run(policy, overrides=overrides, runs=folder / "runs", run_id=run_id, facts={**FACTS, **facts})


def read_events(folder, kind: str, run_id: str = "a") -> list[dict]:
    """Return the data of all events of a kind, in the order of the attempts."""
    run_folder = RunFolder(folder / "runs", run_id)
    logs = sorted(run_folder.logs())
    log_events = [event for attempt, rank in logs if rank == 0 for event in events(run_folder, attempt)]
    return [event["data"] for event in log_events if event["type"] == f"ockham.{kind}.v1"]


def read_batches(folder, run_id: str = "a") -> list[dict]:
    """Return the recorded contexts of the batches."""
    return [c for c in read_events(folder, "context.recorded", run_id) if c["hook"] == "batch"]


def read_verdicts(folder, run_id: str = "a") -> list[bool]:
    """Return for each batch whether it was updated.

    The context contains only values that differ from the defaults.
    """
    return [context["left"].get("updated", True) for context in read_batches(folder, run_id)]


def assert_sound_run(folder, run_id: str = "a", batches: int = 40) -> None:
    """Assert that the run verifies, replays identically, and has a context for each batch."""
    run_folder = RunFolder(folder / "runs", run_id)
    report = verify_run(run_folder)
    assert report.sound, [str(finding) for finding in report.findings]
    assert replay_run(run_folder).identical
    assert len(read_verdicts(folder, run_id)) == batches
