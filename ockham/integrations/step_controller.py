"""Hands: what `ockham train` does with a verdict, for a model and an optimizer that someone else's loop drives.

    judge(loss)     the chain's verdict on a batch: may it update the weights?
    before_step()   gradients normalised by the accepted batches, noise, clipping
    (the optimizer's own step: at the turned learning rate, then the pull to the anchor and the projection)
    end()           gauges, `on_batch_end`; rollback
    evaluate(loss)  memory and anchor: an accepted checkpoint, a new anchor

The learning rate is turned for one step and put back before any scheduler looks. Where every plugin is in shadow nothing
is touched. KL and losses of single examples are not measured here.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ockham.context import OccamContext
from ockham.errors import BadInputError
from ockham.nano.anchor import AnchorWeights, Drift
from ockham.nano.checkpoint_io import MODEL, serialize_model
from ockham.nano.optimizer import add_noise, clip_gradients
from ockham.record.checkpoints import CheckpointFiles
from ockham.run import Run


def detach_loss(loss: torch.Tensor) -> torch.Tensor:
    """A loss of the same value whose backward pass ends at once and reaches no weight; the old graph can be freed."""
    return (
        loss.detach().requires_grad_() * 1.0
    )  # times 1: loops that scale a loss in place may not do so to a leaf


class StepController:
    """Judges and applies, one batch after the other.

    Args:
        run: open, and given `max_iters` and `vocab_size` among its facts where they are known.
        model: its weights.
        optimizer: one that torch made; its step is listened to.
        keep: whether accepted weights are written as checkpoints.

    Raises:
        BadInputError: if the run is not open, or the training has more than one process.

    """

    def __init__(
        self, run: Run, model: nn.Module, optimizer: torch.optim.Optimizer, *, save_checkpoints: bool = True
    ) -> None:
        if (
            torch.distributed.is_available()
            and torch.distributed.is_initialized()
            and torch.distributed.get_world_size() > 1
        ):
            raise BadInputError(
                "this integration judges one process; for many ranks see `torchrun -m ockham train`, whose verdict is on the mean loss"
            )
        if not run.attempt.is_open:
            raise BadInputError("the run is not open: use it as `with ockham.Run(...) as run:`")
        self.run, self.model, self.optimizer, self.save_checkpoints = run, model, optimizer, save_checkpoints
        self.is_active = any(not plugin.shadow for plugin in run.chain.plugins)
        self.pull_mode = run.policy.hyperparameters.get("pull", "none")
        self.iter_num = 0
        self.stop_reason: tuple[str, str] | None = (
            None  # reason code and sentence, once the policy has ended the run
        )
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        has_matrix = any(parameter.dim() >= 2 for parameter in self._parameters)
        self.anchor = AnchorWeights(model, 0) if has_matrix else None
        self._last: OccamContext | None = None  # the batch that ended last
        self._ctx: OccamContext | None = None  # the batch between judge() and end()
        self._accepted: OccamContext | None = None  # the last one of this step that may update
        self._batches = self._updating = 0
        self._stepped = self._refused = False
        self._gauges: dict[str, Any] = {}
        self._scheduled: list[Any] = []
        self._hook = optimizer.register_step_post_hook(self._after_step)

    def start_batch(self, task_loss: float, grad_clip: float = math.inf) -> bool:
        """Whether this batch may update the weights; to be asked before its backward pass.

        Args:
            task_loss: mean loss in nats per token.
            grad_clip: the loop's own limit of the gradient's norm.

        """
        fields = {"learning_rate": float(self.optimizer.param_groups[0]["lr"]), "grad_clip": grad_clip}
        ctx = self.run.start_batch(
            self.iter_num, task_loss, self._batches, anchor_available=self.anchor is not None, **fields
        )
        self._ctx = ctx
        self._batches += 1
        if ctx.updated:
            self._accepted = ctx
            self._updating += 1
        return ctx.updated

    def before_step(self) -> None:
        """When all gradients of a step are there, before the optimizer takes it."""
        ctx = self._accepted
        if ctx is None:
            return
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        if self.is_active:
            if self._batches != self._updating:
                torch._foreach_mul_(gradients, self._batches / self._updating)
            if self.anchor is not None and self.pull_mode == "coupled" and ctx.lambda_ockham > 0:
                self.anchor.add_penalty(ctx.lambda_ockham)
            if ctx.grad_noise_std > 0:
                add_noise(self._parameters, ctx.grad_noise_std, ctx.seed, ctx.iter_num)
            self._turn_learning_rate(ctx)
        norms = (
            clip_gradients(self._parameters, ctx.grad_clip)
            if self.is_active
            else nn.utils.get_total_norm(gradients)
        )
        norm = float(norms.item())
        self._gauges["grad_norm"] = norm
        self._refused = self.is_active and not math.isfinite(norm)
        if self._refused:
            self.optimizer.zero_grad(set_to_none=True)

    def end_batch(self) -> OccamContext | None:
        """When the loop is through with a batch; None where it was not judged."""
        ctx, self._ctx = self._ctx, None
        if ctx is None:
            return None
        self._restore_learning_rate()
        stepped = self._stepped and self._accepted is not None and not self._refused
        applied = {"updated": stepped, **({} if self.is_active else {"grad_clip": math.inf})}
        gauges = self._gauges if self._stepped else {}
        self.run.end_batch(ctx, stepped=stepped, applied=applied, **gauges)
        if self._stepped:
            self.iter_num += 1
            self._accepted, self._batches, self._updating, self._gauges = None, 0, 0, {}
            self._stepped = self._refused = False
        if ctx.rollback:
            self._roll_back(ctx)
        if ctx.halt and self.stop_reason is None:
            self.stop_reason = "HALTED_BY_POLICY", f"halted by decision {self.run.decision_id('halt')}"
        self._last = ctx
        return ctx

    def evaluate(self, val_loss: float) -> OccamContext | None:
        """Let memory and anchor judge a validation loss, in nats per token; None before the first batch."""
        ctx = self._last
        if ctx is None:
            return None
        self.run.evaluate(ctx, val_loss, trigger="CONSOLIDATION" if ctx.consolidating else "SCHEDULE")
        if ctx.accepted and self.save_checkpoints:
            self.run.save_checkpoint(ctx, "accepted", self._pack)
        if ctx.consolidating and self.is_active:
            drift = 0.0 if self.anchor is None else self.anchor.measure().after
            self.anchor = AnchorWeights(self.model, ctx.iter_num)
            self.run.record_consolidation(ctx, drift=drift)
        return ctx

    def close(self) -> None:
        """Leave the optimizer alone from here on, and end the run if the policy wanted that."""
        self.detach()
        reason, message = self.stop_reason or ("COMPLETED", None)
        self.run.finish(reason, message, val_loss=self.run.val_loss)

    def detach(self) -> None:
        """Leave the optimizer alone from here on; the run stays open."""
        self._hook.remove()
        self._restore_learning_rate()

    def _after_step(self, *_: object) -> None:
        """Called by the optimizer itself, after its step and before a scheduler sees the learning rate."""
        self._stepped = True
        self._restore_learning_rate()
        ctx = self._accepted
        if ctx is None or self.anchor is None:
            return
        drift = (
            self._pull(self.anchor, ctx) if self.is_active and not self._refused else self.anchor.measure()
        )
        self._gauges |= {"complexity_cost": drift.after, "drift_raw": drift.raw, "drift_sq": drift.squared}

    def _pull(self, anchor: AnchorWeights, ctx: OccamContext) -> Drift:
        strength = 2.0 * ctx.learning_rate * ctx.lambda_ockham if self.pull_mode == "decoupled" else 0.0
        distance = float(anchor.pull(strength, ctx.drift_ceiling, torch.tensor(True)))
        return anchor.drift(distance, strength=strength, ceiling=ctx.drift_ceiling)

    def _turn_learning_rate(self, ctx: OccamContext) -> None:
        groups = self.optimizer.param_groups
        first = float(groups[0]["lr"])
        if first in {0.0, ctx.learning_rate}:  # a warm-up may begin at 0
            return
        self._scheduled = [group["lr"] for group in groups]
        for group in groups:
            group["lr"] = group["lr"] * (ctx.learning_rate / first)

    def _restore_learning_rate(self) -> None:
        for group, rate in zip(self.optimizer.param_groups, self._scheduled, strict=False):
            group["lr"] = rate
        self._scheduled = []

    def _roll_back(self, ctx: OccamContext) -> None:
        if self.anchor is None:
            self.stop_reason = "NO_ANCHOR", "a rollback was asked for, and this model has no anchor"
            return
        began = time.perf_counter()
        drift = self.anchor.measure().after
        self.anchor.restore()
        self.optimizer.state.clear()
        seconds = time.perf_counter() - began
        self.run.record_rollback(ctx, anchor_iter_num=self.anchor.iter_num, drift=drift, seconds=seconds)

    def _pack(self, metadata: Mapping[str, Any], _: Mapping[str, Any] | None) -> CheckpointFiles:
        data, digest = serialize_model(self.model, metadata)
        return CheckpointFiles({MODEL: data}, digest)
