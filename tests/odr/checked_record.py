"""A record whose claims match two runs, and its check."""

import contextlib
from pathlib import Path

from ockham.odr.check import check
from ockham.odr.lint import lint_folder
from ockham.odr.pinned_log import read_pinned_log
from ockham.odr.query import guarded_queries
from ockham.odr.record_data import EvidenceSide
from ockham.record.run_folder import RunFolder
from tests.odr.record_samples import TODAY, put
from tests.odr.small_runs import accepting, read_run_events

RECORD = """\
---
odr: 1
id: ODR-0001
title: T
status: {status}
date: 2026-11-24
owners: [alice]
evidence:
  baseline: {{run: base, through_sequence: {size}, root: {base_root}, decisions: [{base_id}]}}
  candidate: {{run: cand, through_sequence: {size}, root: {cand_root}, decisions: [{cand_id}]}}
constraints:
  - id: C1
    text: The validation loss improves by > 2 %
    sql: |
      {sql}
    op: ">"
    threshold: {threshold}
    measured: {measured}
outcome: {{oq_delta: {delta}, verdict: {verdict}}}
---

# ODR-0001: T

## Problem
## Proposed Change
## Occam Constraints
- [{tick}] C1 The validation loss improves by > 2 %

## Outcome
OQ delta: {delta} → {verdict}
"""


SQL = (
    "SELECT 1 - min(val_loss) FILTER (WHERE run_id = $candidate) / min(val_loss)"
    " FILTER (WHERE run_id = $baseline) AS value,"
    " count(val_loss) FILTER (WHERE run_id = $candidate) AS n FROM evaluations"
)


def record_text(runs: Path, **changes) -> str:
    """Return a record whose claims match the two runs, with the given changes."""
    values = {
        "status": "accepted",
        "sql": SQL,
        "threshold": 0.02,
        "measured": "0.10",
        "delta": "+0.4",
        "verdict": "KEEP",
        "tick": "x",
        "size": len(read_run_events(runs, "base")) - 1,
    }
    for name in ("base", "cand"):
        values[f"{name}_id"] = accepting(read_run_events(runs, name))
        values[f"{name}_root"] = read_pinned_log(EvidenceSide(name, name), RunFolder(runs, name)).root
    return RECORD.format(**{**values, **changes})


def answering(ask):
    """Return a replacement for `guarded_queries` that uses a function."""
    return lambda _: contextlib.nullcontext(ask)


def checked(runs: Path, asker=guarded_queries, **changes):
    """Return the judgement of a record, its finding codes without ODR706, and the record."""
    put(runs.parent / "odr", record_text(runs, **changes))
    record = lint_folder(runs.parent / "odr", TODAY)[0]
    judgement = check(record, [runs], asker, TODAY)
    return judgement, sorted(f.code for f in record.findings if f.code != "ODR706"), record
