"""Actions that can follow an optimizer step.

They record an evaluation, save accepted weights, move the anchor, roll back, or end the run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from ockham.event import STOPPED_BY_USER
from ockham.record.checkpoints import CheckpointFiles

if TYPE_CHECKING:
    from pathlib import Path

    from ockham.context import OccamContext
    from ockham.nano.anchor import Rollback
    from ockham.nano.data_order import DataOrder
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

    def roll_back(self, iter_num: int) -> Rollback:
        """Restore the anchor's weights and clear the optimizer's moments, in the step *iter_num*."""
        ...


@runtime_checkable
class StateTrainer(Protocol):
    """Trainer that can return to a saved state."""

    @property
    def state_every(self) -> int:
        """Steps between two states. 0 if rollbacks return to the anchor."""
        ...

    def roll_back_to(self, path: Path, state: Mapping[str, Any], iter_num: int) -> Rollback:
        """Restore the state of a checkpoint folder, in the step *iter_num*."""
        ...


class SampledData(Protocol):
    """Training data that is read in a data order."""

    order: DataOrder


class DataTrainer(Protocol):
    """Trainer that reads its data in a data order."""

    @property
    def batches(self) -> SampledData:
        """The training data."""
        ...


def before_step(run: Run, trainer: DataTrainer, iter_num: int) -> None:
    """Record the data that is skipped before a step. Call it before the first forward pass of the step.

    Args:
        run: The open run.
        trainer: Reads the data.
        iter_num: Iteration of the step.

    """
    for skipped in trainer.batches.order.skipped_before(iter_num):
        run.record_skipped_data(iter_num, skipped.first, skipped.end, by=skipped.by)


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
        end_reason = _roll_back(run, trainer, ctx, before_change)
        if end_reason is not None:
            return end_reason
    if ctx.halt:
        return "HALTED_BY_POLICY", f"halted by decision {run.explain_decision('halt')}"
    if run.stop_requested:
        return STOPPED_BY_USER, run.stop_message
    return None


def _roll_back(
    run: Run, trainer: StepTrainer, ctx: OccamContext, before_change: Callable[[], None] | None
) -> EndReason | None:
    """Return to the saved state or the anchor. Return why the run ends if both are missing."""
    every = trainer.state_every if isinstance(trainer, StateTrainer) else 0
    saved = run.find_saved_state(every) if every else None
    if saved is None and trainer.anchor is None:
        return "NO_ANCHOR", "a plugin requires a rollback, but there is no anchor and no saved state"
    if before_change is not None:
        before_change()
    if saved is None or not isinstance(trainer, StateTrainer):
        performed = trainer.roll_back(ctx.iter_num)
    else:
        performed = trainer.roll_back_to(saved.path, saved.state, ctx.iter_num)
    data = performed.data
    run.record_rollback(
        ctx,
        anchor_iter_num=performed.iter_num,
        drift=performed.drift,
        seconds=performed.seconds,
        after_rollback=None if data is None else data.mode,
        next_position=None if data is None else data.next_position,
        snapshot_id=None if saved is None else saved.snapshot_id,
        weights_sha256=None if saved is None else saved.weights_sha256,
    )
    if data is not None and data.skipped is not None:
        run.record_skipped_data(ctx.iter_num, data.skipped.first, data.skipped.end, by=data.skipped.by)
    if saved is not None:
        run.restore_saved_state(ctx, saved.state["run"])
    return None
