"""A simulated run without a trainer: plugins pass through every hook over sample batches."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ockham.chain import PluginChain, base_knobs, merge_scheduled_knobs
from ockham.context import OccamContext
from ockham.event import Decision
from ockham.plugin import OccamPlugin, counter_uniform

BATCHES = 240


@dataclass(frozen=True)
class Batch:
    """One batch of a simulated run: facts and scheduled knobs, gauges, and a validation loss or None."""

    task_loss: float
    fields: Mapping[str, Any] = field(default_factory=dict)
    gauges: Mapping[str, Any] = field(default_factory=dict)
    val_loss: float | None = None


@dataclass
class Captured:
    """Result of a simulated run: all decisions in order, and the context of each batch after the chain."""

    decisions: list[Decision] = field(default_factory=list)
    contexts: list[OccamContext] = field(default_factory=list)

    @property
    def reasons(self) -> list[str]:
        """Reason codes in order."""
        return [decision.reason_code for decision in self.decisions]


def capture(
    *plugins: OccamPlugin, losses: Sequence[float] = (), batches: Iterable[Batch] = (), **fields: Any
) -> Captured:
    """Run plugins through every hook as a trainer would, over losses or complete batches.

    Args:
        plugins: Plugins in the order of the chain.
        losses: Loss of each batch in nats per token.
        batches: Batches with their own gauges and evaluations.
        fields: Facts, and knobs at their scheduled value, for every batch.

    Raises:
        PluginError: If a plugin raises.

    """
    run = SimulatedRun(plugins)
    for batch in [*map(Batch, losses), *batches]:
        run.run_batch(batch, fields)
    return run.captured


def sample_batches(batches: int = BATCHES) -> Iterator[Batch]:
    """Yield the batches of a simulated run.

    It contains falling losses, NaN and infinity, spikes of the loss and of the gradient norm, clipped steps,
    drift, KL and evaluations. It is the same every time.
    """
    for i in range(batches):
        noise = counter_uniform("story", i) - 0.5
        calm = 5 * math.exp(-i / 80) + 1 + noise
        loss = {50: math.nan, 51: math.inf, 120: math.nan, 200: 12.0}.get(i, calm)
        drift = math.nan if i == 130 else 0.01 * (i % 60)
        kl = 0.02 * (i % 40) if i % 10 == 0 else None
        gauges = {
            "complexity_cost": drift,
            "drift_raw": 1.1 * drift,
            "drift_sq": drift * drift,
            "grad_norm": {140: math.inf, 210: 60.0}.get(i, 2 + 3 * noise),
            "kl_to_anchor": math.nan if i == 145 else kl,
        }
        fields = {
            "seed": 7,
            "max_iters": batches,
            "warmup_iters": 20,
            "vocab_size": 256,
            "model_params": 10_000,
            "anchor_available": i > 20,
            "learning_rate": 1e-3 * min(1, (i + 1) / 20),
            "tokens_seen": 768 * i,
            "example_losses": tuple(loss + counter_uniform("story", i, at) - 0.5 for at in range(4)),
        }
        evaluated = loss + 0.1 if i % 10 == 9 else None
        val_loss = math.nan if i == 149 else evaluated
        yield Batch(loss, fields, gauges, val_loss)


class SimulatedRun:
    """Run that performs the trainer's part between the hooks."""

    def __init__(self, plugins: Sequence[OccamPlugin], after: OccamContext | None = None) -> None:
        self.captured = Captured()
        self._chain = PluginChain(plugins, self.captured.decisions.append)
        self._base = base_knobs(plugins, {})
        self._last = after
        self._iter_num = after.iter_num + 1 if after else 0

    def run_batch(self, batch: Batch, fields: Mapping[str, Any]) -> None:
        """Pass one batch through every hook that applies."""
        values = merge_scheduled_knobs(self._base, {**fields, **batch.fields})
        before = self._last or OccamContext(0, 0.0)
        ctx = before.next_context(self._iter_num, batch.task_loss, **values)
        self._chain.on_batch_start(ctx)
        if ctx.updated and "grad_norm" in batch.gauges:
            ctx.begin_gradients(batch.gauges["grad_norm"], {})
            self._chain.on_gradients(ctx)
        rate = (ctx.update_rate * self._iter_num + ctx.updated) / (self._iter_num + 1)
        ctx.set_gauges(updates=ctx.updates + ctx.updated, update_rate=rate, **batch.gauges)
        self._chain.on_batch_end(ctx)
        if batch.val_loss is not None or ctx.consolidating:
            ctx.set_gauges(val_loss=ctx.task_loss if batch.val_loss is None else batch.val_loss)
            self._chain.on_evaluate(ctx)
            if ctx.consolidating:
                self._chain.on_consolidate(ctx)
        self.captured.contexts.append(ctx)
        self._last, self._iter_num = ctx, self._iter_num + 1
