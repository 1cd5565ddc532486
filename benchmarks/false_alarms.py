"""False alarms of SpikePlugin on the losses and gradient norms of clean runs, as a Markdown table.

nice python -m benchmarks.false_alarms --runs runs clean-1 clean-2 clean-3

The runs are trainings under `observe`, so every batch is updated. Each setting sees the recorded values. The
counts at the defaults are compared with the decisions that the plugin made in shadow.
"""

from __future__ import annotations

import argparse
import itertools
from collections import Counter
from collections.abc import Sequence

import ockham
from ockham.plugins.spike import SpikePlugin
from ockham.testing.simulation import Batch

SIGMAS = (3.0, 4.0, 5.0, 6.0, 8.0)
WINDOWS = (64, 128, 256)
REASONS = ("LOSS_SPIKE", "GRADIENT_SPIKE")
_VALUES = """
select task_loss, grad_norm from contexts
where run_id = $run and hook = 'batch' and not superseded and rank = 0 order by iter_num
"""
_RECORDED = """
select reason_code, count(*) as n from decisions
where run_id = $run and plugin = 'spike' and not superseded and rank = 0 group by all
"""


def count_alarms(batches: Sequence[Batch], **settings: float) -> Counter[str]:
    """Return the number of decisions by reason code."""
    return Counter(ockham.capture(SpikePlugin(**settings), batches=batches).reasons)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one row per setting."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", default="runs")
    parser.add_argument("run", nargs="+")
    chosen = parser.parse_args(arguments)
    catalog = ockham.Catalog(chosen.runs)
    stories = []
    for run in chosen.run:
        rows = catalog.rows(_VALUES, {"run": run})
        stories.append([Batch(row["task_loss"], {}, {"grad_norm": row["grad_norm"]}) for row in rows])
        recorded = {row["reason_code"]: row["n"] for row in catalog.rows(_RECORDED, {"run": run})}
        simulated = count_alarms(stories[-1])
        print(f"{run}: {len(rows)} batches, recorded in shadow {recorded}, simulated {dict(simulated)}")
    total = sum(map(len, stories))
    print(f"\n| window | sigma | loss, per 10,000 of {total} | gradient norm, per 10,000 |")
    print("|---|---|---|---|")
    for window, sigma in itertools.product(WINDOWS, SIGMAS):
        settings = {"window": window, "min_history": window // 2, "sigma": sigma}
        counts = sum((count_alarms(story, **settings) for story in stories), Counter())
        rates = " | ".join(f"{counts[reason] / total * 10_000:.1f} ({counts[reason]})" for reason in REASONS)
        print(f"| {window} | {sigma:g} | {rates} |", flush=True)


if __name__ == "__main__":
    main()
