"""Runs with fixed losses and stage times, so that the results of a study can be calculated by hand."""

from __future__ import annotations

from ockham.plugin import OccamPlugin
from ockham.plugins.finite import FinitePlugin
from ockham.policy import policy_from_plugins
from ockham.run import Run

SECONDS = {"forward": 1.0, "backward": 1.5, "optimizer": 0.5, "chain": 0.1}


class EveryOther(OccamPlugin):
    """Plugin that skips every odd batch, or every odd micro-batch under accumulation."""

    name = "every_other"

    def on_batch_start(self, ctx):
        if (ctx.micro_step if ctx.micro_steps > 1 else ctx.iter_num) % 2:
            ctx.updated = False
            ctx.decide("SKIP", "ODD")


def planned(runs, run_id, losses, *, skipping, seed=7, digest="0" * 64, tokens=10, micro_steps=1):
    """Write a run with 10 batches and then one evaluation per loss."""
    plugins = [FinitePlugin(), *([EveryOther()] if skipping else [])]
    assert policy_from_plugins(plugins)
    facts = {
        "max_iters": 10 * len(losses),
        "seed": seed,
        "model_params": 100,
        "inference_flops": 10.0,
        "inference_tokens": tokens,
        "memory_footprint_mb": 1.0,
    }
    settings = {"batch_size": 2, "block_size": 5, "gradient_accumulation_steps": micro_steps}
    with Run(
        plugins=plugins,
        runs=runs,
        run_id=run_id,
        facts=facts,
        settings=settings,
        data={"name": "planned", "sha256": digest},
    ) as run:
        for i in range(10 * len(losses)):
            for micro in range(micro_steps):
                ctx = run.start_batch(i, 3.0, micro, micro_steps=micro_steps)
                run.end_batch(ctx, seconds=_seconds(ctx))
            if i % 10 == 9:
                run.evaluate(ctx, losses[i // 10], trigger="SCHEDULE")
    return run_id


def _seconds(ctx):
    """Return the stage times of a batch. The first micro-batch of a step always updates."""
    seconds = dict(SECONDS)
    if not ctx.updated:
        del seconds["backward"]
    if not ctx.ends_step or (ctx.micro_steps == 1 and not ctx.updated):
        del seconds["optimizer"]
    return seconds
