"""A language model of a few hundred weights, its batches, and what must hold for the log of a training of it."""

from __future__ import annotations

import torch

from ockham.nano import GPT
from ockham.record.run_folder import RunFolder
from ockham.record.verify.run import verify_run
from ockham.replay.runner import replay_run
from ockham.run import Run
from tests.helpers.events import events

BLOCK, VOCAB = 8, 32
FACTS = {"max_iters": 40, "vocab_size": VOCAB, "seed": 1, "model_params": 4_000}


def model() -> GPT:
    torch.manual_seed(1)
    return GPT(vocab_size=VOCAB, block_size=BLOCK, n_layer=1, n_head=2, n_embd=16)


def batches(count: int, size: int = 4) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Counting upwards from random places: learnt in a few dozen steps, some batches harder than others."""
    random = torch.Generator().manual_seed(2)
    found = []
    for at in range(count):
        start = torch.randint(0, VOCAB, (size, 1), generator=random)
        tokens = (start + torch.arange(BLOCK + 1) * (1 + at % 3)) % VOCAB
        found.append((tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()))
    return found


def run(folder, run_id: str = "a", policy: str = "balanced", *overrides: str, **facts) -> Run:
    return Run(policy, overrides=overrides, runs=folder / "runs", run_id=run_id, facts={**FACTS, **facts})


def of(folder, kind: str, run_id: str = "a") -> list[dict]:
    found = events(RunFolder(folder / "runs", run_id))
    return [event["data"] for event in found if event["type"] == f"ockham.{kind}.v1"]


def verdicts(folder, run_id: str = "a") -> list[bool]:
    """Whether each batch, in order, was let through: what differs from the default stands in the context."""
    contexts = [c for c in of(folder, "context.recorded", run_id) if c["hook"] == "batch"]
    return [c["left"].get("updated", True) for c in contexts]


def holds(folder, run_id: str = "a", batches: int = 40) -> None:
    """Verified byte for byte, replayed to the same decisions, and a context for each batch."""
    place = RunFolder(folder / "runs", run_id)
    report = verify_run(place)
    assert report.sound, [str(finding) for finding in report.findings]
    assert replay_run(place).identical
    assert len(verdicts(folder, run_id)) == batches
