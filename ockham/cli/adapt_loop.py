"""The loop of `ockham adapt`: every batch is served and scored before it may update."""

from __future__ import annotations

import math
from collections.abc import Callable, MutableMapping
from functools import partial
from typing import TYPE_CHECKING

from ockham.step_actions import EndReason, after_step

if TYPE_CHECKING:
    from ockham import OccamContext, Run
    from ockham.nano import Adaptation, ProgressLine
    from ockham.nano.trainer import Evaluation


def update_served_losses(custom: MutableMapping[str, float], loss: float, *, new: bool) -> None:
    """Means of the losses that were served so far, before any update from them: of all, of new, of familiar text."""
    custom["new_text"] = float(new)
    for name in ("served", "served_new" if new else "served_familiar") if math.isfinite(loss) else ():
        count = custom[f"{name}_batches"] = custom.get(f"{name}_batches", 0.0) + 1
        mean = custom.get(f"{name}_loss", 0.0)
        custom[f"{name}_loss"] = mean + (loss - mean) / count


def serve_step(run: Run, adaptation: Adaptation, iter_num: int) -> OccamContext:
    """Serve and score each micro-batch, then let the chain decide whether it may update the weights.

    The kind of text is recorded after the verdict, so that no plugin can use it.
    """
    trainer = adaptation.trainer
    for micro_step in range(trainer.settings.gradient_accumulation_steps):
        task_loss = trainer.forward(iter_num, micro_step)
        with trainer.meter.stage("chain"):
            fields = trainer.context_fields(iter_num, micro_step)
            ctx = run.start_batch(iter_num, task_loss, micro_step, **fields)
        update_served_losses(ctx.custom, task_loss, new=adaptation.stream.is_new(iter_num, micro_step))
        trainer.backward(ctx)
        stepped, gauges, seconds = trainer.finish_batch(ctx)
        with trainer.meter.stage("chain"):
            run.end_batch(ctx, stepped=stepped, applied={"updated": stepped}, seconds=seconds, **gauges)
    return ctx


def evaluate_stream(adaptation: Adaptation, ctx: OccamContext) -> Evaluation:
    """Evaluate on held-out new and familiar text. Return the mean, weighted as in the stream."""
    new, familiar = adaptation.evaluate()
    ctx.custom.update(new_loss=new.loss, familiar_loss=familiar.loss)
    return adaptation.combine_evaluations(new, familiar)


def check_revert(run: Run, adaptation: Adaptation, iter_num: int) -> None:
    """Show, while serving, that there is a way back: the adapter goes off, timed and compared, and on again."""
    if adaptation.adapter is not None:
        off = adaptation.disable_adapter()
        run.emit("adapter.reverted", {"iter_num": iter_num, **off._asdict()}, iter_num=iter_num)
        enable_adapter(run, adaptation, iter_num)


def enable_adapter(run: Run, adaptation: Adaptation, iter_num: int) -> None:
    """Put the adapter on, where there is one, and say what it adds."""
    adapter = adaptation.adapter
    if adapter is not None:
        adapter.enable()
        enabled = {
            "iter_num": iter_num, "layers": adapter.layers, "rank_of_adapter": adapter.rank,
            "added_params": adapter.added_params, "model_params": adapter.model_params,
            "weights_sha256": adaptation.base_sha256,
        }  # fmt: skip
        run.emit("adapter.enabled", enabled, iter_num=iter_num)


def adapt_loop(
    run: Run, adaptation: Adaptation, first: int, line: ProgressLine, interrupted: Callable[[], bool]
) -> EndReason:
    """The loop, from iteration `first`; returns why it ended."""
    total = adaptation.trainer.settings.max_iters
    evaluate_every = max(1, total // run.policy.hyperparameters["evaluations"])
    keep_every = adaptation.trainer.settings.checkpoint_every or total
    for iter_num in range(first, total):
        ctx = serve_step(run, adaptation, iter_num)
        evaluation_due = (iter_num + 1) % evaluate_every == 0
        ended = after_step(
            run,
            adaptation,
            ctx,
            evaluate_stream(adaptation, ctx) if evaluation_due or ctx.consolidating else None,
            trigger="SCHEDULE" if evaluation_due else "CONSOLIDATION",
            before_change=partial(check_revert, run, adaptation, iter_num),
        )
        line.show(iter_num, ctx.task_loss, ctx.update_rate, ctx.val_loss)
        if interrupted() and ended is None:
            ended = "INTERRUPTED", None
        if ended or (iter_num + 1) % keep_every == 0:
            run.save_checkpoint(ctx, "resume", adaptation.make_checkpoint_files)
        if ended:
            return ended
    return "COMPLETED", None
