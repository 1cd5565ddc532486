"""Calls of a training loop for the gradients of a step. `ockham.Run` inherits them."""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager
from typing import Any

from ockham.call_checks import CallChecks
from ockham.chain import PluginChain
from ockham.context import OccamContext
from ockham.errors import OckhamWarning, RunError
from ockham.event import Value
from ockham.fields import STEP_KNOBS
from ockham.record.recorder import Recorder
from ockham.step_audit import StepAudit


class GradientCalls(CallChecks):
    """Runs `on_gradients`, and applies learning rates. `ockham.Run` sets the attributes."""

    chain: PluginChain
    _recorder: Recorder
    _audit: StepAudit
    _warned_no_gradients: bool

    @property
    def acts_on_gradients(self) -> bool:
        """True if a plugin that is not in shadow has `on_gradients`. The loop then calls `gradients`."""
        return self.chain.has_hook("on_gradients", acting=True)

    def gradients(self, ctx: OccamContext, *, grad_norm: float) -> OccamContext:
        """Run `on_gradients` once per step, after the last backward pass and before clipping.

            norm = torch.nn.utils.get_total_norm(p.grad for p in parameters)
            run.gradients(ctx, grad_norm=norm.item())
            if ctx.step:
                torch.nn.utils.clip_grad_norm_(parameters, ctx.grad_clip)
                with run.learning_rates(ctx):
                    optimizer.step()
            optimizer.zero_grad()

        The context then contains all knobs of the step. With accumulation, those of the last accepted
        micro-batch are copied to it. If no micro-batch was accepted, nothing happens.

        Args:
            ctx: Context of the last micro-batch of the step.
            grad_norm: L2 norm of the gradient, unscaled and before clipping. With several ranks all of them
                pass it, and the largest value is used on each.

        Returns:
            The same context. Its knobs `step`, `learning_rate` and `grad_clip` are final.

        Raises:
            BadInputError: If the batch has ended or does not end its step, or on a second call for the step.
            RankDivergedError: If the ranks reached different verdicts.

        """
        self._require_open("gradients")
        accepted = self._audit.begin_gradients(ctx)
        if accepted is None:
            return ctx
        has_hook = self.chain.has_hook("on_gradients")
        if has_hook:
            grad_norm = self.peers.largest(grad_norm)
        knobs = {} if accepted is ctx else _different_knobs(accepted, ctx)
        self._recorder.begin_gradients(ctx, knobs)
        ctx.begin_gradients(grad_norm, knobs)
        self._audit.note_gradients(ctx)
        if not has_hook:
            return ctx
        self.chain.on_gradients(ctx)
        return self._require_agreement(ctx, "on_gradients")

    def learning_rates(self, ctx: OccamContext) -> AbstractContextManager[None]:
        """Return a context manager in which the watched optimizers have the learning rate of a context.

            with run.learning_rates(ctx):
                optimizer.step()

        The first parameter group gets `ctx.learning_rate`, and all others are scaled in proportion.
        Afterwards the scheduled rates are restored, so that a scheduler is not affected.

        Args:
            ctx: Context of the step: the last accepted micro-batch, or the result of `gradients`.

        Raises:
            RunError: If the run watches no optimizer.

        """
        self._require_open("learning_rates")
        if self._audit.meter is None:
            raise RunError("run.learning_rates: no optimizer is watched; call run.watch(optimizer) first")
        return self._audit.meter.scaled_learning_rates(ctx.learning_rate)

    def _complete_gradients(self, ctx: OccamContext, gauges: dict[str, Any]) -> None:
        """Run the hooks of plugins in shadow if the loop has not called `gradients`.

        The norm of that call is the one that plugins have seen, so it is the recorded one.
        """
        if not self._audit.has_gradients and self.chain.has_hook("on_gradients"):
            if self.acts_on_gradients:
                self._warn_no_gradients()
            else:
                self.gradients(ctx, grad_norm=gauges["grad_norm"])
        if self._audit.has_gradients:
            del gauges["grad_norm"]

    def _warn_no_gradients(self) -> None:
        """Warn once that a plugin was not asked about gradients."""
        if not self._warned_no_gradients:
            self._warned_no_gradients = True
            warnings.warn(
                "a plugin decides about gradients, and the loop does not call "
                "run.gradients(ctx, grad_norm=...) before the step; on_gradients is not run",
                OckhamWarning,
                stacklevel=4,
            )


def _different_knobs(accepted: OccamContext, ctx: OccamContext) -> dict[str, Value]:
    """Return the knobs of the step in which the last accepted micro-batch differs from this one."""
    return {
        name: getattr(accepted, name) for name in STEP_KNOBS if getattr(accepted, name) != getattr(ctx, name)
    }
