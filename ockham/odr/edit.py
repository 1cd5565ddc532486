"""Changing a record in place: one key or one line, every other byte as it was, comments too.

Nothing is templated or dumped anew: the line of the key is known from the parser. After each edit the record is read
again and must say what was meant and nothing else, or the edit is refused.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from pathlib import Path
from typing import Any

from ockham.errors import BadInputError
from ockham.odr.front_matter import FrontMatterError, parse_front_matter
from ockham.odr.markdown_body import Body, format_outcome
from ockham.odr.record import DecisionRecord, is_string_field

_LINE = re.compile(r"(?P<key>[a-z_]+\s*:)(?P<value>[^#]*?)(?P<comment>\s+#.*)?")
_BOX = re.compile(r"(?P<before>\s*[-*+]\s+\[)[ xX](?P<after>\].*)")
UNLOCKED_KEYS = frozenset({"status", "date", "superseded_by", "review_by", "waivers", "lock"})

OPEN_OUTCOME = "Open."  # what a draft says where its outcome will stand


def yaml_string(text: str) -> str:
    """Text as a YAML scalar: JSON's string is one, whatever the text holds."""
    return json.dumps(text, ensure_ascii=False)


def yaml_list(items: tuple[str, ...] | list[str]) -> str:
    """A list of plain words as YAML."""
    return f"[{', '.join(items)}]"


def join_lines(record: DecisionRecord, lines: list[str]) -> str:
    """Lines as the file's text, with the line ends that it had."""
    return ("\r\n" if b"\r\n" in record.data else "\n").join(lines)


def set_key(record: DecisionRecord, lines: list[str], key: str, value: str, after: str = "date") -> list[str]:
    """The lines with a top-level key set to a value of one line.

    Args:
        record: the record that the lines are of.
        lines: all its lines, perhaps edited before in the same way.
        key: a key of the front matter.
        value: its new value, as YAML on one line.
        after: where the key is missing, it is put behind this one.

    Raises:
        BadInputError: if that cannot be done without touching anything else.

    """
    require_readable(record)
    close = _closing(lines)
    before = _values(record, lines, close)
    spans = _spans(lines, close)
    if key in spans:
        start, end = spans[key]
        match = _LINE.fullmatch(lines[start])
        comment = (match["comment"] or "") if match and end == start + 1 else ""
        new = [*lines[:start], f"{key}: {value}{comment}", *lines[end:]]
    else:
        at = spans[after][1] if after in spans else close
        new = [*lines[:at], f"{key}: {value}", *lines[at:]]
    now = _values(record, new, close + len(new) - len(lines))
    if key not in now or {k: v for k, v in now.items() if k != key} != {
        k: v for k, v in before.items() if k != key
    }:
        raise _edit_error(record, key)
    return new


def require_readable(record: DecisionRecord) -> None:
    """Refuse a record whose front matter could not be read.

    Raises:
        BadInputError: naming the file.

    """
    if record.front is None or not isinstance(record.front.values, dict):
        raise BadInputError(f"{record.display_path} cannot be read: `ockham odr lint` says why")


def _spans(lines: list[str], close: int) -> dict[str, tuple[int, int]]:
    """For each key that begins a line: its first line, and the line behind the last one of its value."""
    starts = [i for i in range(1, close) if re.match(r"[a-z_]+\s*:(\s|$)", lines[i])]
    spans = {}
    for start, following in itertools.pairwise([*starts, close]):
        end = following
        while end > start + 1 and (not lines[end - 1].strip() or lines[end - 1].lstrip().startswith("#")):
            end -= 1
        spans[lines[start].split(":", maxsplit=1)[0].rstrip()] = (start, end)
    return spans


def _closing(lines: list[str]) -> int:
    return next(i for i, line in enumerate(lines[1:], 1) if line.rstrip() == "---")


def _values(record: DecisionRecord, lines: list[str], close: int) -> dict[str, Any]:
    try:
        values = parse_front_matter("\n".join(lines[1:close]) + "\n", 2, is_string_field).values
    except FrontMatterError:
        values = None
    if not isinstance(values, dict):
        raise _edit_error(record, "front matter")
    return values


def _edit_error(record: DecisionRecord, what: str) -> BadInputError:
    return BadInputError(
        f"{record.display_path}: {what} cannot be edited by the tool: write each key on a line of its own"
    )


def set_heading(record: DecisionRecord, lines: list[str], title: str) -> list[str]:
    """The lines with the first heading saying `title`; put in where there is none."""
    body = _body(record)
    heading = next((h for h in body.headings if h.level == 1), None)
    if heading is None:
        at = body.first_line - 1
        return [*lines[:at], "", f"# {title}", *lines[at:]]
    at = heading.line - 1
    setext = not lines[at].lstrip().startswith("#")
    return [*lines[:at], f"# {title}", *lines[at + (2 if setext else 1) :]]


def set_outcome_line(
    record: DecisionRecord, lines: list[str], digits: str | None, verdict: str | None
) -> list[str]:
    """The lines with the Outcome line saying this; put in where there is none and a section for it is there."""
    body = _body(record)
    text = format_outcome(digits, verdict)
    if body.outcome is not None:
        at = body.outcome.line - 1
        return [*lines[:at], text, *lines[at + 1 :]]
    sections = body.sections("Outcome")
    if not sections:
        return lines
    at = sections[0].line
    placeholder = at < len(lines) and lines[at].strip() == OPEN_OUTCOME
    return [*lines[:at], text, *lines[at + placeholder :]]


def set_checkbox(record: DecisionRecord, lines: list[str], constraint_id: str, *, ticked: bool) -> list[str]:
    """The lines with the box of a constraint ticked or not; as they are where it has none."""
    box = next((b for b in _body(record).boxes if b.constraint_id == constraint_id), None)
    if box is None:
        return lines
    match = _BOX.fullmatch(lines[box.line - 1])
    assert match is not None
    new = f"{match['before']}{'x' if ticked else ' '}{match['after']}"
    return [*lines[: box.line - 1], new, *lines[box.line :]]


def _body(record: DecisionRecord) -> Body:
    """The body, which is there wherever the front matter could be read."""
    assert record.body is not None
    return record.body


def compute_lock(record: DecisionRecord) -> str:
    """Digest of what may not change after acceptance: all but status, its day, successors, review, waivers, lock."""
    values = record.front.values if record.front is not None and isinstance(record.front.values, dict) else {}
    fixed = {key: value for key, value in values.items() if key not in UNLOCKED_KEYS}
    body = record.lines[record.body.first_line - 1 :] if record.body is not None else []
    text = json.dumps(fixed, sort_keys=True, ensure_ascii=False) + "\n" + "\n".join(body).rstrip("\n")
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def renumbered_path(file: Path, number: int) -> Path:
    """The file's name with another number."""
    return file.with_name(f"{number:04d}{file.name[4:]}")
