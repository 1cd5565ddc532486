"""Duration of `ockham odr lint` for many records with two constraints each.

python -m benchmarks.odr_lint [RECORDS]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from ockham.odr.lint import lint_folder

RECORD = """\
---
odr: 1
id: ODR-{n:04d}
title: Record {n}
status: proposed
date: 2026-11-24
owners: [alice]
evidence:
  baseline: {{run: base-{n}, through_sequence: 250, root: {root}, decisions: []}}
  candidate: {{run: cand-{n}, through_sequence: 250, root: {root}, decisions: []}}
constraints:
  - id: C1
    text: At most half of the batches are refused
    sql: |
      SELECT avg((NOT updated)::int) AS value, count(*) AS n
      FROM gate_decisions WHERE run_id = $candidate AND iter_num > {n}
    op: "<="
    threshold: 0.5
  - id: C2
    text: The validation loss is better
    sql: |
      SELECT 1 - avg(val_loss) FILTER (WHERE run_id = $candidate)
               / avg(val_loss) FILTER (WHERE run_id = $baseline) AS value, count(*) AS n
      FROM evaluations WHERE iter_num > {n}
    op: ">"
    threshold: 0.02
outcome: {{oq_delta: null, verdict: KEEP}}
---

# ODR-{n:04d}: Record {n}

## Problem
One line.

## Proposed Change
One line.

## Occam Constraints
- [x] C1 At most half of the batches are refused
- [x] C2 The validation loss is better

## Outcome
OQ delta: none → KEEP
"""


def main(records: int) -> None:
    """Write the records, lint them three times, and print the best time."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for n in range(1, records + 1):
            (folder / f"{n:04d}-record.md").write_text(RECORD.format(n=n, root="ab" * 32))
        times = []
        for _ in range(3):
            began = time.perf_counter()
            linted = lint_folder(folder)
            times.append(time.perf_counter() - began)
        findings = sum(len(record.findings) for record in linted)
    print(
        f"{records} records, {findings} findings: {min(times):.2f} s, "
        f"{1e3 * min(times) / records:.2f} ms per record"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("records", type=int, nargs="?", default=1000, help="Number of records.")
    main(parser.parse_args().records)
