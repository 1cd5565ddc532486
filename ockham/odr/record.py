"""One record, parsed from one file: bytes, text, front matter and body. Every problem becomes a finding."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path

from ockham.odr.codes import CODES, Finding, Severity, is_fixable, severity
from ockham.odr.front_matter import FrontMatter, FrontMatterError, KeyPath, parse_front_matter
from ockham.odr.markdown_body import Body, parse_body
from ockham.odr.record_data import RecordData, parse_record_data

MAX_BYTES = 512 * 1024
NAME = re.compile(r"(?P<number>[0-9]{4})-(?P<slug>[a-z0-9]+(?:-[a-z0-9]+)*)\.md")
_BOM = b"\xef\xbb\xbf"
_KEY = re.compile(r"[a-z_]+\s*:")


@dataclass(slots=True)
class DecisionRecord:
    """A record with its findings. `display_path` is its name in messages."""

    file: Path
    display_path: str
    data: bytes = b""
    lines: list[str] = field(default_factory=list)
    front: FrontMatter | None = None
    body: Body | None = None
    claims: RecordData = field(default_factory=RecordData)
    findings: list[Finding] = field(default_factory=list)

    @property
    def number(self) -> int | None:
        """Number in the file name, None if it has none."""
        match = NAME.fullmatch(self.file.name)
        return int(match["number"]) if match else None

    @property
    def sha256(self) -> str:
        """Digest of the file as read."""
        return hashlib.sha256(self.data).hexdigest()

    def add_finding(
        self,
        code: str,
        message: str,
        line: int = 1,
        column: int = 1,
        constraint: str = "",
        weight: Severity | None = None,
    ) -> None:
        """Add a finding. `weight` replaces the severity of the table."""
        assert code in CODES
        claims = self.claims
        weighs = weight or severity(code, claims.status)
        fixable = is_fixable(
            code, status=claims.status, locked=bool(claims.lock), has_outcome=claims.has_outcome
        )
        self.findings.append(
            Finding(self.display_path, line, column, code, weighs, message, claims.id, constraint, fixable)
        )

    def add_finding_at(
        self, code: str, message: str, path: KeyPath, constraint: str = "", weight: Severity | None = None
    ) -> None:
        """Add a finding at a key of the front matter, or at its nearest existing parent."""
        place = self.front.place(path) if self.front is not None else None
        line, column = (place.line, place.column) if place else (1, 1)
        self.add_finding(code, message, line, column, constraint, weight)


def read_record(file: Path, shown: str | None = None) -> DecisionRecord:
    """Read a file. Its content never raises an exception."""
    record = DecisionRecord(file, shown or str(file))
    data = _bytes(record)
    if data is None:
        return record
    record.data = data
    text = _text(record, data)
    if text is not None:
        parse(record, text)
    return record


def _bytes(record: DecisionRecord) -> bytes | None:
    """Return the bytes of a regular file of an accepted size. A pipe or a link is never opened."""
    try:
        descriptor = os.open(record.file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        linked = record.file.is_symlink()
        record.add_finding(
            "ODR007", "is a symbolic link, which records are not" if linked else f"{error.strerror}"
        )
        return None
    about = os.fstat(descriptor)
    if not stat.S_ISREG(about.st_mode):
        os.close(descriptor)
        record.add_finding("ODR007", "not a regular file")
        return None
    with os.fdopen(descriptor, "rb") as file:
        if about.st_size > MAX_BYTES:
            record.add_finding("ODR007", f"is {about.st_size} bytes long; a record has at most {MAX_BYTES}")
            return None
        return file.read(MAX_BYTES + 1)


def _text(record: DecisionRecord, data: bytes) -> str | None:
    if data.startswith(_BOM):
        record.add_finding("ODR002", "begins with a byte order mark")
        data = data[len(_BOM) :]
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - (data.rfind(b"\n", 0, error.start) + 1) + 1
        record.add_finding(
            "ODR003", f"byte {data[error.start]:#04x} at offset {error.start} is not UTF-8", line, column
        )
        return None


def parse(record: DecisionRecord, text: str) -> None:
    """Fill a record from its text. Unreadable parts are omitted and reported."""
    record.lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    close = _closing(record.lines)
    if close is None:
        opened = record.lines[0].rstrip() == "---"
        record.add_finding(
            "ODR001",
            "the front matter is not closed by a line `---`" if opened else "does not begin with `---`",
        )
        return
    try:
        record.front = parse_front_matter("\n".join(record.lines[1:close]) + "\n", 2, is_string_field)
    except FrontMatterError as error:
        record.add_finding("ODR004", error.message, error.line, error.column)
    else:
        if not isinstance(record.front.values, dict):
            kind = "empty" if record.front.values is None else f"a {type(record.front.values).__name__}"
            record.add_finding("ODR005", f"the front matter is {kind}, not `key: value` lines", 2)
        record.claims = parse_record_data(record.front.values)
    second = _second_front_matter(record.lines, close)
    if second is not None:
        record.add_finding("ODR004", "a second front matter begins here: which of the two holds?", second + 1)
    record.body = parse_body(record.lines[close + 1 :], close + 2)


def is_string_field(path: KeyPath) -> bool:
    """Return True if a value is always text: the decision 019e1234 is not a number."""
    return path[:1] == ("evidence",) and (path[-1] in {"run", "root"} or "decisions" in path)


def _second_front_matter(lines: list[str], close: int) -> int | None:
    """Return the index of a `---` directly after the front matter that is followed by a key."""
    following = next((i for i in range(close + 1, len(lines)) if lines[i].strip()), None)
    if following is None or lines[following].rstrip() != "---" or following + 1 == len(lines):
        return None
    return following if _KEY.match(lines[following + 1]) else None


def _closing(lines: list[str]) -> int | None:
    """Return the index of the line that closes the front matter."""
    if lines[0].rstrip() != "---":
        return None
    return next((i for i, line in enumerate(lines[1:], 1) if line.rstrip() == "---"), None)
