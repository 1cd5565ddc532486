"""Calls of a training loop for each batch, evaluation and consolidation. `ockham.Run` inherits them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Literal

from ockham.acceptance import MIN_BATCHES
from ockham.applied_step import BATCH_ABANDONED, AppliedStep, NotApplied
from ockham.chain import merge_scheduled_knobs
from ockham.context import OccamContext
from ockham.data_position import parse_data_position
from ockham.errors import OckhamWarning, RunError, VerdictNotAppliedError
from ockham.event import Value
from ockham.gradient_calls import GradientCalls
from ockham.person_calls import PersonCalls
from ockham.plugins.memory import OckhamMemory
from ockham.policy import Policy
from ockham.quotient import Performance
from ockham.record.counters import RunCounters

# Evaluations and consolidations take no step.
_NOTHING_APPLIED: Mapping[str, Any] = {"updated": False}


class BatchCalls(GradientCalls, PersonCalls):
    """Runs the hooks of the chain and records their inputs, decisions and results.

    `ockham.Run` sets the attributes.
    """

    policy: Policy
    counts: RunCounters
    _knobs: dict[str, Value]
    _last: OccamContext
    _rows: Mapping[str, Any] | None
    _performance: Performance
    memory: OckhamMemory | None
    _warned_none_accepted: bool
    # Whether each rank passes its own losses, and steps between two comparisons of the ranks' weights.
    _averages_losses: bool = False
    _weights_interval: int

    def start_batch(
        self,
        iter_num: int | None = None,
        task_loss: float | None = None,
        micro_step: int | None = None,
        *,
        loss: float | None = None,
        micro_steps: int = 1,
        tokens: int | None = None,
        data: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> OccamContext:
        """Build the context of a batch whose loss was read, and run `on_batch_start`.

            ctx = run.start_batch(loss=loss.item())

        Args:
            iter_num: Optimizer step, from 0. None counts the steps.
            task_loss: Loss in nats per token, a Python float.
            micro_step: Micro-batch within the step, from 0. None counts the micro-batches.
            loss: Other name of `task_loss`, for calls without `iter_num`.
            micro_steps: Number of micro-batches of the step.
            tokens: Number of tokens of this loss. The run of `ockham.Run.distributed` weights the losses of
                the ranks by it. None gives all ranks the same weight.
            data: Where the rows of this batch came from, as the loader knows it: `indices` (at most 1,024
                numbers of rows), `digest` (of the rows or their indices) or `position` (number of the batch
                in the loader's order). It is recorded. Plugins do not receive it. None records nothing.
            fields: Facts of this batch, and knobs at their scheduled value, such as `learning_rate`.

        Returns:
            The context. Its knobs contain what the trainer has to do.

        Raises:
            BadInputError: If the loss is missing, *data* is not accepted, or the batch does not follow the
                one before.
            RankDivergedError: If the ranks reached different verdicts.

        """
        self._require_open("start_batch")
        self._require_not_stopped()
        rows = parse_data_position(data)
        number = self._audit.start(iter_num, micro_step, micro_steps, fields)
        if number.micro_step == 0:
            self._apply_interventions(number.iter_num)
        self._recorder.record_key_frame_if_due(number.iter_num, number.micro_step)
        value = _one_loss(task_loss, loss)
        if self._averages_losses:
            fields["rank_loss"], value = value, self.peers.average_loss(value, tokens).loss
        ctx = self._last.next_context(
            number.iter_num,
            value,
            micro_step=number.micro_step,
            micro_steps=micro_steps,
            **merge_scheduled_knobs(self._knobs, fields),
        )
        ctx.check_custom()
        self._recorder.begin_hook(ctx)
        self.chain.on_batch_start(ctx)
        self._audit.note_verdict(ctx)
        self._rows = rows
        return self._require_agreement(ctx, "on_batch_start")

    def end_batch(
        self,
        ctx: OccamContext,
        *,
        stepped: bool | None = None,
        applied: AppliedStep | None = None,
        seconds: Mapping[str, float] | None = None,
        **gauges: Any,
    ) -> OccamContext:
        """Report what was done with the batch, run `on_batch_end` and record the context.

        A verdict that was not carried out is recorded as `verdict.not_applied`. The policy's
        `on_verdict_not_applied` decides whether it ends the run.

        Args:
            ctx: Context returned by `start_batch`.
            stepped: Whether the optimizer took a step. None if the loop does not know.
            applied: Measurement at the optimizer. None uses the measurement of `watch`.
            seconds: Duration of each stage in seconds.
            gauges: Measurements after the step, such as `grad_norm` and `complexity_cost`.

        Raises:
            BadInputError: If the batch was not started, or has ended.
            ContextError: If a gauge or a metric in `ctx.custom` is not valid.
            RankDivergedError: If the ranks reached different verdicts.
            VerdictNotAppliedError: If the policy stops the run because a verdict was not carried out.

        """
        self._require_open("end_batch")
        ctx.check_custom()
        if ctx.ends_step and "grad_norm" in gauges:
            self._complete_gradients(ctx, gauges)
        step, counts_as_step, not_applied = self._audit.end(
            ctx, applied, stepped=stepped, grad_norm=gauges.get("grad_norm")
        )
        counts = self.counts
        counts.add_batch(ctx, seconds or {}, stepped=counts_as_step)
        ctx.set_gauges(update_rate=counts.updated / max(counts.finite, 1), updates=counts.steps, **gauges)
        self._recorder.set_measured(ctx)
        self.chain.on_batch_end(ctx)
        has_news = ctx.ends_step and self._requests.poll()
        self._require_agreement(ctx, "on_batch_end", has_news=has_news)
        self._recorder.record_context(ctx, "batch", step.recorded(), seconds or {}, self._rows)
        self._last = ctx
        for found in not_applied:
            self._report_not_applied(ctx, found)
        if self._weights_interval and ctx.ends_step and ctx.iter_num % self._weights_interval == 0:
            self._require_equal_weights(ctx, "on_batch_end")
        if ctx.ends_step:
            self._requests.answer(ctx.iter_num, has_news=self.peers.has_news)
        return ctx

    def abandon_step(self, ctx: OccamContext | None = None) -> None:
        """End the present step without an optimizer step, such as after an exception in the loop.

        The next batch starts another step.

        Args:
            ctx: Context of a batch that was started and has not ended. None if all batches have ended.

        """
        if ctx is not None:
            self.end_batch(ctx, applied=AppliedStep(stepped=False, cause=BATCH_ABANDONED))
        self._audit.abandon_step()

    def evaluate(
        self,
        ctx: OccamContext,
        val_loss: float,
        *,
        standard_error: float | None = None,
        tokens: int = 0,
        seconds: float = 0.0,
        trigger: Literal["SCHEDULE", "CONSOLIDATION", "USER"] = "USER",
        **gauges: Any,
    ) -> OccamContext:
        """Record a validation loss and run `on_evaluate`.

        Afterwards `ctx.accepted` contains the result of the memory.

        Args:
            ctx: Context of the batch after which the loss was measured.
            val_loss: Validation loss in nats per token. In a run of `ockham.Run.distributed` it is that of
                this rank: the mean over the ranks is recorded, weighted by `tokens`.
            standard_error: Standard error of the loss. None if unknown.
            tokens: Number of tokens that were read. 0 if unknown.
            seconds: Duration in seconds.
            trigger: Why the evaluation took place.
            gauges: Further measurements.

        Raises:
            RankDivergedError: If the ranks reached different verdicts, or have different weights.

        """
        self._require_open("evaluate")
        if self._averages_losses:
            val_loss, total = self.peers.average_loss(val_loss, tokens)
            tokens = total or 0
        checksum = None if self._weights_meter is None else self._weights_meter.checksum()
        self._recorder.record_evaluation(
            ctx.iter_num, trigger, val_loss, standard_error, tokens, seconds, checksum
        )
        self._require_equal_weights(ctx, "on_evaluate")
        quotient = ctx.quotient_of_loss(val_loss, self._performance)
        ctx.measured_gauges.clear()
        ctx.set_gauges(val_loss=val_loss, occam_quotient=quotient, **gauges)
        self._recorder.begin_hook(ctx)
        self.chain.on_evaluate(ctx)
        self._require_agreement(ctx, "on_evaluate")
        self.counts.add_evaluation(val_loss, accepted=ctx.accepted)
        self._recorder.record_context(ctx, "on_evaluate", _NOTHING_APPLIED, {"evaluation": seconds})
        self._warn_if_none_accepted(ctx)
        return ctx

    def record_consolidation(
        self,
        ctx: OccamContext,
        *,
        drift: float,
        snapshot_id: str | None = None,
        weights_sha256: str | None = None,
    ) -> OccamContext:
        """Record that the anchor moved to the present weights, and run `on_consolidate`."""
        self._require_open("record_consolidation")
        self._recorder.record_anchor_moved(ctx, drift, snapshot_id, weights_sha256)
        ctx.measured_gauges.clear()
        self._recorder.begin_hook(ctx)
        self.chain.on_consolidate(ctx)
        self._recorder.record_context(ctx, "on_consolidate", _NOTHING_APPLIED, {})
        ctx.set_gauges(complexity_cost=0.0, drift_raw=0.0, drift_sq=0.0)
        return ctx

    def record_rollback(
        self,
        ctx: OccamContext,
        *,
        anchor_iter_num: int,
        drift: float,
        seconds: float,
        after_rollback: Literal["skip_data", "repeat"] | None = None,
        next_position: int | None = None,
        snapshot_id: str | None = None,
        weights_sha256: str | None = None,
    ) -> None:
        """Record that the weights returned to the anchor or to a saved state.

        Without a saved state, the gauges of drift start again at 0.

        Args:
            ctx: Context of the step that requested it.
            anchor_iter_num: Iteration of the restored weights.
            drift: Relative drift before.
            seconds: Duration in seconds.
            after_rollback: Whether the rows since the restored weights are skipped or read again. None if
                unknown.
            next_position: Position in the data that the next iteration reads. None if unknown.
            snapshot_id: Saved state that was restored. None for the anchor.
            weights_sha256: Digest of its weights. None for the anchor.

        """
        self._require_open("record_rollback")
        details = {
            "after_rollback": after_rollback,
            "next_position": next_position,
            "snapshot_id": snapshot_id,
            "weights_sha256": weights_sha256,
        }
        self._recorder.record_rollback(ctx.iter_num, anchor_iter_num, drift, seconds, details)
        if snapshot_id is None:
            ctx.set_gauges(complexity_cost=0.0, drift_raw=0.0, drift_sq=0.0)

    def record_skipped_data(
        self,
        iter_num: int,
        first_position: int,
        end_position: int,
        *,
        by: Literal["user", "rollback"] = "user",
    ) -> None:
        """Record that positions of the data are not read. Later rows are read in their place.

        Args:
            iter_num: First iteration that reads later rows, or iteration of the rollback.
            first_position: First position that is not read.
            end_position: First position after the range.
            by: Who skips them.

        """
        self._require_open("record_skipped_data")
        self._recorder.record_skipped_data(iter_num, first_position, end_position, by)

    def explain_decision(self, knob: str) -> str:
        """Return ID, plugin and reason code of the last decision that set *knob*, for people."""
        return self._recorder.explain_decision(knob)

    def _warn_if_none_accepted(self, ctx: OccamContext) -> None:
        """Warn once, in the second half of a run, if the memory accepted nothing so far."""
        if self._warned_none_accepted or 2 * ctx.iter_num < ctx.max_iters:
            return
        if (explanation := self._explain_no_acceptance()) is not None:
            self._warned_none_accepted = True
            warnings.warn(f"iteration {ctx.iter_num}: {explanation}", OckhamWarning, stacklevel=3)

    def _explain_no_acceptance(self) -> str | None:
        """Return why nothing was accepted so far. None in a short run, or if the policy allows it."""
        lowest, _ = self.policy.targets.get("accept_rate", (1.0, 1.0))
        if self.memory is None or lowest == 0 or self.counts.batches < MIN_BATCHES:
            return None
        return self.memory.explain_no_acceptance()

    def _report_not_applied(self, ctx: OccamContext, found: NotApplied) -> None:
        """Record a verdict that was not carried out. Raise or warn, as the policy requires."""
        self.attempt.log.append(
            "verdict.not_applied", found.event(ctx), iter_num=ctx.iter_num, urgent=not found.is_refusal
        )
        if found.is_refusal:
            return
        what = f"{found.describe()} ({found.reason_code})"
        message = f"iteration {ctx.iter_num}: a verdict was not carried out: {what}"
        if self.policy.hyperparameters.get("on_verdict_not_applied") == "stop":
            raise VerdictNotAppliedError(message)
        warnings.warn(message, OckhamWarning, stacklevel=3)


def _one_loss(task_loss: float | None, loss: float | None) -> float:
    losses = [value for value in (task_loss, loss) if value is not None]
    if len(losses) != 1:
        raise RunError("start_batch takes the loss once: run.start_batch(loss=...) or (iter_num, task_loss)")
    return losses[0]
