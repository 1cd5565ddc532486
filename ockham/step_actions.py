"""Actions that can follow an optimizer step.

They record an evaluation, save accepted weights, move the anchor, roll back, or end the run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, Protocol

from ockham.record.checkpoints import CheckpointFiles

if TYPE_CHECKING:
    from ockham.context import OccamContext
    from ockham.nano.anchor import Rollback
    from ockham.nano.trainer import Evaluation
    from ockham.run import Run

EvaluationTrigger = Literal["SCHEDULE", "CONSOLIDATION"]
# Reason code and a message for people. The message is None if the code is sufficient.
EndReason = tuple[str, str | None]


class StepTrainer(Protocol):
    """Trainer whose weights can be saved, anchored and rolled back."""

    @property
    def anchor(self) -> object | None:
        """Anchor weights, or None before the first."""
        ...

    def make_checkpoint_files(
        self, metadata: Mapping[str, Any], state: Mapping[str, Any] | None = None
    ) -> CheckpointFiles:
        """Return the files of a checkpoint."""
        ...

    def move_anchor(self, iter_num: int) -> float:
        """Make the present weights the anchor. Return the drift from the previous one."""
        ...

    def roll_back(self) -> Rollback:
        """Restore the anchor's weights and clear the optimizer's moments."""
        ...


def after_step(
    run: Run,
    trainer: StepTrainer,
    ctx: OccamContext,
    evaluation: Evaluation | None = None,
    *,
    trigger: EvaluationTrigger = "SCHEDULE",
    before_change: Callable[[], None] | None = None,
) -> EndReason | None:
    """Do what the context of a step requires. Return why the run ends, or None if it continues.

        ctx = run.end_batch(ctx, grad_norm=...)
        evaluation = trainer.evaluate() if evaluation_due or ctx.consolidating else None
        reason = ockham.after_step(run, trainer, ctx, evaluation)

    Args:
        run: The open run.
        trainer: Holds the weights.
        ctx: Context of the last micro-batch of the step.
        evaluation: Validation loss after the step. None if no evaluation was due.
        trigger: Why the evaluation took place.
        before_change: Called after an evaluation was recorded, and before a rollback.

    """
    if evaluation is not None:
        after_evaluation(run, trainer, ctx, evaluation, trigger=trigger, before_change=before_change)
    return roll_back_or_halt(run, trainer, ctx, before_change=before_change)


def after_evaluation(
    run: Run,
    trainer: StepTrainer,
    ctx: OccamContext,
    evaluation: Evaluation,
    *,
    trigger: EvaluationTrigger = "SCHEDULE",
    save_accepted: bool = True,
    before_change: Callable[[], None] | None = None,
) -> None:
    """Record an evaluation. Save accepted weights and move the anchor if the plugins decide so.

    Args:
        run: The open run.
        trainer: Holds the weights.
        ctx: Context of the step that was evaluated.
        evaluation: Validation loss.
        trigger: Why the evaluation took place.
        save_accepted: Save accepted weights as a checkpoint.
        before_change: Called after the evaluation was recorded.

    """
    run.evaluate(
        ctx,
        evaluation.loss,
        standard_error=evaluation.standard_error,
        tokens=evaluation.tokens,
        seconds=evaluation.seconds,
        trigger=trigger,
    )
    if before_change is not None:
        before_change()
    if ctx.accepted and save_accepted:
        run.save_checkpoint(ctx, "accepted", trainer.make_checkpoint_files)
    if ctx.consolidating:
        run.record_consolidation(ctx, drift=trainer.move_anchor(ctx.iter_num))


def roll_back_or_halt(
    run: Run, trainer: StepTrainer, ctx: OccamContext, *, before_change: Callable[[], None] | None = None
) -> EndReason | None:
    """Roll back if a plugin requires it. Return why the run ends, or None if it continues.

    Args:
        run: The open run.
        trainer: Holds the weights.
        ctx: Context of the step.
        before_change: Called before a rollback.

    """
    if ctx.rollback:
        if trainer.anchor is None:
            return "NO_ANCHOR", "a plugin requires a rollback, but there is no anchor"
        if before_change is not None:
            before_change()
        iter_num, drift, seconds = trainer.roll_back()
        run.record_rollback(ctx, anchor_iter_num=iter_num, drift=drift, seconds=seconds)
    if ctx.halt:
        return "HALTED_BY_POLICY", f"halted by decision {run.explain_decision('halt')}"
    return None
