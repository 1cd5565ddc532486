"""Matrix of trainers and situations. A cell runs one training, and returns what the trainer really did."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.helpers.step_truth import StepTruth


@dataclass(frozen=True)
class Cell:
    """One trainer in one situation.

    Attributes:
        trainer: Name of the trainer, such as `Trainer`.
        situation: Difference to a plain training.
        train: Trains in a folder and logs the run `a` there. Returns the truth.
        min_skips: The log must name at least this number of skipped batches, so that skips are tested.
        expect: Further values that the test compares, such as the reason code of the end.

    """

    trainer: str
    situation: str
    train: Callable[[Path], StepTruth]
    min_skips: int = 0
    expect: dict = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the test case."""
        return f"{self.trainer}-{self.situation}"
