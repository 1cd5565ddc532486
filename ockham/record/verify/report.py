"""Verification report: findings by class, and how far each log is signed and pinned."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

# Notes say how far the proof reaches and leave the status at ok; the others are findings.
FindingClass = Literal[
    "crash tail",
    "not signed",
    "not pinned",
    "key not pinned",
    "foreign",
    "refused step",
    "not applied",
    "unsigned",
    "corruption",
    "tampering",
    "gap",
    "policy missing",
    "derived",
    "checkpoint",
    "contradiction",
]
NOTE_CLASSES = frozenset(
    {"crash tail", "not signed", "not pinned", "key not pinned", "foreign", "refused step"}
)
# The gravest first, the notes last.
CLASS_DESCRIPTIONS: dict[str, str] = {
    "tampering": "well-formed events that differ from what was signed, or signed events that are missing",
    "corruption": "bytes that are not an event, for example damaged by a disk or a transfer",
    "unsigned": "signatures are missing that the writer made: tree heads were removed",
    "contradiction": "events that cannot all be true, such as an unexplained knob change",
    "not applied": "verdicts that the trainer did not carry out, by its own measurement",
    "gap": "events that are missing by the log's own record or by its sequence numbers",
    "policy missing": "a policy that decisions name is missing or differs",
    "checkpoint": "a checkpoint without its decision, or with files that differ from the recorded ones",
    "derived": "a Parquet file or tile that does not match the log; `ockham repair` writes it again",
    "crash tail": "an unfinished line at the end, left by a crash; no durable event is missing",
    "not signed": "lines after the newest signed tree head; commands ignore them, and a resume removes them",
    "refused step": "steps that the trainer refused, for example because a gradient was not finite",
    "foreign": "files that no signed event names; commands ignore them",
    "key not pinned": "the key is named only by the run or this machine; pass --key",
    "not pinned": "lines after the newest pin; a holder of the key and the machine could rewrite them",
}
# Of one class; the rest is counted.
MAX_FINDINGS_PER_CLASS = 200


@dataclass(frozen=True)
class Finding:
    """One finding and its location. One cause, such as one changed line, can have many findings."""

    kind: FindingClass
    place: str
    message: str
    sequence: int | None = None
    cause: str = ""


@dataclass
class LogReport:
    """Number of complete, signed and pinned events of one log."""

    attempt: int
    rank: int
    events: int = 0
    root: str = ""
    signed: int = 0
    pinned: int = 0
    key: str = ""


@dataclass
class VerificationReport:
    """Result of the verification of one run."""

    run_id: str
    logs: list[LogReport] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    checked: dict[str, int] = field(default_factory=dict)

    def add(
        self, kind: FindingClass, place: object, message: str, sequence: int | None = None, cause: str = ""
    ) -> None:
        """Add a finding. Beyond a limit per class, findings are only counted."""
        self.counts[kind] = self.counts.get(kind, 0) + 1
        if self.counts[kind] <= MAX_FINDINGS_PER_CLASS:
            self.findings.append(Finding(kind, str(place), message, sequence, cause))

    def merge(self, other: VerificationReport) -> None:
        """Add the findings of a part."""
        for finding in other.findings:
            if self.counts.get(finding.kind, 0) + 1 <= MAX_FINDINGS_PER_CLASS:
                self.findings.append(finding)
            self.counts[finding.kind] = self.counts.get(finding.kind, 0) + 1
        for kind, number in other.counts.items():
            self.counts[kind] += max(0, number - MAX_FINDINGS_PER_CLASS)
        for what, number in other.checked.items():
            self.count(what, number)

    def count(self, what: str, number: int = 1) -> None:
        """Count checked objects."""
        self.checked[what] = self.checked.get(what, 0) + number

    def group_by_cause(self, kind: str) -> list[tuple[Finding, int]]:
        """Return the first finding of each cause of a class, and the number of further findings."""
        found: dict[object, list[Finding]] = {}
        for number, finding in enumerate(self.findings):
            if finding.kind == kind:
                found.setdefault(finding.cause or number, []).append(finding)
        return [(grouped[0], len(grouped) - 1) for grouped in found.values()]

    @property
    def sound(self) -> bool:
        """True if the report has notes only and no findings."""
        return all(kind in NOTE_CLASSES for kind in self.counts)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "run_id": self.run_id,
            "sound": self.sound,
            "checked": self.checked,
            "counts": self.counts,
            "logs": [vars(log) for log in self.logs],
            "findings": [vars(finding) for finding in self.findings],
        }
