"""Print the matrix of trainers and situations as a Markdown table with the measured differences.

python -m tests.integrations.matrix_table
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import warnings
from pathlib import Path

import torch

from tests.helpers.step_truth import Differences, compare
from tests.integrations.test_trainer_matrix import CELLS
from tests.integrations.trainer_matrix import Cell

HEADER = (
    "| trainer | situation | batches | skips | weights moved on skips | loss error | rate error | norm error "
    "| verify, replay |"
)


def measure(cell: Cell) -> Differences:
    """Train a cell in an empty folder, and compare its log with the truth."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        os.environ["OCKHAM_KEY_DIR"] = f"{folder}/keys"
        return compare(Path(folder), cell.train(Path(folder)))


def row(cell: Cell, result: Differences) -> str:
    """Return a row of the table."""
    state = "; ".join(result.problems) or "sound, identical"
    errors = " | ".join(f"{value:.0e}" for value in (result.loss_error, result.rate_error, result.norm_error))
    counts = f"{result.batches} | {result.skips} | {result.moved_on_skips}"
    return f"| {cell.trainer} | {cell.situation} | {counts} | {errors} | {state} |"


def main() -> None:
    """Print the table and the totals."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    print(HEADER)
    print("|" + "---|" * 9)
    results = []
    for cell in CELLS:
        results.append(measure(cell))
        print(row(cell, results[-1]), flush=True)
    batches, skips = sum(r.batches for r in results), sum(r.skips for r in results)
    problems = sum(len(r.problems) for r in results)
    print(f"\n{len(results)} cells, {batches:,} batches, {skips:,} skips, {problems} differences.")


if __name__ == "__main__":
    main()
