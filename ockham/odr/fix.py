"""`--fix`: automatic fixes of byte order mark, heading, successors, Outcome line and constraint lines."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, MutableMapping
from pathlib import Path

from ockham.errors import BadInputError
from ockham.odr import edit
from ockham.odr.constraint_rules import line_text
from ockham.odr.lint import lint_folder
from ockham.odr.record import DecisionRecord
from ockham.odr.record_rules import active_waivers, delta_digits, heading_text
from ockham.odr.records_folder import write_record
from ockham.odr.supersession import find_successors
from ockham.odr.verdict import CheckResult, decide_verdict

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


def update_checkboxes(
    records: Iterable[DecisionRecord], judged: MutableMapping[str, CheckResult], today: dt.date
) -> list[DecisionRecord]:
    """Set the checkboxes of undecided records to the results of their constraints.

    Return the written records.

    If such a record has no outcome, quotient and verdict are filled in. The findings of changed checkboxes
    are removed. A decided record is locked, so its findings remain.
    """
    written = []
    for record in records:
        judgement = judged.get(record.display_path)
        if judgement is None or not judgement.complete or record.claims.status not in {"draft", "proposed"}:
            continue
        lines = record.lines
        for result in judgement.results:
            lines = edit.set_checkbox(record, lines, result.constraint.id, ticked=result.state == "pass")
        verdict = _outcome_verdict(record, judgement, active_waivers(record, today))
        lines = _with_outcome(record, lines, judgement, verdict)
        if lines != record.lines:
            text = edit.join_lines(record, lines)
            write_record(record.file, text)
            # An attestation names the digest of the file as it is now.
            record.data = text.encode()
            record.findings[:] = [finding for finding in record.findings if finding.code != "ODR511"]
            if verdict is not None:
                # The printed verdict is the one in the file.
                judged[record.display_path] = judgement._replace(verdict=verdict)
            written.append(record)
    return written


def _outcome_verdict(
    record: DecisionRecord, judgement: CheckResult, waivers: Mapping[str, str]
) -> str | None:
    """Return the verdict of the outcome to fill in. None if the record has an outcome.

    It is that of a record which claims the OQ delta, because the outcome claims it.
    """
    if judgement.verdict is None or record.claims.has_outcome or (record.body and record.body.outcome):
        return None
    claimed = judgement.oq_delta is not None
    return decide_verdict(judgement.results, judgement.oq, oq_claimed=claimed, waived=waivers)


def _with_outcome(
    record: DecisionRecord, lines: list[str], judgement: CheckResult, verdict: str | None
) -> list[str]:
    """Return the lines with the computed outcome in front matter and body, if there is a verdict."""
    if verdict is None:
        return lines
    digits = None if judgement.oq_delta is None else f"{judgement.oq_delta:+.3g}"
    outcome = f"{{oq_delta: {digits or 'null'}, verdict: {verdict}}}"
    # The body first: its lines move by the key.
    lines = edit.set_outcome_line(record, lines, digits, verdict)
    try:
        return edit.set_key(record, lines, "outcome", outcome, "constraints")
    except BadInputError:
        return record.lines
