"""Duration of each stage of a batch, and the compute that skipped batches saved.

A skip saves backward pass and optimizer, never the forward pass. With b = backward/forward cost, the bound is
(1 - update rate) * b / (1 + b). Wall times of two runs on a shared machine are too noisy to compare. The
stages of one run can be compared.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

# Number of stage times that the medians use.
WINDOW_BATCHES = 2_000


class ComputeSavings(NamedTuple):
    """Compute that skipping saved, as ratios. None before the first update.

    `backward_over_forward` is b of the medians. `bound` is (1 - u) b / (1 + b). `measured` compares the
    seconds of the stages and the chain with the seconds for updating on every batch.
    """

    backward_over_forward: float | None
    bound: float | None
    measured: float | None

    def recorded(self) -> dict[str, float | None]:
        """Return the fields of `run.finished`."""
        return {"backward_over_forward": self.backward_over_forward, "compute_saved": self.measured}


class StageTimer:
    """Seconds of each stage of a batch, and their totals.

    Args:
        mark: Returns a point in time of the device. On a GPU this is an event in its stream
            (`ockham.nano.device.make_timer`).
        elapsed: Returns the seconds from one mark to another.

    """

    def __init__(
        self,
        mark: Callable[[], Any] = time.perf_counter,
        elapsed: Callable[[Any, Any], float] = lambda start, end: end - start,
    ) -> None:
        self.batch: list[tuple[str, Any, Any]] = []
        self.totals: dict[str, float] = {}
        self.batches = 0
        self.updates = 0
        self._mark = mark
        self._elapsed = elapsed
        self._forward: deque[float] = deque(maxlen=WINDOW_BATCHES)
        self._backward: deque[float] = deque(maxlen=WINDOW_BATCHES)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Context manager that times its block as one stage of the present batch."""
        start = self._mark()
        try:
            yield
        finally:
            self.batch.append((name, start, self._mark()))

    def finish_batch(self, *, updated: bool) -> BatchStages:
        """End the present batch and return its stages. The next batch starts without stages."""
        stages, self.batch = self.batch, []
        return BatchStages(self, stages, updated)

    def add_batch(self, stages: list[tuple[str, Any, Any]], *, updated: bool) -> dict[str, float]:
        """Add the stages of a batch to the totals. Return the seconds of each stage."""
        batch_seconds: dict[str, float] = {}
        for name, start, end in stages:
            seconds = self._elapsed(start, end)
            batch_seconds[name] = batch_seconds.get(name, 0.0) + seconds
            self.totals[name] = self.totals.get(name, 0.0) + seconds
        self.batches += 1
        self.updates += updated
        self._forward.append(batch_seconds.get("forward", 0.0))
        if updated:
            self._backward.append(batch_seconds.get("backward", 0.0) + batch_seconds.get("optimizer", 0.0))
        return batch_seconds

    def savings(self) -> ComputeSavings:
        """Return what the skips have saved until now."""
        if not self._backward or not self.totals.get("forward"):
            return ComputeSavings(None, None, None)
        ratio = statistics.median(self._backward) / statistics.median(self._forward)
        rate = self.updates / self.batches
        update_seconds = self.totals.get("backward", 0.0) + self.totals.get("optimizer", 0.0)
        forward, chain = self.totals["forward"], self.totals.get("chain", 0.0)
        always_updating = forward + update_seconds / self.updates * self.batches
        measured = 1 - (forward + update_seconds + chain) / always_updating
        return ComputeSavings(ratio, (1 - rate) * ratio / (1 + ratio), measured)


class BatchStages(NamedTuple):
    """Stages of a finished batch. Their seconds are available once the device has passed the marks."""

    timer: StageTimer
    stages: list[tuple[str, Any, Any]]
    updated: bool

    def read_seconds(self) -> dict[str, float]:
        """Return the seconds of each stage, and add them to the totals. Call it once."""
        return self.timer.add_batch(self.stages, updated=self.updated)
