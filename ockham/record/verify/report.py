"""What verify says: findings by class, and how far each log is signed and pinned."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

# Notes say how far the proof reaches and leave the status at ok; the others are findings.
FindingClass = Literal[
    "crash tail", "not signed", "not pinned", "key not pinned",
    "unsigned", "corruption", "tampering", "gap", "policy missing", "derived", "checkpoint", "contradiction",
]  # fmt: skip
NOTE_CLASSES = frozenset({"crash tail", "not signed", "not pinned", "key not pinned"})
CLASS_DESCRIPTIONS: dict[str, str] = {  # the gravest first, the notes last
    "tampering": "well-formed, and not what was signed; or signed and no longer there",
    "corruption": "bytes that are no event: a disk or a transfer has damaged them",
    "unsigned": "no signature at all: a crash in the first moments leaves this, and so does whoever removes signatures",
    "contradiction": "events that cannot all be true: a knob that nobody turned, a batch without its context",
    "gap": "events that the log itself says are missing, or that its own sequence misses",
    "policy missing": "a policy that decisions name is not there, or is another one",
    "checkpoint": "a checkpoint without its decision, or whose files are not those that were recorded",
    "derived": "a Parquet file or tile that does not fit the log, which is the record: `ockham repair` makes it anew",
    "crash tail": "an unfinished line at the end, as a crash leaves it; nothing acknowledged is missing",
    "not signed": "lines behind the newest signed tree head that fits them: nobody vouches for them",
    "key not pinned": "nobody but the run, or this machine, says which key signs it; give --key",
    "not pinned": "lines behind the newest pin: whoever has the key and the machine could have written them anew",
}
MAX_FINDINGS_PER_CLASS = 200  # of one class; the rest is counted


@dataclass(frozen=True)
class Finding:
    """One thing that was found, and where. Of one cause, such as one changed line, there may be many."""

    kind: FindingClass
    place: str
    message: str
    sequence: int | None = None
    cause: str = ""


@dataclass
class LogReport:
    """How far one log is whole, signed and pinned, in events."""

    attempt: int
    rank: int
    events: int = 0
    root: str = ""
    signed: int = 0
    pinned: int = 0
    key: str = ""


@dataclass
class VerificationReport:
    """The whole answer for one run."""

    run_id: str
    logs: list[LogReport] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    checked: dict[str, int] = field(default_factory=dict)

    def add(
        self, kind: FindingClass, place: object, message: str, sequence: int | None = None, cause: str = ""
    ) -> None:
        """Note a finding; many of one class are counted and no longer listed."""
        self.counts[kind] = self.counts.get(kind, 0) + 1
        if self.counts[kind] <= MAX_FINDINGS_PER_CLASS:
            self.findings.append(Finding(kind, str(place), message, sequence, cause))

    def merge(self, other: VerificationReport) -> None:
        """Take what was found in a part."""
        for finding in other.findings:
            if self.counts.get(finding.kind, 0) + 1 <= MAX_FINDINGS_PER_CLASS:
                self.findings.append(finding)
            self.counts[finding.kind] = self.counts.get(finding.kind, 0) + 1
        for kind, number in other.counts.items():
            self.counts[kind] += max(0, number - MAX_FINDINGS_PER_CLASS)
        for what, number in other.checked.items():
            self.count(what, number)

    def count(self, what: str, number: int = 1) -> None:
        """Count what was looked at."""
        self.checked[what] = self.checked.get(what, 0) + number

    def group_by_cause(self, kind: str) -> list[tuple[Finding, int]]:
        """The findings of a class that one must read: the first of each cause, and how many more it explains."""
        found: dict[object, list[Finding]] = {}
        for number, finding in enumerate(self.findings):
            if finding.kind == kind:
                found.setdefault(finding.cause or number, []).append(finding)
        return [(grouped[0], len(grouped) - 1) for grouped in found.values()]

    @property
    def sound(self) -> bool:
        """Whether there is nothing but notes."""
        return all(kind in NOTE_CLASSES for kind in self.counts)

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "run_id": self.run_id, "sound": self.sound, "checked": self.checked, "counts": self.counts,
            "logs": [vars(log) for log in self.logs], "findings": [vars(finding) for finding in self.findings],
        }  # fmt: skip
