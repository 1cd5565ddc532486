"""Speed of replay and what-if: decisions per second of wall time and of CPU time.

.venv/bin/python -m benchmarks.replay_throughput                    50,000 batches, about a minute
.venv/bin/python -m benchmarks.replay_throughput --batches 5000
.venv/bin/python -m benchmarks.replay_throughput --batches 490000   a million decisions
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

from ockham.policy import load_policy
from ockham.record.run_folder import RunFolder
from ockham.replay.runner import replay_run
from ockham.replay.trajectory import load_trajectory
from ockham.replay.whatif import whatif
from tests.helpers.runs import make_run


def cpu() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batches", type=int, default=50_000)
    options = parser.parse_args()
    batches = options.batches
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["OCKHAM_KEY_DIR"] = f"{scratch}/keys"
        make_run(Path(scratch), "big", batches)
        folder = RunFolder(scratch, "big")
        for processes in (1, 2):
            began, spent = time.monotonic(), cpu()
            report = replay_run(folder, processes=processes)
            wall, spent = time.monotonic() - began, cpu() - spent
            decisions = report.total("decisions")
            print(
                f"replay, {report.processes} process(es): {decisions:,} decisions, "
                f"identical: {report.identical}; {wall:.1f} s, {decisions / wall:,.0f}/s of wall time, "
                f"{decisions / spent:,.0f}/s of CPU time; load {os.getloadavg()[0]:.1f}"
            )
        trajectory = load_trajectory(folder)
        began, spent = time.monotonic(), cpu()
        result = whatif(trajectory, load_policy("tight"), "tight")
        wall, spent = time.monotonic() - began, cpu() - spent
        print(
            f"whatif, 1 policy: {result.batches:,} batches; {wall:.1f} s, "
            f"{result.batches / spent:,.0f}/s of CPU time"
        )


if __name__ == "__main__":
    main()
