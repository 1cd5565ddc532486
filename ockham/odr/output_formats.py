"""Output of findings: text, JSON, GitHub annotations, SARIF 2.1.0 and JUnit."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree as ET

from ockham.odr.codes import CODES, Finding
from ockham.odr.record import DecisionRecord
from ockham.odr.verdict import NOTHING_TO_CHECK, CheckResult, PairStatistics, Result

# Annotations of one kind that a step shows; others are dropped silently.
GITHUB_LIMIT = 10
# Results that GitHub shows of one upload.
SARIF_LIMIT = 5_000
_SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
Judgements = Mapping[str, CheckResult]


def format_text(findings: Sequence[Finding], records: Sequence[DecisionRecord], judged: Judgements) -> str:
    """Return the check results by record, then one line `path:line:column: CODE message` per finding."""
    rows = [
        row
        for record in records
        if record.display_path in judged
        for row in format_result(record, judged[record.display_path])
    ]
    rows += [f"{f.path}:{f.line}:{f.column}: {f.code}{_mark(f)} {f.message}" for f in findings]
    return "\n".join(rows)


def format_result(record: DecisionRecord, judgement: CheckResult) -> list[str]:
    """Return the lines with verdict, constraints and log positions of a record."""
    claims = record.claims
    verdict = judgement.verdict_text or NOTHING_TO_CHECK
    if not judgement.complete:
        verdict = "not checked, the evidence is missing or does not verify"
    rows = [f"{claims.id or record.file.name} {claims.title}: {verdict}"]
    rows += _format_oq_delta(judgement) if judgement.complete else []
    rows += [f"  OQ delta corrected on {one.date}: {one.reason}" for one in claims.corrections]
    for result in judgement.results if judgement.complete else ():
        day = judgement.waived.get(result.constraint.id)
        rows.append(f"  {result.sentence()}" + (f", waived until {day}" if day else ""))
        rows += [f"    {pair.sentence()}" for pair in result.pairs]
    rows += [
        f"  {p.side}: {p.run} {p.attempt}-{p.rank}, {p.size} events, root {p.root}" for p in judgement.pins
    ]
    if registration := judgement.registration:
        candidates = ", ".join(p.run for p in judgement.pins if p.side == "candidate")
        rows.append(
            f"  registered at {registration.time}, before {candidates} started: "
            f"line {registration.position + 1} of {registration.size} in the first event"
        )
        rows.append(f"  registered candidates: {registration.candidates or 'none, any run could be cited'}")
    return rows


def _format_oq_delta(judgement: CheckResult) -> list[str]:
    """Return the lines of the OQ delta: `OQ delta fail: -0.04 at iteration 149, claimed > 0`."""
    oq, state = judgement.oq, judgement.oq_state
    if oq is None:
        return [] if state is None else [f"  OQ delta {state}: it cannot be computed, claimed > 0"]
    value = f"{oq.value:+.4g}" if oq.statistics is None else oq.statistics.sentence()
    shown, claim = ("", "not claimed in the outcome") if state is None else (f" {state}", "claimed > 0")
    pairs = oq.pairs if oq.statistics is not None else ()
    return [
        f"  OQ delta{shown}: {value} {oq.place}, {claim}",
        *(f"    {pair.candidate} against {pair.baseline}: {pair.value:+.4g}" for pair in pairs),
    ]


def _mark(finding: Finding) -> str:
    return (" [warning]" if finding.severity == "warning" else "") + (" [*]" if finding.fixable else "")


def summary(findings: Sequence[Finding], records: Sequence[DecisionRecord]) -> str:
    """Return one line for stderr with the numbers of records, errors and warnings."""
    if not records:
        return "no records: nothing to check"
    count = Counter(finding.severity for finding in findings)
    fixable = sum(finding.fixable for finding in findings)
    errors = _plural(count["error"], "error")
    warnings = _plural(count["warning"], "warning")
    text = f"{_plural(len(records), 'record')}: {errors}, {warnings}"
    return text + (f", {fixable} fixable with --fix" if fixable else "")


def _plural(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def format_json(findings: Sequence[Finding], records: Sequence[DecisionRecord], judged: Judgements) -> str:
    """Return one JSON object with the findings and the check result of each record."""
    document = {
        "records": [{"path": r.display_path, "id": r.claims.id, "status": r.claims.status} for r in records],
        "findings": [f._asdict() for f in findings],
        "judgements": [judgement_json(judgement) for judgement in judged.values()],
    }
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)


def judgement_json(judgement: CheckResult) -> dict[str, Any]:
    """Return a check result as plain JSON values."""
    return {
        "odr_id": judgement.odr_id,
        "verdict": judgement.verdict,
        "oq_delta": judgement.oq_delta,
        "oq_delta_state": judgement.oq_state,
        "oq_delta_at": None if judgement.oq is None else judgement.oq.measure,
        "oq_delta_pairs": [] if judgement.oq is None else [pair._asdict() for pair in judgement.oq.pairs],
        "oq_delta_statistics": _statistics_json(None if judgement.oq is None else judgement.oq.statistics),
        "complete": judgement.complete,
        "waivers": [{"constraint_id": name, "until": day} for name, day in judgement.waived.items()],
        "constraints": [
            {**result_json(result), "pairs": [pair._asdict() for pair in result.pairs]}
            for result in judgement.results
        ],
        "evidence": [pin._asdict() for pin in judgement.pins],
        "registration": None if judgement.registration is None else judgement.registration._asdict(),
    }


def result_json(result: Result) -> dict[str, Any]:
    """Return the result of a constraint as plain JSON values."""
    return {
        "constraint_id": result.constraint.id,
        "state": result.state,
        "value": result.value,
        "n": result.n,
        "claim": result.constraint.claim,
        "reason": result.reason,
        "statistics": _statistics_json(result.statistics),
    }


def _statistics_json(statistics: PairStatistics | None) -> dict[str, float | None] | None:
    """Return mean, interval and p of several pairs. JSON has no NaN and no infinity."""
    if statistics is None:
        return None
    return {name: value if math.isfinite(value) else None for name, value in statistics._asdict().items()}


def format_github(
    findings: Sequence[Finding], _records: Sequence[DecisionRecord], _judged: Judgements
) -> str:
    """Return workflow commands, at most as many of a kind as a step shows. The last one counts the others."""
    rows: list[str] = []
    for kind in ("error", "warning"):
        some = [finding for finding in findings if finding.severity == kind]
        shown = some if len(some) <= GITHUB_LIMIT else some[: GITHUB_LIMIT - 1]
        for f in shown:
            place = f"file={_property(f.path)},line={f.line},col={f.column},title={_property(f.code)}"
            rows.append(f"::{kind} {place}::{_data(f.message)}")
        if len(shown) < len(some):
            rows.append(
                f"::{kind} title=ODR::{len(some) - len(shown)} more {kind}s: see the summary of this step"
            )
    return "\n".join(rows)


def github_summary(findings: Sequence[Finding]) -> str:
    """Return all findings as a Markdown table for the summary of a step."""
    rows = ["| place | code | finding |", "|---|---|---|"]
    for f in findings:
        message = f.message.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
        rows.append(f"| {f.path}:{f.line} | {f.code} {f.severity} | {message} |")
    return "\n".join(rows) + "\n"


def _data(value: str) -> str:
    return value.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(value: str) -> str:
    return _data(value).replace(":", "%3A").replace(",", "%2C")


def format_sarif(findings: Sequence[Finding], _records: Sequence[DecisionRecord], _judged: Judgements) -> str:
    """Return SARIF 2.1.0, errors first, at most as many results as a reader shows."""
    some = sorted(findings, key=lambda f: f.severity != "error")[:SARIF_LIMIT]
    used = sorted({finding.code for finding in some})
    rules = [
        {
            "id": code,
            "shortDescription": {"text": CODES[code].title},
            "fullDescription": {"text": CODES[code].help},
        }
        for code in used
    ]
    driver = {"name": "ockham odr", "rules": rules}
    document = {
        "$schema": _SARIF_SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": driver},
                "columnKind": "unicodeCodePoints",
                "results": [_result(f) for f in some],
            }
        ],
    }
    return json.dumps(document, indent=2, ensure_ascii=False)


def _result(finding: Finding) -> dict[str, Any]:
    where = {
        "artifactLocation": {"uri": quote(finding.path.removeprefix("./"))},
        "region": {"startLine": finding.line, "startColumn": finding.column},
    }
    stable = "\0".join((finding.odr_id or finding.path, finding.constraint_id, finding.code))
    return {
        "ruleId": finding.code,
        "level": finding.severity,
        "message": {"text": finding.message},
        "locations": [{"physicalLocation": where}],
        "partialFingerprints": {"odrConstraintCode/v1": hashlib.sha256(stable.encode()).hexdigest()},
    }


def format_junit(findings: Sequence[Finding], records: Sequence[DecisionRecord], judged: Judgements) -> str:
    """Return a JUnit suite per record: a case for its text, and one for each evaluated constraint.

    A case fails if and only if it has a finding of severity error, so JUnit and exit status agree. A record
    that is rightly rejected is green. Missing evidence is an error and not a failure.
    """
    root = ET.Element("testsuites", name="ockham odr")
    by_path: dict[str, list[Finding]] = {}
    for finding in findings:
        by_path.setdefault(finding.path, []).append(finding)
    for record in records:
        errors = [f for f in by_path.get(record.display_path, []) if f.severity == "error"]
        judgement = judged.get(record.display_path)
        results = judgement.results if judgement else ()
        ids = {result.constraint.id for result in results}
        cases = [
            _text_case(record, [f for f in errors if f.constraint_id not in ids or f.code not in _JUDGED])
        ]
        cases += [_constraint_case(record, result, errors) for result in results]
        kinds = Counter(child.tag for case in cases for child in case)
        count = {
            "tests": str(len(cases)),
            "failures": str(kinds["failure"]),
            "errors": str(kinds["error"]),
            "skipped": str(kinds["skipped"]),
        }
        name = _xml(f"{record.claims.id} {record.display_path}".strip())
        suite = ET.SubElement(root, "testsuite", {"name": name, **count})
        suite.extend(cases)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=False)


def _text_case(record: DecisionRecord, errors: Sequence[Finding]) -> ET.Element:
    case = ET.Element("testcase", classname=_xml(record.display_path), name="record")
    if errors:
        kind = "error" if is_evidence_missing(errors) else "failure"
        failure = ET.SubElement(case, kind, message=_xml(f"{errors[0].code} {errors[0].message}"))
        failure.text = _xml(format_text(errors, (), {}))
    return case


def is_evidence_missing(findings: Iterable[Finding]) -> bool:
    """Return True if all findings are missing runs, so that the claims are neither confirmed nor refuted."""
    return {finding.code for finding in findings} == {"ODR402"}


_JUDGED = frozenset({"ODR505", "ODR506", "ODR507", "ODR508", "ODR510", "ODR513", "ODR516"})


def _constraint_case(record: DecisionRecord, result: Result, errors: Sequence[Finding]) -> ET.Element:
    """Return the case of a constraint. Without an error, a result that is not a pass is skipped."""
    name = f"{result.constraint.id} {result.constraint.text}"
    case = ET.Element("testcase", classname=_xml(record.display_path), name=_xml(name))
    if any(f.constraint_id == result.constraint.id and f.code in _JUDGED for f in errors):
        kind = {"fail": "failure", "unknown": "error"}[result.state]
        ET.SubElement(case, kind, message=_xml(result.sentence()))
    elif result.state != "pass":
        ET.SubElement(case, "skipped", message=_xml(result.sentence()))
    return case


def _xml(value: str) -> str:
    """Return text without the characters that XML 1.0 does not allow."""
    return _NOT_XML.sub("�", value)


Format = Callable[[Sequence[Finding], Sequence[DecisionRecord], Judgements], str]
FORMATS: Mapping[str, Format] = {
    "text": format_text,
    "json": format_json,
    "github": format_github,
    "sarif": format_sarif,
    "junit": format_junit,
}
