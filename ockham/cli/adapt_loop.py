"""The loop of `ockham adapt`: every batch is served and scored before it may update."""

from __future__ import annotations

import math
from collections.abc import Callable, MutableMapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ockham import OccamContext, Run
    from ockham.nano import Adaptation, ProgressLine

Ended = tuple[str, str | None]  # reason code and, for people, a sentence


def update_served_losses(custom: MutableMapping[str, float], loss: float, *, new: bool) -> None:
    """Means of the losses that were served so far, before any update from them: of all, of new, of familiar text."""
    custom["new_text"] = float(new)
    for name in ("served", "served_new" if new else "served_familiar") if math.isfinite(loss) else ():
        count = custom[f"{name}_batches"] = custom.get(f"{name}_batches", 0.0) + 1
        mean = custom.get(f"{name}_loss", 0.0)
        custom[f"{name}_loss"] = mean + (loss - mean) / count


def serve_step(run: Run, adaptation: Adaptation, iter_num: int) -> OccamContext:
    """Serve and score each micro-batch, then let the chain say whether it may update.

    Which text it is goes into the record after the verdict: no plugin can have known.
    """
    trainer = adaptation.trainer
    last = trainer.settings.gradient_accumulation_steps - 1
    for micro_step in range(last + 1):
        task_loss = trainer.forward(iter_num, micro_step)
        with trainer.meter.stage("chain"):
            ctx = run.start_batch(
                iter_num, task_loss, micro_step, **trainer.context_fields(iter_num, micro_step)
            )
        update_served_losses(ctx.custom, task_loss, new=adaptation.stream.is_new(iter_num, micro_step))
        trainer.backward(ctx)
        stepped, gauges = trainer.step() if micro_step == last else (False, {})
        seconds = trainer.meter.finish_batch(updated=ctx.updated)()
        with trainer.meter.stage("chain"):
            run.end_batch(ctx, stepped=stepped, applied={"updated": stepped}, seconds=seconds, **gauges)
    return ctx


def after_step(run: Run, adaptation: Adaptation, ctx: OccamContext, *, due: bool) -> Ended | None:
    """What may follow a batch: evaluation, an accepted checkpoint, a new anchor, a rollback, the end."""
    if due or ctx.consolidating:
        new, familiar = adaptation.evaluate()
        share = adaptation.stream.new_fraction
        ctx.custom.update(new_loss=new.loss, familiar_loss=familiar.loss)
        error = math.hypot(share * new.standard_error, (1 - share) * familiar.standard_error)
        run.evaluate(ctx, share * new.loss + (1 - share) * familiar.loss, standard_error=error,
                     tokens=new.tokens + familiar.tokens, seconds=new.seconds + familiar.seconds,
                     trigger="SCHEDULE" if due else "CONSOLIDATION")  # fmt: skip
        check_revert(run, adaptation, ctx.iter_num)
        if ctx.accepted:
            run.save_checkpoint(ctx, "accepted", adaptation.pack)
        if ctx.consolidating:
            run.record_consolidation(ctx, drift=adaptation.trainer.move_anchor(ctx.iter_num))
    if ctx.rollback:
        check_revert(run, adaptation, ctx.iter_num)
        anchor_iter, drift, seconds = adaptation.trainer.roll_back()
        run.record_rollback(ctx, anchor_iter_num=anchor_iter, drift=drift, seconds=seconds)
    return ("HALTED_BY_POLICY", f"halted by decision {run.decision_id('halt')}") if ctx.halt else None


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
) -> Ended:
    """The loop, from iteration `first`; returns why it ended."""
    total = adaptation.trainer.settings.max_iters
    evaluate_every = max(1, total // run.policy.hyperparameters["evaluations"])
    keep_every = adaptation.trainer.settings.checkpoint_every or total
    for iter_num in range(first, total):
        ctx = serve_step(run, adaptation, iter_num)
        ended = after_step(run, adaptation, ctx, due=(iter_num + 1) % evaluate_every == 0)
        line.show(iter_num, ctx.task_loss, ctx.update_rate, ctx.val_loss)
        if interrupted() and ended is None:
            ended = "INTERRUPTED", None
        if ended or (iter_num + 1) % keep_every == 0:
            run.save_checkpoint(ctx, "resume", adaptation.pack)
        if ended:
            return ended
    return "COMPLETED", None
