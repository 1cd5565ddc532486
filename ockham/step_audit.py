"""Step audit: numbers of the batches, and the comparison of each verdict with the measured step."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

from ockham.applied_step import NONFINITE_GRADIENT, AppliedStep, NotApplied, find_not_applied
from ockham.batch_numbers import BatchNumber, BatchNumbers
from ockham.context import OccamContext
from ockham.errors import BadInputError


class Meter(Protocol):
    """Measures the steps of optimizers, such as `ockham.nano.StepMeter`."""

    def scheduled_learning_rate(self) -> float:
        """Return the present learning rate of the first parameter group."""
        ...

    def scaled_learning_rates(self, learning_rate: float) -> AbstractContextManager[None]:
        """Return a context manager that scales the learning rates of all groups to that of the first one."""
        ...

    def start(self) -> None:
        """Start a measurement."""
        ...

    def read(self, cause: str = "") -> AppliedStep:
        """Return what happened since `start`."""
        ...

    def checksum(self, *, replicated: bool = False) -> str | None:
        """Return a checksum of the weights. None without weights. *replicated* leaves out sharded ones."""
        ...

    def close(self) -> None:
        """Stop measuring."""
        ...


class StepOutcome(NamedTuple):
    """Measurement of a batch, whether it counts as a step, and the verdicts that were not applied."""

    applied: AppliedStep
    counts_as_step: bool
    not_applied: tuple[NotApplied, ...]


class StepAudit:
    """Follows the batches of one attempt.

    Args:
        first: Iteration of the first batch. None accepts any.

    """

    def __init__(self, first: int | None = None) -> None:
        self.numbers = BatchNumbers(first)
        self.meter: Meter | None = None
        self._accepted: OccamContext | None = None
        self._has_scheduled_rate = False
        # Whether the verdict on the gradients of the present step was requested.
        self.has_gradients = False

    def start(
        self, iter_num: int | None, micro_step: int | None, micro_steps: int, fields: dict[str, Any]
    ) -> BatchNumber:
        """Return the number of the batch that starts. Add the optimizer's learning rate to *fields*.

        Raises:
            BadInputError: If the batch does not follow the one before.

        """
        number = self.numbers.start(iter_num, micro_step, micro_steps)
        if number.micro_step == 0:
            self._has_scheduled_rate = self.has_gradients = False
        if self.meter is not None:
            fields.setdefault("learning_rate", self.meter.scheduled_learning_rate())
            self.meter.start()
        self._has_scheduled_rate |= "learning_rate" in fields
        return number

    def note_verdict(self, ctx: OccamContext) -> None:
        """Store the verdict of the chain about a batch."""
        if ctx.updated:
            self._accepted = ctx

    def begin_gradients(self, ctx: OccamContext) -> OccamContext | None:
        """Return the last accepted micro-batch of a step whose gradients are complete. None without one.

        Raises:
            BadInputError: If the batch is not the present one, not the last one of its step, or this is the
                second call for the step.

        """
        self.numbers.require_open(ctx.iter_num, ctx.micro_step)
        if not ctx.ends_step:
            raise BadInputError(
                f"run.gradients: micro-step {ctx.micro_step} of {ctx.micro_steps} does not end the step; "
                "call it once per step, after the last micro-batch"
            )
        if self.has_gradients:
            raise BadInputError(
                f"run.gradients: called twice for iteration {ctx.iter_num}; call it once per step"
            )
        self.has_gradients = self._accepted is not None
        return self._accepted

    def note_gradients(self, ctx: OccamContext) -> None:
        """Store the verdict of the chain about the gradients of the step."""
        self._accepted = ctx

    def end(
        self,
        ctx: OccamContext,
        applied: AppliedStep | None,
        *,
        stepped: bool | None,
        grad_norm: float | None = None,
    ) -> StepOutcome:
        """Return the measurement of a batch that ends, compared with the verdicts on its step.

        Args:
            ctx: Context of the batch.
            applied: Measurement of the loop. None uses the meter, if there is one.
            stepped: Whether the optimizer took a step, as the loop reports it.
            grad_norm: Norm of the gradient, if this batch measured it.

        Raises:
            BadInputError: If the batch was not started.

        """
        self.numbers.end(ctx.iter_num, ctx.micro_step)
        step = self._measured_step(applied, stepped)
        if self.has_gradients:
            grad_norm = ctx.grad_norm
        values = (ctx.task_loss, 0.0 if grad_norm is None else grad_norm)
        if step.stepped is False and not step.cause and not all(map(math.isfinite, values)):
            step = step._replace(cause=NONFINITE_GRADIENT)
        if not ctx.ends_step:
            leaked = step.stepped or step.has_skipped_gradient or (step.weights_changed and not ctx.updated)
            found = tuple(find_not_applied(None, step, has_scheduled_rate=False)) if leaked else ()
            return StepOutcome(step, bool(step.stepped), found)
        accepted, self._accepted = self._accepted, None
        found = tuple(find_not_applied(accepted, step, has_scheduled_rate=self._has_scheduled_rate))
        is_wanted = accepted is not None and accepted.step
        counts = is_wanted if step.stepped is None else step.stepped
        return StepOutcome(step, counts, found)

    def abandon_step(self) -> None:
        """Note that the present step has ended early, without an optimizer step."""
        self.numbers.end_step()
        self._accepted = None

    def _measured_step(self, applied: AppliedStep | None, stepped: bool | None) -> AppliedStep:
        if isinstance(applied, AppliedStep):
            return applied
        if applied is not None:
            raise BadInputError(
                f"applied takes an ockham.AppliedStep, got {type(applied).__name__}; "
                "to report only whether the optimizer stepped, pass stepped=True or stepped=False"
            )
        if self.meter is not None:
            return self.meter.read()
        return AppliedStep(stepped)
