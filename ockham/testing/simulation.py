"""A run without a trainer: plugins go through every hook over made-up batches."""

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
    """What one batch of a made-up run brings: facts and scheduled knobs, then gauges, then perhaps an evaluation."""

    task_loss: float
    fields: Mapping[str, Any] = field(default_factory=dict)
    gauges: Mapping[str, Any] = field(default_factory=dict)
    val_loss: float | None = None


@dataclass
class Captured:
    """What the plugins did: all decisions in order, and the context of each batch as it was left."""

    decisions: list[Decision] = field(default_factory=list)
    contexts: list[OccamContext] = field(default_factory=list)

    @property
    def reasons(self) -> list[str]:
        """The reason codes in order."""
        return [decision.reason_code for decision in self.decisions]


def capture(
    *plugins: OccamPlugin, losses: Sequence[float] = (), batches: Iterable[Batch] = (), **fields: Any
) -> Captured:
    """Run plugins through every hook as a trainer would, over losses or whole batches.

    Args:
        plugins: in the order of the chain.
        losses: one batch each, in nats per token.
        batches: the same with gauges and evaluations of their own.
        fields: facts, and knobs at their scheduled value, that hold for every batch.

    Raises:
        PluginError: if a plugin raises.

    """
    rehearsal = SimulatedRun(plugins)
    for batch in [*map(Batch, losses), *batches]:
        rehearsal.run_batch(batch, fields)
    return rehearsal.captured


def sample_batches(batches: int = BATCHES) -> Iterator[Batch]:
    """A made-up run: falling losses, NaN and infinity, clipped steps, drift, KL, evaluations; the same every time."""
    for i in range(batches):
        noise = counter_uniform("story", i) - 0.5
        loss = {50: math.nan, 51: math.inf, 120: math.nan}.get(i, 5 * math.exp(-i / 80) + 1 + noise)
        drift = math.nan if i == 130 else 0.01 * (i % 60)
        gauges = {
            "complexity_cost": drift, "drift_raw": 1.1 * drift, "drift_sq": drift * drift,
            "grad_norm": math.inf if i == 140 else 2 + 3 * noise,
            "kl_to_anchor": 0.02 * (i % 40) if i % 10 == 0 else math.nan if i == 145 else None,
        }  # fmt: skip
        fields = {
            "seed": 7, "max_iters": batches, "warmup_iters": 20, "vocab_size": 256, "model_params": 10_000,
            "anchor_available": i > 20, "learning_rate": 1e-3 * min(1, (i + 1) / 20), "tokens_seen": 768 * i,
            "example_losses": tuple(loss + counter_uniform("story", i, at) - 0.5 for at in range(4)),
        }  # fmt: skip
        val_loss = math.nan if i == 149 else loss + 0.1 if i % 10 == 9 else None
        yield Batch(loss, fields, gauges, val_loss)


class SimulatedRun:
    """A run without a trainer: what it does mechanically between the hooks."""

    def __init__(self, plugins: Sequence[OccamPlugin], after: OccamContext | None = None) -> None:
        self.captured = Captured()
        self._chain = PluginChain(plugins, self.captured.decisions.append)
        self._base = base_knobs(plugins, {})
        self._last = after
        self._iter_num = after.iter_num + 1 if after else 0

    def run_batch(self, batch: Batch, fields: Mapping[str, Any]) -> None:
        """Take one batch through every hook that is due."""
        known = merge_scheduled_knobs(self._base, {**fields, **batch.fields})
        before = self._last or OccamContext(0, 0.0)
        ctx = before.next_context(self._iter_num, batch.task_loss, **known)
        self._chain.on_batch_start(ctx)
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
