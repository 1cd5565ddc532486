"""`--fix`: what can be mended without guessing: byte order mark, heading, successors, Outcome line, ticks."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from pathlib import Path

from ockham.errors import BadInputError
from ockham.odr import edit
from ockham.odr.lint import lint_folder
from ockham.odr.record import DecisionRecord
from ockham.odr.record_rules import delta_digits, heading_text
from ockham.odr.records_folder import write_record
from ockham.odr.supersession import successors_of
from ockham.odr.verdict import CheckResult

MAX_ROUNDS = 6  # one fix can make room for the next: a heading appears once the front matter can be read


def fix_folder(folder: Path, today: dt.date, files: Iterable[Path] = ()) -> list[DecisionRecord]:
    """Mend what can be mended, whole files at a time; returns the records that were written."""
    wanted = {file.resolve() for file in files}
    written: dict[Path, DecisionRecord] = {}
    for _ in range(MAX_ROUNDS):
        records = lint_folder(folder, today)
        successors = successors_of(records)
        changed = False
        for record in records:
            text = _fixed_text(record, successors) if not wanted or record.file.resolve() in wanted else None
            if text is not None and text.encode() != record.data:
                write_record(record.file, text)
                written[record.file] = record
                changed = True
        if not changed:
            break
    return list(written.values())


def _fixed_text(record: DecisionRecord, successors: Mapping[str, list[str]]) -> str | None:
    """The record's text after one round; None where nothing can be mended."""
    codes = {finding.code for finding in record.findings}
    if "ODR002" in codes and not codes & {"ODR003", "ODR007"}:
        return record.data[3:].decode()
    if record.front is None or record.body is None:
        return None
    lines = record.lines
    try:
        if "ODR204" in codes:  # a round for each edit of the body: it moves the lines of the others
            return edit.join_lines(record, edit.set_heading(record, lines, heading_text(record)))
        if codes & {"ODR206", "ODR605"} and record.claims.has_outcome:
            line = edit.set_outcome_line(record, lines, delta_digits(record), record.claims.verdict)
            return edit.join_lines(record, line)
        if "ODR304" in codes:
            value = edit.yaml_list(successors.get(record.claims.id, []))
            return edit.join_lines(record, edit.set_key(record, lines, "superseded_by", value, "supersedes"))
        if "ODR706" in codes:
            return edit.join_lines(
                record, edit.set_key(record, lines, "lock", edit.compute_lock(record), "outcome")
            )
    except BadInputError:
        return None  # the finding stays, and says what is wrong
    return None


def update_checkboxes(
    records: Iterable[DecisionRecord], judged: Mapping[str, CheckResult]
) -> list[DecisionRecord]:
    """Tick the boxes of records that are not decided yet as their constraints came out; returns what was written.

    Where such a record has no outcome, quotient and verdict are filled in as they came out. The finding of each box
    that was mended is taken back. A decided record is locked: its finding stays.
    """
    written = []
    for record in records:
        if record.display_path not in judged or record.claims.status not in {"draft", "proposed"}:
            continue
        lines = record.lines
        for result in judged[record.display_path].results:
            lines = edit.set_checkbox(record, lines, result.constraint.id, ticked=result.state == "pass")
        lines = _with_outcome(record, lines, judged[record.display_path])
        if lines != record.lines:
            write_record(record.file, edit.join_lines(record, lines))
            record.findings[:] = [finding for finding in record.findings if finding.code != "ODR511"]
            written.append(record)
    return written


def _with_outcome(record: DecisionRecord, lines: list[str], judgement: CheckResult) -> list[str]:
    """The lines with the outcome as it came out, in front matter and body, where the record says none."""
    if judgement.verdict is None or record.claims.has_outcome or (record.body and record.body.outcome):
        return lines
    digits = None if judgement.oq_delta is None else f"{judgement.oq_delta:+.3g}"
    told = f"{{oq_delta: {digits or 'null'}, verdict: {judgement.verdict}}}"
    lines = edit.set_outcome_line(
        record, lines, digits, judgement.verdict
    )  # the body first: its lines move by the key
    try:
        return edit.set_key(record, lines, "outcome", told, "constraints")
    except BadInputError:
        return record.lines
