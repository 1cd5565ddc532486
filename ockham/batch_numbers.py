"""Numbers of batches: each micro-batch of each step occurs once, in order."""

from __future__ import annotations

from typing import NamedTuple

from ockham.errors import BadInputError


class BatchNumber(NamedTuple):
    """Step and micro-batch, both from 0, and the number of micro-batches of the step."""

    iter_num: int
    micro_step: int
    micro_steps: int

    def __str__(self) -> str:
        return f"iteration {self.iter_num}, micro-step {self.micro_step}"

    def next(self, micro_steps: int) -> BatchNumber:
        """Return the number that follows. `micro_steps` is used if a new step begins."""
        if self.micro_step + 1 < self.micro_steps:
            return BatchNumber(self.iter_num, self.micro_step + 1, self.micro_steps)
        return BatchNumber(self.iter_num + 1, 0, micro_steps)


class BatchNumbers:
    """Checks the numbers that a loop gives, or counts by itself.

    Args:
        first: Iteration of the first batch. None accepts any.

    """

    def __init__(self, first: int | None = None) -> None:
        self.first = first
        self._last: BatchNumber | None = None
        self._open: BatchNumber | None = None

    def start(self, iter_num: int | None, micro_step: int | None, micro_steps: int) -> BatchNumber:
        """Return the number of the batch that starts.

        Args:
            iter_num: Step, from 0. None counts.
            micro_step: Micro-batch within the step. None counts.
            micro_steps: Number of micro-batches of the step.

        Raises:
            BadInputError: If the previous batch has not ended, or the number does not follow it.

        """
        if self._open is not None:
            raise BadInputError(
                f"the batch of {self._open} was started and has not ended; "
                "call run.end_batch(ctx) once for each run.start_batch(...)"
            )
        expected = self._expected(micro_steps)
        number = BatchNumber(
            expected.iter_num if iter_num is None else iter_num,
            expected.micro_step if micro_step is None else micro_step,
            micro_steps,
        )
        any_first = self._last is None and self.first is None and number.micro_step == 0
        if number[:2] != expected[:2] and not (any_first and number.iter_num >= 0):
            raise BadInputError(self._explain(number, expected))
        self._open = number
        return number

    def end(self, iter_num: int, micro_step: int) -> None:
        """Note the end of the batch.

        Raises:
            BadInputError: If it was not started, or has ended already.

        """
        self.require_open(iter_num, micro_step)
        self._last, self._open = self._open, None

    def require_open(self, iter_num: int, micro_step: int) -> None:
        """Check that a batch was started and has not ended.

        Raises:
            BadInputError: If it was not started, or has ended already.

        """
        if self._open is None or self._open[:2] != (iter_num, micro_step):
            raise BadInputError(
                f"the batch of iteration {iter_num}, micro-step {micro_step} was not started, or has ended; "
                "pass the context that run.start_batch(...) returned"
            )

    def end_step(self) -> None:
        """Note that the present step has ended before its last micro-batch. The next batch starts a step."""
        if self._last is not None:
            self._last = self._last._replace(micro_steps=self._last.micro_step + 1)

    def _expected(self, micro_steps: int) -> BatchNumber:
        return (
            BatchNumber(self.first or 0, 0, micro_steps)
            if self._last is None
            else self._last.next(micro_steps)
        )

    def _explain(self, number: BatchNumber, expected: BatchNumber) -> str:
        before = f"follows {self._last}" if self._last else "is the first of this attempt"
        return (
            f"the batch of {number} {before}; accepted: {expected}. "
            "Count steps over all epochs and pass the number of micro-batches as micro_steps, "
            "or leave out iter_num to let the run count"
        )
