"""Valid decision records that tests change."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from ockham.odr.lint import lint_folder
from ockham.odr.record import DecisionRecord
from ockham.odr.template import PLACEHOLDERS

TODAY = dt.date(2026, 11, 24)
ROOT = "ab" * 32
DECISION_ID = "0192f3a1-7c1e-7b3a-9d55-0a1b2c3d4e5f"
GOOD = f"""\
---
odr: 1
id: ODR-0001
title: Enable test-time adaptation
status: accepted
date: 2026-01-14
owners: [alice]
tags: [adaptation, lora]
supersedes: []
evidence:
  baseline: {{run: base, through_sequence: 250, root: {ROOT}, decisions: [{DECISION_ID}]}}
  candidate: {{run: cand, through_sequence: 250, root: {ROOT}, decisions: [0192f3a2]}}
constraints:
  - id: C1
    text: Half of the batches at most are refused
    sql: |
      SELECT avg((NOT updated)::int) AS value, count(*) AS n
      FROM gate_decisions WHERE run_id = $candidate
    op: "<="
    threshold: 0.5
    unit: ratio
    min_n: 20
  - id: C2
    text: The validation loss improves by > 2 %
    sql: |
      SELECT 1 - avg(val_loss) FILTER (WHERE run_id = $candidate)
               / avg(val_loss) FILTER (WHERE run_id = $baseline) AS value,
             count(*) FILTER (WHERE run_id = $candidate) AS n
      FROM evaluations
    op: ">"
    threshold: 0.02
    unit: ratio
outcome: {{oq_delta: +0.4, verdict: KEEP}}
---

# ODR-0001: Enable test-time adaptation

## Problem
Accuracy drops by 15 % on the words of one user.

## Proposed Change
Adapt layers 18-24 by LoRA.

## Occam Constraints
- [x] C1 Half of the batches at most are refused
- [x] C2 The validation loss improves by > 2 %

## Outcome
OQ delta: +0.4 → KEEP
"""
PROPOSED = GOOD.replace("status: accepted", "status: proposed")
JUDGEMENT = """\
---
odr: 1
id: ODR-{number:04d}
title: {title}
status: {status}
date: 2026-01-14
owners: [alice]
supersedes: [{supersedes}]
superseded_by: [{superseded_by}]
constraints: []
outcome: {{oq_delta: null, verdict: null}}
---

# ODR-{number:04d}: {title}

## Problem
P.

## Proposed Change
Q.

## Occam Constraints
None that a log could show.

## Outcome
OQ delta: none → not measured
"""


def judgement(number: int, status: str = "accepted", supersedes: str = "", superseded_by: str = "") -> str:
    """Return a record without claims about a log."""
    return JUDGEMENT.format(
        number=number, title="Keep it", status=status, supersedes=supersedes, superseded_by=superseded_by
    )


def fill_template(file: Path) -> None:
    """Replace the placeholders of a new draft."""
    text = file.read_text()
    for placeholder in PLACEHOLDERS:
        text = text.replace(placeholder, "Written.")
    file.write_text(text)


def put(folder: Path, text: str | bytes, name: str = "0001-enable.md") -> Path:
    folder.mkdir(exist_ok=True)
    file = folder / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def codes(folder: Path) -> list[str]:
    """Return the finding codes of a folder, except the missing lock of accepted records."""
    found = sorted(finding.code for record in lint(folder) for finding in record.findings)
    return [code for code in found if code != "ODR706"]


def lint(folder: Path) -> list[DecisionRecord]:
    return lint_folder(folder, TODAY)
