"""Loop of `ockham adapt`: each batch is served and scored before it may update the weights."""

from __future__ import annotations

import math
from collections.abc import Callable, MutableMapping
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ockham import OccamContext, Run
    from ockham.nano import Adaptation, ProgressLine
    from ockham.nano.trainer import Evaluation
    from ockham.step_actions import EndReason


def update_served_losses(custom: MutableMapping[str, float], loss: float, *, new: bool) -> None:
    """Update the mean losses of all served text, of new and of familiar text.

    The loss of each batch is the one before an update on it.
    """
    custom["new_text"] = float(new)
    if not math.isfinite(loss):
        return
    for name in ("served", "served_new" if new else "served_familiar"):
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
            rows = trainer.batches.data_position(iter_num, micro_step)
            ctx = run.start_batch(iter_num, task_loss, micro_step, data=rows, **fields)
        update_served_losses(ctx.custom, task_loss, new=adaptation.stream.is_new(iter_num, micro_step))
        trainer.backward(ctx)
        if run.acts_on_gradients and (norm := trainer.measure_gradients(ctx)) is not None:
            with trainer.meter.stage("chain"):
                run.gradients(ctx, grad_norm=norm)
        applied, gauges, seconds = trainer.finish_batch(ctx)
        with trainer.meter.stage("chain"):
            run.end_batch(ctx, applied=applied, seconds=seconds, **gauges)
    return ctx


def evaluate_stream(adaptation: Adaptation, ctx: OccamContext) -> Evaluation:
    """Evaluate on held-out new and familiar text. Return the mean, weighted as in the stream."""
    new, familiar = adaptation.evaluate()
    ctx.custom.update(new_loss=new.loss, familiar_loss=familiar.loss)
    return adaptation.combine_evaluations(new, familiar)


def check_revert(run: Run, adaptation: Adaptation, iter_num: int) -> None:
    """Disable the adapter, check that the base weights are unchanged, and enable it again."""
    if adaptation.adapter is not None:
        result = adaptation.disable_adapter()
        run.emit("adapter.reverted", {"iter_num": iter_num, **result._asdict()}, iter_num=iter_num)
        enable_adapter(run, adaptation, iter_num)


def enable_adapter(run: Run, adaptation: Adaptation, iter_num: int) -> None:
    """Enable the adapter, if there is one, and record what it adds."""
    adapter = adaptation.adapter
    if adapter is not None:
        adapter.enable()
        enabled = {
            "iter_num": iter_num,
            "layers": adapter.layers,
            "rank_of_adapter": adapter.rank,
            "added_params": adapter.added_params,
            "model_params": adapter.model_params,
            "weights_sha256": adaptation.base_sha256,
        }
        run.emit("adapter.enabled", enabled, iter_num=iter_num)


def adapt_loop(
    run: Run, adaptation: Adaptation, first: int, line: ProgressLine, interrupted: Callable[[], bool]
) -> EndReason:
    """Serve and adapt from iteration `first`. Return the reason code of the end and a message for people."""
    from ockham.step_actions import after_step, before_step

    total = adaptation.trainer.settings.max_iters
    evaluation_interval = max(1, total // run.policy.hyperparameters["evaluations"])
    checkpoint_interval = adaptation.trainer.settings.checkpoint_every or total
    for iter_num in range(first, total):
        before_step(run, adaptation, iter_num)
        ctx = serve_step(run, adaptation, iter_num)
        evaluation_due = (iter_num + 1) % evaluation_interval == 0
        end_reason = after_step(
            run,
            adaptation,
            ctx,
            evaluate_stream(adaptation, ctx) if evaluation_due or ctx.consolidating else None,
            trigger="SCHEDULE" if evaluation_due else "CONSOLIDATION",
            before_change=partial(check_revert, run, adaptation, iter_num),
        )
        line.show(iter_num, ctx.task_loss, ctx.update_rate, ctx.val_loss)
        if interrupted() and end_reason is None:
            end_reason = "INTERRUPTED", None
        if end_reason or (iter_num + 1) % checkpoint_interval == 0:
            run.save_checkpoint(ctx, "resume", adaptation.make_checkpoint_files)
        if end_reason:
            return end_reason
    return "COMPLETED", None
