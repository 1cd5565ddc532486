"""Verdicts for a loop that computes gradients and takes steps by itself, with any number of optimizers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from torch import nn

from ockham.context import OccamContext
from ockham.nano.dtensor import to_full
from ockham.nano.optimizer import clip_gradients, measure_norm
from ockham.nano.step_meter import unwrap_optimizer
from ockham.run import Run


class ManualBatch:
    """One micro-batch and its verdict.

    Attributes:
        ctx: The context. Its knobs contain what the loop has to do.
        updated: Whether this micro-batch may update the weights. Otherwise leave out its backward pass.
        takes_step: Whether the optimizers take their step now.

    """

    def __init__(self, run: Run, ctx: OccamContext, accepted: OccamContext | None) -> None:
        self.ctx = ctx
        self.updated = ctx.updated
        self.takes_step = ctx.ends_step and accepted is not None
        self.gauges: dict[str, Any] = {}
        self._run = run
        self._accepted = accepted
        self._rates = contextlib.ExitStack()

    def clip_gradients(self, parameters: Iterable[nn.Parameter]) -> float:
        """Average the gradients over the ranks, and clip them to the limit of the context.

        Call it once before a step, on every rank, after the last backward pass. Plugins that decide about
        gradients are asked here. If one of them refuses the step, the gradients are dropped, so that the
        optimizers change nothing.

        Args:
            parameters: All parameters that the step changes.

        Returns:
            The L2 norm before clipping.

        """
        chosen = list(parameters)
        if self._run.peers.world_size > 1:
            self._run.average_gradients(chosen)
        total = measure_norm(chosen)
        norm = self.gauges["grad_norm"] = float(to_full(total))
        step = self._accepted or self.ctx
        if self._run.acts_on_gradients:
            step = self._run.gradients(self.ctx, grad_norm=norm)
            self.takes_step = self.takes_step and step.step
            self.set_learning_rates(step)
        if step.step:
            clip_gradients(chosen, step.grad_clip, total)
        else:
            for parameter in chosen:
                parameter.grad = None
        return norm

    def set_learning_rates(self, ctx: OccamContext) -> None:
        """Scale the learning rates of all groups to that of a context, until `restore_learning_rates`."""
        self.restore_learning_rates()
        self._rates.enter_context(self._run.learning_rates(ctx))

    def restore_learning_rates(self) -> None:
        """Set the scheduled learning rates. Calling it again has no effect."""
        self._rates.close()


class ManualBatches:
    """Batches of a loop with manual optimization. The steps of all optimizers are measured.

    Args:
        run: An open run.
        optimizers: The optimizers of the loop.
        facts: Facts of the run that the loop knows. They are recorded with the first batch.

    Attributes:
        last: Context of the last batch that ended.

    """

    def __init__(self, run: Run, optimizers: Sequence[Any], facts: Mapping[str, Any] | None = None) -> None:
        self.run = run
        self.last: OccamContext | None = None
        self._optimizers = [unwrap_optimizer(optimizer) for optimizer in optimizers]
        self._meter = run.watch(*self._optimizers, measure_norm=True)
        self._facts = dict(facts or {})
        self._accepted: OccamContext | None = None
        self._is_open = False

    @contextlib.contextmanager
    def batch(
        self, loss: float, *, tokens: int | None = None, micro_steps: int = 1, **facts: Any
    ) -> Iterator[ManualBatch]:
        """Context manager around the backward pass and the step of one micro-batch.

        The learning rates of all parameter groups are those of the context inside it.

        Args:
            loss: Mean loss in nats per token.
            tokens: Number of its tokens. See `ockham.Run.start_batch`.
            micro_steps: Number of micro-batches of the step.
            facts: Facts of this batch.

        """
        facts, self._facts = {**self._facts, **facts}, {}
        ctx = self.run.start_batch(loss=loss, tokens=tokens, micro_steps=micro_steps, **facts)
        if ctx.micro_step == 0:
            self._accepted = None
        self._accepted = ctx if ctx.updated else self._accepted
        batch = ManualBatch(self.run, ctx, self._accepted)
        self._is_open = True
        try:
            if self._accepted is not None:
                batch.set_learning_rates(self._accepted)
            yield batch
        finally:
            batch.restore_learning_rates()
        self.run.end_batch(ctx, **batch.gauges)
        self.last, self._is_open = ctx, False

    @property
    def is_between_steps(self) -> bool:
        """True after the last batch of a step has ended, and before the next one starts."""
        return self.last is not None and self.last.ends_step and not self._is_open

    def close(self) -> None:
        """Remove the hooks from the optimizers."""
        self._meter.close()
