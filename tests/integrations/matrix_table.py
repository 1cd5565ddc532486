"""Print the matrix of trainers and situations as a Markdown table with the measured differences.

python -m tests.integrations.matrix_table
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from tests import test_rank_calls
from tests.helpers import rank_truth
from tests.helpers.step_truth import Differences, compare
from tests.integrations import lightning_cells, test_huggingface_ranks, test_lightning_ranks
from tests.integrations.test_trainer_matrix import CELLS

HEADER = (
    "| trainer | situation | processes | batches | skips | weights moved on skips "
    "| largest relative error: loss | rate | norm | verify, replay |"
)


class Row(NamedTuple):
    """Trainer, situation, number of processes, and a function that trains in a folder and compares."""

    trainer: str
    situation: str
    processes: int
    measure: Callable[[Path], Differences]


def rows() -> Iterator[Row]:
    """Yield every row of the table."""
    for cell in CELLS:
        yield Row(
            cell.trainer, cell.situation, 1, lambda folder, cell=cell: compare(folder, cell.train(folder))
        )
    for name in lightning_cells.CELLS:
        yield Row("Lightning", name, 1, lambda folder, name=name: _compare_lightning(folder, name))
    for size, options in test_rank_calls.CELLS:
        named = {**options, "size": size}
        situation = ", ".join(f"{key}={value}" for key, value in options.items())
        yield Row("own loop", situation, size, lambda folder, named=named: _compare_ranks(folder, **named))
    for size, trainer, situation, options in test_huggingface_ranks.CELLS:
        named = {
            **options,
            "size": size,
            "module": test_huggingface_ranks.MODULE,
            "cell": [trainer, situation],
        }
        extra = ", ".join(f"{key}={value}" for key, value in options.items())
        words = ", ".join(filter(None, (situation, extra)))
        yield Row(trainer, words, size, lambda folder, named=named: _compare_ranks(folder, **named))
    for name, options in test_lightning_ranks.CELLS.items():
        named = {**options, "size": 2, "module": test_lightning_ranks.MODULE}
        yield Row("Lightning", name, 2, lambda folder, named=named: _compare_ranks(folder, **named))


def _compare_lightning(folder: Path, name: str) -> Differences:
    module, _ = lightning_cells.train(name, folder)
    return compare(folder, module.truth)


def _compare_ranks(folder: Path, *, size: int, **options: object) -> Differences:
    """Return the counts of rank 0. Every rank is compared, with fixed tolerances."""
    truths = rank_truth.train_ranks(folder, size, **options)
    result = Differences()
    try:
        rank_truth.assert_log_is_true(folder, truths, min_skips=0)
    except AssertionError as error:
        result.problems.append(str(error).partition("\n")[0])
    batches = rank_truth.read_batches(folder, 0)
    result.batches = len(batches)
    result.skips = sum(context["left"].get("updated") is False for context in batches)
    result.loss_error, result.norm_error = rank_truth.LOSS_TOLERANCE, rank_truth.NORM_TOLERANCE
    return result


def measure(row: Row) -> Differences:
    """Train in an empty folder, and compare the log with the truth."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        os.environ["OCKHAM_KEY_DIR"] = f"{folder}/keys"
        return row.measure(Path(folder))


def format_row(row: Row, result: Differences) -> str:
    """Return a row of the table."""
    state = "; ".join(result.problems) or "sound, identical"
    sign = "< " if row.processes > 1 else ""
    errors = [result.loss_error, result.rate_error, result.norm_error]
    words = [*row[:3], result.batches, result.skips, result.moved_on_skips]
    words += [sign + format(value, ".0e") if value else "0" for value in errors]
    return "| " + " | ".join(map(str, [*words, state])) + " |"


def main() -> None:
    """Print the table and the totals."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    print(HEADER)
    print("|" + "---|" * 10)
    results = []
    for row in rows():
        results.append(measure(row))
        print(format_row(row, results[-1]), flush=True)
    batches, skips = sum(r.batches for r in results), sum(r.skips for r in results)
    problems = sum(len(r.problems) for r in results)
    print(f"\n{len(results)} cells, {batches:,} batches, {skips:,} skips, {problems} differences.")


if __name__ == "__main__":
    main()
