"""Rules of one record that need no log: body, constraints, outcome, life cycle."""

from __future__ import annotations

import datetime as dt
import itertools
import re

from ockham.odr.codes import DECIDED
from ockham.odr.constraint_rules import check_lines, check_names, check_placeholders
from ockham.odr.constraint_sql import analyze_sql
from ockham.odr.edit import compute_lock
from ockham.odr.evidence_rules import check_evidence_runs
from ockham.odr.markdown_body import SECTIONS, Body, OutcomeLine, format_outcome
from ockham.odr.record import NAME, DecisionRecord
from ockham.odr.record_data import Constraint
from ockham.odr.verdict import format_verdict

VERDICTS_BY_STATUS = {"accepted": ("KEEP", None), "rejected": ("REVERT", "INCONCLUSIVE", None)}


def check_record(record: DecisionRecord, today: dt.date) -> None:
    """Add the findings of one record. Rules about unreadable parts are skipped."""
    _name(record)
    if record.body is not None:
        _sections(record, record.body)
        check_placeholders(record, record.body)
    if record.front is not None and isinstance(record.front.values, dict):
        if record.body is not None:
            _boxes(record, record.body)
            check_lines(record, record.body)
            _outcome_line(record, record.body)
        for constraint in record.claims.constraints:
            _statement(record, constraint)
        check_names(record)
        check_evidence_runs(record)
        _constraints(record)
        _evidence(record)
        _outcome(record)
        _waivers(record, today)
        _review(record, today)
        _lock(record)


def _name(record: DecisionRecord) -> None:
    match = NAME.fullmatch(record.file.name)
    if match is None:
        record.add_finding(
            "ODR006", f"the file name {record.file.name!r:.80} is not NNNN-slug.md (a-z, 0-9 and '-')"
        )
    elif record.claims.id and record.claims.id != f"ODR-{match['number']}":
        record.add_finding_at(
            "ODR006", f"id is {record.claims.id!r:.40}, but the file's number is {match['number']}", ("id",)
        )


def _sections(record: DecisionRecord, body: Body) -> None:
    found = {title: body.sections(title) for title in SECTIONS}
    for title, headings in found.items():
        if not headings:
            record.add_finding("ODR201", f"the section `## {title}` is missing", body.first_line)
        for heading in headings[1:]:
            record.add_finding(
                "ODR202",
                f"the section `## {title}` occurs twice (first in line {headings[0].line})",
                heading.line,
            )
    order = [(headings[0].line, title) for title, headings in found.items() if headings]
    for (line, title), (line_after, after) in itertools.pairwise(order):
        if line_after < line:
            record.add_finding("ODR203", f"`## {after}` stands before `## {title}`", line_after)
    if record.claims.id and record.claims.title:
        wanted = heading_text(record)
        first = next((h for h in body.headings if h.level == 1), None)
        if first is None:
            record.add_finding("ODR204", f"the heading `# {wanted}` is missing", body.first_line)
        elif first.text != wanted:
            record.add_finding(
                "ODR204", f"the heading is {first.text!r:.80}; id and title say {wanted!r}", first.line
            )


def heading_text(record: DecisionRecord) -> str:
    """Return the text of the first heading."""
    return f"{record.claims.id}: {record.claims.title}"


def _boxes(record: DecisionRecord, body: Body) -> None:
    ids = [c.id for c in record.claims.constraints if c.id]
    seen: set[str] = set()
    for box in body.boxes:
        if not box.constraint_id:
            record.add_finding("ODR205", f"the line names no constraint: `- [ ] C1 {box.text:.40}`", box.line)
        elif box.constraint_id in seen:
            record.add_finding(
                "ODR205", f"a second line for {box.constraint_id}", box.line, 1, box.constraint_id
            )
        elif box.constraint_id not in ids:
            message = f"{box.constraint_id} has a line, but no entry in `constraints`"
            record.add_finding("ODR205", message, box.line, 1, box.constraint_id)
        seen.add(box.constraint_id)


def _outcome_line(record: DecisionRecord, body: Body) -> None:
    claims, line = record.claims, body.outcome
    if line is not None and line.error:
        record.add_finding("ODR206", f"the Outcome line {line.error}", line.line)
    elif line is None:
        if claims.has_outcome and body.sections("Outcome"):
            wanted = format_outcome(delta_digits(record), claims.verdict)
            record.add_finding(
                "ODR206", f"the section Outcome has no line `{wanted}`", body.sections("Outcome")[0].line
            )
    elif not _names_outcome(record):
        record.add_finding("ODR605", "the Outcome line has no `outcome` in the front matter", line.line)
    elif claims.has_outcome and not _agrees(record, line):
        actual, wanted = (
            format_outcome(line.digits, f"{line.verdict or ''} {line.waived}".strip()),
            format_outcome(delta_digits(record), claims.verdict),
        )
        record.add_finding(
            "ODR605", f"the Outcome line has `{actual}`, the front matter `{wanted}`", line.line
        )


def _agrees(record: DecisionRecord, line: OutcomeLine) -> bool:
    """Return True if the Outcome line repeats the outcome.

    It may contain the waivers as `check` prints them. Waivers can change after a decision, the line cannot.
    """
    claims = record.claims
    if (line.delta, line.verdict) != (claims.oq_delta, claims.verdict):
        return False
    return not line.waived or bool(claims.lock) or f"{line.verdict} {line.waived}" == claimed_verdict(record)


def claimed_verdict(record: DecisionRecord) -> str:
    """Return the claimed verdict with the waivers that it needs: those of constraints that are not ticked."""
    failed = {box.constraint_id for box in record.body.boxes if not box.ticked} if record.body else set()
    failed -= {one.id for one in record.claims.constraints if one.severity == "warn"}
    until = [day for constraint, day in waiver_ends(record).items() if constraint in failed]
    return format_verdict(record.claims.verdict, until)


def _names_outcome(record: DecisionRecord) -> bool:
    """Return True if the front matter has an outcome. The schema reports an incomplete one."""
    return record.front is not None and "outcome" in record.front.values


def delta_digits(record: DecisionRecord) -> str | None:
    """Return the OQ delta as written in the front matter, in decimal digits. None for null."""
    if record.claims.oq_delta is None or record.front is None:
        return None
    text = record.front.place(("outcome", "oq_delta")).text
    # YAML has hexadecimal and octal numbers, the Outcome line has not.
    return repr(record.claims.oq_delta) if re.search("[xo]", text) else text


def _statement(record: DecisionRecord, constraint: Constraint) -> None:
    if record.front is None or not constraint.sql:
        return
    path = ("constraints", constraint.position, "sql")
    statement = analyze_sql(constraint.sql)
    place = record.front.place(path)
    # In a block scalar (`sql: |`) the text begins in the line below the key's.
    block = (
        place.line
        if record.lines[place.line - 1].rstrip().endswith(("|", "|-", ">", ">-"))
        else place.line - 1
    )
    for fault in statement.problems:
        line = min(block + fault.line + 1, len(record.lines)) if fault.line else place.line
        record.add_finding(
            fault.code, f"{constraint.id or 'constraint'}: the SQL {fault.message}", line, 1, constraint.id
        )
    needed = sorted(statement.parameters & {"baseline", "baselines"})
    if needed and record.claims.candidates and not record.claims.baselines:
        message = f"{constraint.id} needs ${needed[0]}, but evidence names no baseline run"
        record.add_finding_at("ODR401", message, path, constraint.id)


def _constraints(record: DecisionRecord) -> None:
    seen: set[str] = set()
    for constraint in record.claims.constraints:
        if constraint.id and constraint.id in seen:
            record.add_finding_at(
                "ODR501",
                f"{constraint.id} stands twice",
                ("constraints", constraint.position, "id"),
                constraint.id,
            )
        seen.add(constraint.id)


def _evidence(record: DecisionRecord) -> None:
    claims = record.claims
    if not claims.candidates:
        if claims.constraints or claims.verdict or claims.oq_delta is not None:
            record.add_finding_at(
                "ODR401", "names no evidence: what it claims was measured on no run", ("evidence",)
            )
        return
    if claims.status in DECIDED or claims.status == "rejected":
        for side in claims.sides:
            if side.through is None or not side.root:
                missing = "through_sequence" if side.through is None else "root"
                message = (
                    f"evidence.{side.label} names no {missing}: a log that changes could change the verdict"
                )
                record.add_finding_at("ODR401", message, side.path)


def _outcome(record: DecisionRecord) -> None:
    claims = record.claims
    if claims.status in {"accepted", "rejected"} and not _names_outcome(record):
        record.add_finding_at("ODR601", f"status is {claims.status}, but there is no outcome", ("status",))
    elif claims.has_outcome and claims.verdict not in VERDICTS_BY_STATUS.get(
        claims.status, (claims.verdict,)
    ):
        message = f"status is {claims.status}, but the verdict is {claims.verdict or 'null'}"
        record.add_finding_at("ODR607", message, ("outcome", "verdict"))
    if claims.has_outcome and claims.verdict is None and claims.constraints:
        record.add_finding_at(
            "ODR607", "the verdict is null, but there are constraints to judge", ("outcome", "verdict")
        )
    if claims.verdict in {"KEEP", "REVERT"} and not claims.constraints:
        message = f"the verdict is {claims.verdict}, but there is no constraint: nothing to check"
        record.add_finding_at("ODR607", message, ("outcome", "verdict"))


def _waivers(record: DecisionRecord, today: dt.date) -> None:
    ids = {c.id for c in record.claims.constraints}
    for waiver in record.claims.waivers:
        path = ("waivers", waiver.position)
        if waiver.constraint and waiver.constraint not in ids:
            record.add_finding_at(
                "ODR707", f"waives {waiver.constraint!r:.20}, which is not a constraint of this record", path
            )
        until = parse_date(waiver.until)
        if until is not None and until < today:
            record.add_finding_at(
                "ODR703", f"the waiver of {waiver.constraint} ended on {until}", path, waiver.constraint
            )


def waiver_ends(record: DecisionRecord) -> dict[str, str]:
    """Return the last day on which each constraint is waived, by its ID. Invalid dates are omitted."""
    ends: dict[str, str] = {}
    for waiver in record.claims.waivers:
        if parse_date(waiver.until) is not None:
            ends[waiver.constraint] = max(waiver.until, ends.get(waiver.constraint, ""))
    return ends


def active_waivers(record: DecisionRecord, today: dt.date) -> dict[str, str]:
    """Return the last day of each waiver that has not ended, by the ID of its constraint."""
    return {name: day for name, day in waiver_ends(record).items() if day >= today.isoformat()}


def _review(record: DecisionRecord, today: dt.date) -> None:
    due = parse_date(record.claims.review_by)
    if due is not None and due < today and record.claims.status in {"draft", "proposed", "accepted"}:
        record.add_finding_at("ODR705", f"review was due on {due}", ("review_by",))


def _lock(record: DecisionRecord) -> None:
    claims = record.claims
    if claims.status not in DECIDED and claims.status != "rejected":
        return
    if claims.lock and claims.lock != compute_lock(record):
        record.add_finding_at(
            "ODR702", f"was edited after it was {claims.status}: write a new record instead", ("lock",)
        )
    elif not claims.lock:
        record.add_finding_at(
            "ODR706", f"is {claims.status} without a lock: edits would not be seen", ("status",)
        )


def parse_date(text: str) -> dt.date | None:
    """Return a date. None if it is missing or not a valid date."""
    try:
        return dt.date.fromisoformat(text) if len(text) == 10 else None
    except ValueError:
        return None
