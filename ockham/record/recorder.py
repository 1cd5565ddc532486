"""Recorder: appends inputs, decisions and resulting knobs of each hook to the log."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ockham.context import GAUGES, OccamContext, knob_values
from ockham.event import Decision, Value
from ockham.record.attempt import Attempt
from ockham.record.log_writer import EventPosition
from ockham.record.payloads import ContextRecord, StateRecord, field_values

# Replay starts at most this many batches before the decision it proves.
KEY_FRAME_BATCHES = 1_000
_DURABLE_KNOBS = frozenset({"accepted", "rollback", "halt"})


class Recorder:
    """Appends inputs, decisions and results of hooks to the log.

    Call `begin_hook` before a hook, `record_decision` from the chain, and `record_context` after the last
    plugin.

    Args:
        attempt: Attempt to whose log everything is appended.

    """

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt
        # The chain's state_dict.
        self.state: Callable[[], Mapping[str, Mapping[str, Any]]] = dict
        self._given: tuple[Value, ...] = ()
        self._given_custom: dict[str, float] = {}
        self._measured: dict[str, Value] = {}
        self._measured_custom: dict[str, float] = {}
        # Inputs of `on_gradients`. None if it was not run.
        self._gradients: dict[str, Any] | None = None
        self._first = self._count = 0
        self._since_frame = (
            # A log opens with a key frame, at the latest with its first batch.
            KEY_FRAME_BATCHES
        )
        self._places: dict[str, EventPosition] = {}
        # Plugin and reason code of the last decision that set each knob.
        self._reasons: dict[str, str] = {}

    def begin_hook(self, ctx: OccamContext) -> None:
        """Store the inputs of a hook that is about to run, and the gauges measured for it."""
        self._given, self._given_custom = field_values(ctx), dict(ctx.custom)
        self.set_measured(ctx)
        self._gradients = None
        self._first = self._count = 0

    def begin_gradients(self, ctx: OccamContext, knobs: Mapping[str, Value]) -> None:
        """Store the inputs of `on_gradients` that differ from those of `on_batch_start`."""
        self._gradients = dict(knobs)
        if ctx.custom != self._given_custom:
            self._gradients["custom"] = dict(ctx.custom)

    def set_measured(self, ctx: OccamContext) -> None:
        """Store the gauges that were measured for the hook that is about to run."""
        measured = ctx.measured_gauges
        self._measured = {name: getattr(ctx, name) for name in GAUGES if name in measured} if measured else {}
        self._measured_custom = dict(ctx.custom)

    def record_decision(self, decision: Decision) -> None:
        """Log one decision.

        Decisions about checkpoints, rollback, consolidation and halt are synced at once.
        """
        turned = decision.changes[-1].field if decision.changes else ""
        urgent = decision.hook == "on_evaluate" or turned in _DURABLE_KNOBS
        place = self.attempt.log.append("decision.made", decision, iter_num=decision.iter_num, urgent=urgent)
        # Not the next sequence when the hook began: the writer may seal a segment in between.
        if not self._count:
            self._first = place.sequence
        self._count += 1
        if decision.shadow:
            return
        for change in decision.changes:
            if change.after is True:
                self._places[change.field] = place
                self._reasons[change.field] = f"{decision.plugin} {decision.reason_code}"
        if decision.hook == "on_evaluate" and decision.action == "ALLOW":
            self._places["consolidating"] = place

    def record_context(
        self,
        ctx: OccamContext,
        hook: str,
        applied: Mapping[str, Value],
        seconds: Mapping[str, float],
        rows: Mapping[str, Any] | None = None,
    ) -> None:
        """Log the context with the decisions since `begin_hook`. `rows` is where the rows came from."""
        record = ContextRecord(
            ctx.iter_num,
            ctx.micro_step,
            hook,
            self._given,
            self._given_custom,
            self._measured,
            self._measured_custom,
            knob_values(ctx),
            applied,
            seconds,
            self._first,
            self._count,
            self._gradients,
            rows,
        )
        self.attempt.log.append("context.recorded", record, iter_num=ctx.iter_num)

    def record_key_frame_if_due(self, iter_num: int, micro_step: int) -> None:
        """Log a key frame if the interval has passed."""
        if self._since_frame >= KEY_FRAME_BATCHES:
            self.record_key_frame("INTERVAL", iter_num, micro_step)
        self._since_frame += 1

    def record_key_frame(self, trigger: str, iter_num: int, micro_step: int = 0) -> None:
        """Log the state of every plugin before the next batch, from which a replay can start."""
        self.attempt.key_frame(StateRecord(iter_num, micro_step, trigger, self.state()))
        self._since_frame = 0

    def record_evaluation(
        self,
        iter_num: int,
        trigger: str,
        val_loss: float,
        standard_error: float | None,
        tokens: int,
        seconds: float,
        weights_checksum: str | None = None,
    ) -> None:
        """Log a validation loss in nats per token."""
        evaluation = {
            "iter_num": iter_num,
            "trigger": trigger,
            "val_loss": val_loss,
            "standard_error": standard_error,
            "tokens": tokens,
            "seconds": seconds,
        }
        if weights_checksum is not None:
            evaluation["weights_checksum"] = weights_checksum
        self.attempt.log.append("evaluation.recorded", evaluation, iter_num=iter_num)

    def record_anchor_moved(
        self, ctx: OccamContext, drift: float, snapshot_id: str | None, weights_sha256: str | None
    ) -> None:
        """Log that the anchor moved to the present weights."""
        moved = {
            "iter_num": ctx.iter_num,
            "reason_code": "ANCHOR_MOVED",
            "decision_id": self.decision_id("consolidating"),
            "drift": drift,
            "val_loss": ctx.val_loss,
            "snapshot_id": snapshot_id,
            "weights_sha256": weights_sha256,
        }
        self.attempt.log.append("anchor.consolidated", moved, iter_num=ctx.iter_num)

    def record_rollback(
        self, iter_num: int, anchor_iter_num: int, drift: float, seconds: float, details: Mapping[str, Any]
    ) -> None:
        """Log that the weights returned to the anchor or to a saved state."""
        back = {
            "iter_num": iter_num,
            "decision_id": self.decision_id("rollback"),
            "anchor_iter_num": anchor_iter_num,
            "drift": drift,
            "seconds": seconds,
            **{name: value for name, value in details.items() if value is not None},
        }
        self.attempt.log.append("rollback.performed", back, iter_num=iter_num, urgent=True)

    def record_skipped_data(self, iter_num: int, first_position: int, end_position: int, by: str) -> None:
        """Log that positions of the data are not read."""
        is_rollback = by == "rollback"
        skipped = {
            "iter_num": iter_num,
            "first_position": first_position,
            "last_position": end_position - 1,
            "by": by,
            "reason_code": "ROLLED_BACK" if is_rollback else "SKIP_DATA_SETTING",
            "decision_id": self.decision_id("rollback") if is_rollback else None,
        }
        self.attempt.log.append("data.skipped", skipped, iter_num=iter_num, urgent=True)

    def explain_decision(self, knob: str) -> str:
        """Return ID, plugin and reason code of the last decision that set this knob, for people."""
        return f"{self.decision_id(knob)} ({self._reasons.get(knob, 'no reason')})"

    def decision_id(self, knob: str) -> str | None:
        """Return the ID of the last decision that set this knob, or None."""
        return self.attempt.event_id(self._places.get(knob))
