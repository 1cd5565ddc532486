"""A record that is true of two runs, and checking it."""

import contextlib
from pathlib import Path

from ockham.odr.ask import guarded
from ockham.odr.check import check
from ockham.odr.claims import Side
from ockham.odr.evidence import cut
from ockham.odr.lint import lint_folder
from ockham.record.folder import RunFolder
from tests.odr.runs import accepting, events_of
from tests.odr.samples import TODAY, put

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
- [{tick}] C1 Better

## Outcome
OQ delta: {delta} → {verdict}
"""


SQL = (
    "SELECT 1 - min(val_loss) FILTER (WHERE run_id = $candidate) / min(val_loss) FILTER (WHERE run_id = $baseline) AS value,"
    " count(val_loss) FILTER (WHERE run_id = $candidate) AS n FROM evaluations"
)


def record_text(runs: Path, **changes) -> str:
    """A record that is true of the two runs, with what a test changes."""
    values = {
        "status": "accepted", "sql": SQL, "threshold": 0.02, "measured": "0.10", "delta": "+0.4", "verdict": "KEEP", "tick": "x",
        "size": len(events_of(runs, "base")) - 1,
    }  # fmt: skip
    for name in ("base", "cand"):
        values[f"{name}_id"] = accepting(events_of(runs, name))
        values[f"{name}_root"] = cut(Side(name, name), RunFolder(runs, name)).root
    return RECORD.format(**{**values, **changes})


def answering(ask):
    """An asker that answers by a function."""
    return lambda _: contextlib.nullcontext(ask)


def checked(runs: Path, asker=guarded, **changes):
    """The judgement of a record, and the codes of what was found in it."""
    put(runs.parent / "odr", record_text(runs, **changes))
    record = lint_folder(runs.parent / "odr", TODAY)[0]
    judgement = check(record, [runs], asker, TODAY)
    return judgement, sorted(f.code for f in record.findings if f.code != "ODR706"), record
