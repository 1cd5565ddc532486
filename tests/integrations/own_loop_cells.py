"""Cells of the matrix for loops that call `ockham.Run` themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from ockham.context import OccamContext
from ockham.policy import Policy, policy_from_plugins
from ockham.run import Run
from tests.helpers.plugins import EachThird
from tests.helpers.step_truth import StepTruth, gradient_norm
from tests.integrations.trainer_matrix import Cell

STEPS = 20
VOCABULARY = 8


def one_group(model: nn.Module) -> torch.optim.Optimizer:
    """Return AdamW with one group."""
    return torch.optim.AdamW(model.parameters(), lr=0.01)


def two_groups(model: nn.Module) -> torch.optim.Optimizer:
    """Return SGD with momentum and two groups."""
    groups = [{"params": model[0].parameters()}, {"params": model[1].parameters(), "lr": 0.3}]
    return torch.optim.SGD(groups, lr=0.1, momentum=0.9)


@dataclass(frozen=True)
class Loop:
    """How a loop trains. Fields are defaults of a plain one."""

    optimizer: Callable[[nn.Module], torch.optim.Optimizer] = one_group
    policy: str | Policy = "balanced"
    micro_steps: int = 1
    autocast: bool = False
    scaler: bool = False
    overflow_at: int = -1
    schedule: bool = False
    is_numbered: bool = False
    stop_at: int = STEPS
    uses_block: bool = True


class Training:
    """Model, optimizer and truth of one loop."""

    def __init__(self, loop: Loop, run: Run) -> None:
        torch.manual_seed(2)
        self.loop, self.run, self.truth = loop, run, StepTruth()
        self.model = nn.Sequential(nn.Embedding(VOCABULARY, 16), nn.Linear(16, VOCABULARY))
        self.optimizer = loop.optimizer(self.model)
        self.bases = [group["lr"] for group in self.optimizer.param_groups]
        self.scaler = torch.amp.GradScaler("cpu", enabled=loop.scaler, init_scale=2.0**8)
        self.truth.watch(self.optimizer)
        run.watch(self.optimizer, measure_norm=True)

    def loss(self) -> torch.Tensor:
        """Return the loss of a new batch."""
        tokens = torch.randint(0, VOCABULARY, (32,))
        with torch.autocast("cpu", torch.bfloat16, enabled=self.loop.autocast):
            logits = self.model(tokens)
        return nn.functional.cross_entropy(3 * logits.float(), (tokens + 1) % VOCABULARY)

    def train(self) -> StepTruth:
        """Train all steps. Return the truth."""
        for step in range(self.loop.stop_at):
            factor = (step + 1) / STEPS if self.loop.schedule else 1.0
            for group, base in zip(self.optimizer.param_groups, self.bases, strict=True):
                group["lr"] = base * factor
            self.step(step)
        return self.truth

    def step(self, step: int) -> None:
        """Train one step of several micro-batches."""
        accepted = []
        for micro_step in range(self.loop.micro_steps):
            loss = self.loss()
            self.truth.begin_batch(self.model, loss.item())
            numbers = {"iter_num": step, "micro_step": micro_step} if self.loop.is_numbered else {}
            ctx = self.run.start_batch(task_loss=loss.item(), micro_steps=self.loop.micro_steps, **numbers)
            if ctx.updated:
                accepted.append(ctx)
                self.scaler.scale(loss / self.loop.micro_steps).backward()
            if ctx.ends_step and accepted:
                gauges = self.optimizer_step(accepted, ctx, step)
            else:
                gauges = {}
            self.truth.end_batch(self.model)
            self.run.end_batch(ctx, **gauges)

    def optimizer_step(self, accepted: list, last: OccamContext, step: int) -> dict[str, float]:
        """Take the step of the accepted micro-batches, if no plugin refuses it. Return the gauges."""
        if step == self.loop.overflow_at:
            self.model[1].weight.grad.fill_(torch.inf)
        self.scaler.unscale_(self.optimizer)
        parameters = list(self.model.parameters())
        truth_norm = gradient_norm(parameters)
        scale = self.loop.micro_steps / len(accepted)
        for parameter in parameters:
            parameter.grad.mul_(scale)
        total = nn.utils.get_total_norm([parameter.grad for parameter in parameters])
        norm = total.item()
        ctx = self.run.gradients(last, grad_norm=norm) if self.run.acts_on_gradients else accepted[-1]
        if not ctx.step:
            self.optimizer.zero_grad()
            return {"grad_norm": norm}
        nn.utils.clip_grads_with_norm_(parameters, ctx.grad_clip, total)
        ratio = ctx.learning_rate / self.optimizer.param_groups[0]["lr"]
        for group in self.optimizer.param_groups:
            group["lr"] *= ratio
        taken = len(self.truth.rates)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if len(self.truth.rates) > taken:
            self.truth.norms.append(truth_norm)
        self.optimizer.zero_grad()
        return {"grad_norm": norm}


def train_loop(loop: Loop, folder: Path) -> StepTruth:
    """Train one loop, with a `with` block or with `start` and `finish`."""
    run = Run(
        loop.policy, runs=folder / "runs", run_id="a", facts={"max_iters": STEPS, "vocab_size": VOCABULARY}
    )
    if loop.uses_block:
        with run:
            return Training(loop, run).train()
    training = Training(loop, run.start())
    truth = training.train()
    run.finish()
    return truth


_PLAIN = Loop(policy=policy_from_plugins([EachThird(limit=0.5)]))
_LOOPS = {
    "plain": _PLAIN,
    "balanced": Loop(),
    "tight": Loop(policy="tight"),
    "observe": Loop(policy="observe"),
    "two groups": replace(_PLAIN, optimizer=two_groups),
    "schedule": replace(_PLAIN, schedule=True),
    "accumulation of 2": replace(_PLAIN, micro_steps=2),
    "accumulation of 4": replace(_PLAIN, micro_steps=4),
    "accumulation, two groups": replace(_PLAIN, micro_steps=4, optimizer=two_groups),
    "bf16 autocast": replace(_PLAIN, autocast=True),
    "loss scaler": replace(_PLAIN, scaler=True),
    "loss scaler, overflow": replace(_PLAIN, scaler=True, overflow_at=4),
    "loss scaler, accumulation": replace(_PLAIN, scaler=True, micro_steps=4),
    "own numbers": replace(_PLAIN, is_numbered=True, micro_steps=2),
    "early end": replace(_PLAIN, stop_at=7),
    "start and finish": replace(_PLAIN, uses_block=False),
}
CELLS = [
    Cell(
        "own loop",
        situation,
        partial(train_loop, loop),
        min_skips=0 if loop.policy in {"observe", "balanced", "tight"} else 2,
    )
    for situation, loop in _LOOPS.items()
]
