"""Program of one rank: a training loop of its own under `ockham.Run.distributed`, and what it really did.

    python -m tests.helpers.rank_loop FOLDER '{"parallel": "ddp", "micro_steps": 2}'

It writes `truth-RANK.json`: loss and tokens of each batch as the test computes them, whether weights moved,
the learning rates and the gradient norms at the optimizer, and a digest of the last weights.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import sys
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

import ockham
from tests.helpers import tiny_model
from tests.helpers.rank_truth import write_truth

BASE_RATES = (0.02, 0.01)


@dataclass
class Loop:
    """Options of one training.

    Attributes:
        parallel: `none`, `ddp`, `fsdp` or `accelerate`.
        exchange: Whether the run averages the gradients. Otherwise DDP does so in the last micro-batch.
        scaler: Whether float16 and a loss scaler are used.
        interval: Steps between two comparisons of the weights.
        shift: Step of the last rank after which its weights are changed. None for no change.
        evaluate: Steps between two evaluations.
        fail: Step of the last rank in which its loop raises an error. None for no error.
        gradients: Whether plugins decide about the gradients.
        spike: Step of the last rank whose gradient is 1,000 times too large. None for no spike.

    """

    parallel: str = "ddp"
    micro_steps: int = 1
    steps: int = 24
    exchange: bool = True
    scaler: bool = False
    interval: int = 100
    policy: str = "balanced"
    shift: int | None = None
    evaluate: int = 8
    fail: int | None = None
    gradients: bool = False
    spike: int | None = None


@dataclass
class RankTruth:
    """Measurements of one rank. The norms are those after clipping, the raw norms those before."""

    losses: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    moved: list[bool] = field(default_factory=list)
    rates: list[list[float]] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    raw_norms: list[float] = field(default_factory=list)
    weights: str = ""
    error: str = ""


def full_weights(model: torch.nn.Module) -> list[torch.Tensor]:
    """Return copies of all weights as full tensors."""
    parameters = [p.detach() for p in model.parameters()]
    return [(p.full_tensor() if hasattr(p, "full_tensor") else p).clone() for p in parameters]


def true_loss(logits: torch.Tensor, targets: torch.Tensor) -> float:
    """Return the mean cross entropy in double precision."""
    scores = logits.detach().double().flatten(0, -2)
    chosen = scores.gather(1, targets.reshape(-1, 1)).squeeze(1)
    return float((scores.logsumexp(1) - chosen).mean())


def full_norm(optimizer: torch.optim.Optimizer) -> float:
    """Return the norm of the whole gradient in double precision."""
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    full = [g.full_tensor() if hasattr(g, "full_tensor") else g for g in gradients]
    return float(torch.stack([g.double().square().sum() for g in full]).sum().sqrt())


class Trainer:
    """Model, optimizer and scaler of one rank, in the way of one library."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.model: Any = tiny_model.make_model()
        if loop.parallel == "fsdp":
            from torch.distributed.fsdp import fully_shard

            for block in self.model.h:
                fully_shard(block, reshard_after_forward=True)
            fully_shard(self.model, reshard_after_forward=True)
        parameters = list(self.model.parameters())
        groups = [
            {"params": [p for p in parameters if p.dim() >= 2], "lr": BASE_RATES[0]},
            {"params": [p for p in parameters if p.dim() < 2], "lr": BASE_RATES[1], "weight_decay": 0.0},
        ]
        self.optimizer: Any = torch.optim.AdamW([g for g in groups if g["params"]], weight_decay=0.1)
        self.scaler = torch.amp.GradScaler("cpu", enabled=loop.scaler, init_scale=2.0**20)
        self.accelerator: Any = None
        self.parallel: Any = self.model
        if loop.parallel == "ddp" and dist.is_initialized():
            self.parallel = DistributedDataParallel(self.model)
        if loop.parallel == "accelerate":
            import accelerate

            self.accelerator = accelerate.Accelerator(cpu=True)
            self.parallel, self.optimizer = self.accelerator.prepare(self.model, self.optimizer)

    @property
    def torch_optimizer(self) -> torch.optim.Optimizer:
        """The optimizer below the wrapper of Accelerate."""
        return getattr(self.optimizer, "optimizer", self.optimizer)

    def no_sync(self, *, last: bool) -> contextlib.AbstractContextManager:
        """Context manager around the forward and the backward pass of a micro-batch."""
        if not self.loop.exchange and last:
            return contextlib.nullcontext()
        if self.accelerator is not None:
            return self.accelerator.no_sync(self.parallel)
        return self.parallel.no_sync() if self.parallel is not self.model else contextlib.nullcontext()

    def logits(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the scores of the next tokens."""
        with torch.autocast("cpu", torch.float16, enabled=self.loop.scaler):
            out = self.parallel(inputs)
        return (out[0] if isinstance(out, tuple) else out).float()

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradient of a loss."""
        if self.accelerator is not None:
            self.accelerator.backward(loss)
        else:
            self.scaler.scale(loss).backward()

    def step(self, run: ockham.Run, ctx: ockham.OccamContext) -> float:
        """Take one step as the context requires. Return the norm of the gradient before clipping."""
        if self.loop.exchange:
            run.average_gradients(self.model.parameters())
        if self.loop.scaler:
            self.scaler.unscale_(self.optimizer)
        limit = math.inf if self.loop.gradients else ctx.grad_clip
        norm: Any = torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit)
        norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        if self.loop.gradients:
            run.gradients(ctx, grad_norm=float(norm))
            if not ctx.step:
                self.optimizer.zero_grad()
                return float(norm)
            if norm > ctx.grad_clip:
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), ctx.grad_clip)
        for group, rate in zip(self.optimizer.param_groups, BASE_RATES, strict=False):
            group["lr"] = rate * ctx.learning_rate / BASE_RATES[0]
        if self.loop.scaler:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        else:
            self.optimizer.step()
        self.optimizer.zero_grad()
        return float(norm)


def train(folder: Path, loop: Loop, truth: RankTruth) -> None:
    """Train, and fill *truth*."""
    trainer = Trainer(loop)
    rank, size = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    # Every rank has a number of examples of its own.
    batches = tiny_model.make_batches(loop.steps * loop.micro_steps * size, size=2 + rank)
    batches = iter(batches[rank::size])

    def read_step(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        truth.rates.append([group["lr"] for group in optimizer.param_groups])
        truth.norms.append(full_norm(optimizer))

    trainer.torch_optimizer.register_step_pre_hook(read_step)
    with ockham.Run.distributed(
        loop.policy,
        run_id="a",
        runs=folder / "runs",
        facts=tiny_model.FACTS,
        weights_interval=loop.interval,
    ) as run:
        run.watch(trainer.optimizer, measure_norm=True)
        for step in range(loop.steps):
            accepted = None
            for micro in range(loop.micro_steps):
                if step == loop.fail and rank == size - 1:
                    raise ockham.OckhamError("the loop of this rank failed")
                inputs, targets = next(batches)
                before = full_weights(trainer.model)
                with trainer.no_sync(last=micro == loop.micro_steps - 1):
                    logits = trainer.logits(inputs)
                    loss = torch.nn.functional.cross_entropy(logits.flatten(0, -2), targets.reshape(-1))
                    truth.losses.append(true_loss(logits, targets))
                    truth.tokens.append(targets.numel())
                    ctx = run.start_batch(
                        loss=loss.item(),
                        tokens=targets.numel(),
                        micro_steps=loop.micro_steps,
                        learning_rate=BASE_RATES[0],
                    )
                    if ctx.updated:
                        accepted = ctx
                        is_spike = step == loop.spike and rank == size - 1
                        trainer.backward(loss / loop.micro_steps * (1_000.0 if is_spike else 1.0))
                norm = {}
                if ctx.ends_step and accepted is not None:
                    norm["grad_norm"] = trainer.step(run, ctx if loop.gradients else accepted)
                after = full_weights(trainer.model)
                truth.moved.append(any(not torch.equal(*pair) for pair in zip(before, after, strict=True)))
                if step == loop.shift and rank == size - 1:
                    with torch.no_grad():
                        next(trainer.model.parameters()).add_(1e-4)
                run.end_batch(ctx, **norm)
            if step % loop.evaluate == loop.evaluate - 1:
                # Rank 0 evaluates for all of them.
                with torch.no_grad():
                    inputs, targets = tiny_model.make_batches(1)[0]
                    val_loss = true_loss(trainer.logits(inputs), targets)
                run.evaluate(ctx, val_loss if rank == 0 else 0.0, tokens=32 if rank == 0 else 0)
    digest = hashlib.sha256()
    for weight in full_weights(trainer.model):
        digest.update(weight.numpy().tobytes())
    truth.weights = digest.hexdigest()


def main(folder: Path, options: str) -> None:
    """Train on one rank, and write the truth also after an error."""
    warnings.simplefilter("ignore")
    truth = RankTruth()
    if int(os.environ["WORLD_SIZE"]) > 1:
        dist.init_process_group("gloo")
    write_truth(lambda: train(folder, Loop(**json.loads(options)), truth), truth, folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
