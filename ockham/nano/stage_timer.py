"""Duration of each stage of a batch, such as data, forward, chain, backward and optimizer."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple


class StageTimer:
    """Seconds of each stage of a batch.

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
        self._mark = mark
        self._elapsed = elapsed

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Context manager that times its block as one stage of the present batch."""
        start = self._mark()
        try:
            yield
        finally:
            self.batch.append((name, start, self._mark()))

    def finish_batch(self) -> BatchStages:
        """End the present batch and return its stages. The next batch starts without stages."""
        stages, self.batch = self.batch, []
        return BatchStages(stages, self._elapsed)


class BatchStages(NamedTuple):
    """Stages of a finished batch. Their seconds are available once the device has passed the marks."""

    stages: list[tuple[str, Any, Any]]
    elapsed: Callable[[Any, Any], float]

    def read_seconds(self) -> dict[str, float]:
        """Return the seconds of each stage."""
        seconds: dict[str, float] = {}
        for name, start, end in self.stages:
            seconds[name] = seconds.get(name, 0.0) + self.elapsed(start, end)
        return seconds
