"""`--fix`: automatic fixes of byte order mark, heading, successors, Outcome line and constraint lines."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from pathlib import Path

from ockham.errors import BadInputError
from ockham.odr import edit
from ockham.odr.constraint_rules import line_text
from ockham.odr.lint import lint_folder
from ockham.odr.record import DecisionRecord
from ockham.odr.record_rules import delta_digits, heading_text
from ockham.odr.records_folder import write_record
from ockham.odr.supersession import find_successors
from ockham.odr.verdict import CheckResult

# One fix can make room for the next: a heading appears once the front matter can be read.
MAX_ROUNDS = 6


def fix_folder(folder: Path, today: dt.date, files: Iterable[Path] = ()) -> list[DecisionRecord]:
    """Fix all fixable findings, one complete file at a time. Return the records that were written."""
    wanted = {file.resolve() for file in files}
    written: dict[Path, DecisionRecord] = {}
    for _ in range(MAX_ROUNDS):
        records = lint_folder(folder, today)
        successors = find_successors(records)
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
    """Return the record's text after one round, or None if nothing can be fixed."""
    codes = {finding.code for finding in record.findings}
    if "ODR002" in codes and not codes & {"ODR003", "ODR007"}:
        return record.data[3:].decode()
    if record.front is None or record.body is None:
        return None
    lines = record.lines
    try:
        # A round for each edit of the body: it moves the lines of the others.
        if "ODR204" in codes and not record.claims.lock:
            return edit.join_lines(record, edit.set_heading(record, lines, heading_text(record)))
        if codes & {"ODR206", "ODR605"} and record.claims.has_outcome and not record.claims.lock:
            line = edit.set_outcome_line(record, lines, delta_digits(record), record.claims.verdict)
            return edit.join_lines(record, line)
        if "ODR207" in codes and not record.claims.lock:
            texts = {c.id: line_text(c) for c in record.claims.constraints if c.id and line_text(c)}
            return edit.join_lines(record, edit.set_constraint_lines(record, lines, texts))
        if "ODR304" in codes:
            value = edit.yaml_list(successors.get(record.claims.id, []))
            return edit.join_lines(record, edit.set_key(record, lines, "superseded_by", value, "supersedes"))
        if "ODR706" in codes:
            return edit.join_lines(
                record, edit.set_key(record, lines, "lock", edit.compute_lock(record), "outcome")
            )
    except BadInputError:
        # The finding remains.
        return None
    return None


def complete_drafts(
    records: Iterable[DecisionRecord], results: Mapping[str, CheckResult]
) -> list[DecisionRecord]:
    """Tick the boxes of undecided records as measured, and complete their outcome.

    What the author wrote stays. An OQ delta is claimed only by a number of the author, never added. A decided
    record is locked, so its findings remain.

    Args:
        records: Records with their text as checked.
        results: Results of `check` by display path.

    Returns:
        The records that were written. Their findings are those of the old text.

    """
    written = []
    for record in records:
        result = results.get(record.display_path)
        if result is None or not result.complete or record.claims.status not in {"draft", "proposed"}:
            continue
        lines = record.lines
        for one in result.results:
            lines = edit.set_checkbox(record, lines, one.constraint.id, ticked=one.state == "pass")
        lines = _complete_outcome(record, lines, result.verdict)
        if lines != record.lines:
            write_record(record.file, edit.join_lines(record, lines))
            written.append(record)
    return written


def _complete_outcome(record: DecisionRecord, lines: list[str], computed: str | None) -> list[str]:
    """Return the lines with a complete outcome in front matter and body.

    Missing keys are added: the verdict as computed, an OQ delta of null, and the measure of a claimed one.
    Without an outcome in the front matter, the Outcome line contains what the author claims.
    """
    assert record.front is not None
    assert record.body is not None
    outcome = record.front.values.get("outcome") or {}
    line = None if outcome else record.body.outcome
    is_complete = record.claims.has_outcome and record.claims.verdict is not None
    if computed is None or is_complete or not _is_readable(record, outcome) or (line and line.error):
        return lines
    digits, verdict = delta_digits(record), record.claims.verdict or computed
    if line is not None:
        digits, verdict = None if line.delta is None else line.digits, line.verdict or computed
    fields = [f"oq_delta: {digits or 'null'}", f"verdict: {verdict}"]
    if "oq_delta_at" in outcome:
        fields.insert(1, f"oq_delta_at: {record.front.place(('outcome', 'oq_delta_at')).text}")
    elif digits is not None:
        # A claimed number names the point at which it was compared.
        fields.insert(1, f"oq_delta_at: {record.claims.oq_delta_at}")
    # The body first: its lines move by the key.
    new = edit.set_outcome_line(record, lines, digits, verdict)
    try:
        return edit.set_key(record, new, "outcome", f"{{{', '.join(fields)}}}", "constraints")
    except BadInputError:
        return lines


def _is_readable(record: DecisionRecord, outcome: object) -> bool:
    """Return True if an outcome has only known keys, with accepted values or null."""
    if not isinstance(outcome, dict) or outcome.keys() - {"oq_delta", "oq_delta_at", "verdict"}:
        return False
    claims = record.claims
    values = ((outcome.get("oq_delta"), claims.oq_delta), (outcome.get("verdict"), claims.verdict))
    return all(written is None or read is not None for written, read in values)
