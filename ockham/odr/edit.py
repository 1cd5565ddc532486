"""Edits of a record in place: one key or one line. Every other byte, including comments, stays.

Nothing is generated from a template: the parser provides the line of the key. After each edit the record is
parsed again. If anything else changed, the edit is rejected.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ockham.errors import BadInputError
from ockham.odr.front_matter import FrontMatterError, parse_front_matter
from ockham.odr.markdown_body import Body, format_outcome
from ockham.odr.record import DecisionRecord, is_string_field

_LINE = re.compile(r"(?P<key>[a-z_]+\s*:)(?P<value>[^#]*?)(?P<comment>\s+#.*)?")
_BOX = re.compile(r"(?P<before>\s*[-*+]\s+\[)[ xX](?P<after>\].*)")
UNLOCKED_KEYS = frozenset({"status", "date", "superseded_by", "review_by", "waivers", "corrections", "lock"})

# Section Occam Constraints of a draft without constraints.
NO_CONSTRAINT = "None yet: add entries to `constraints`; `ockham odr constraints` lists them by name."
# Outcome section of a draft.
OPEN_OUTCOME = "Open."


def yaml_string(text: str) -> str:
    """Return text as a YAML scalar, which is a JSON string."""
    return json.dumps(text, ensure_ascii=False)


def yaml_list(items: tuple[str, ...] | list[str]) -> str:
    """Return a list of plain words as YAML."""
    return f"[{', '.join(items)}]"


def join_lines(record: DecisionRecord, lines: list[str]) -> str:
    """Return lines as the text of the file, with its line endings."""
    return ("\r\n" if b"\r\n" in record.data else "\n").join(lines)


def set_key(record: DecisionRecord, lines: list[str], key: str, value: str, after: str = "date") -> list[str]:
    """Return the lines with a top-level key set to a one-line value.

    Args:
        record: Record of the lines.
        lines: All its lines, possibly edited before.
        key: Key of the front matter.
        value: New value as YAML on one line.
        after: A missing key is inserted after this one.

    Raises:
        BadInputError: If the edit would change anything else.

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
    """Check that the front matter of a record could be parsed.

    Raises:
        BadInputError: If it could not. The message names the file.

    """
    if record.front is None or not isinstance(record.front.values, dict):
        raise BadInputError(f"{record.display_path} cannot be read; run `ockham odr lint`")


def _spans(lines: list[str], close: int) -> dict[str, tuple[int, int]]:
    """Return for each key at the start of a line its first line, and the line after its value."""
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
    """Return the lines with `title` as first heading. A missing heading is inserted."""
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
    """Return the lines with this Outcome line. A missing line is inserted if its section exists."""
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
    """Return the lines with the checkbox of a constraint set. Unchanged if it has none."""
    box = next((b for b in _body(record).boxes if b.constraint_id == constraint_id), None)
    if box is None:
        return lines
    match = _BOX.fullmatch(lines[box.line - 1])
    assert match is not None
    mark = "x" if ticked else " "
    new = f"{match['before']}{mark}{match['after']}"
    return [*lines[: box.line - 1], new, *lines[box.line :]]


def set_constraint_lines(record: DecisionRecord, lines: list[str], texts: Mapping[str, str]) -> list[str]:
    """Return the lines with the text of each constraint in its line `- [ ] C1 ...`.

    A missing line is inserted after that of the constraint before it. Boxes stay as they are.

    Args:
        record: Record of the lines.
        lines: All its lines, with the body as in the file.
        texts: Text by ID of the constraint, in order.

    """
    body = _body(record)
    sections = body.sections("Occam Constraints")
    boxes = {box.constraint_id: box for box in reversed(body.boxes)}
    edits: list[tuple[int, int, str]] = []
    # Index of the line after the last known one of the section.
    end = sections[0].line if sections else 0
    for constraint_id, text in texts.items():
        box = boxes.get(constraint_id)
        if box is not None:
            end = box.last_line
            mark = "x" if box.ticked else " "
            edits.append((box.line - 1, end, f"- [{mark}] {constraint_id} {text}"))
        elif sections:
            edits.append((end, end, f"- [ ] {constraint_id} {text}"))
    new = list(lines)
    # From the bottom, so that the indexes above stay. Lines for one index keep their order.
    for start, stop, line in reversed(edits):
        # Text directly below a list item would belong to it.
        below = new[stop].strip() if start == stop < len(new) else ""
        separate = below and below != NO_CONSTRAINT and not _BOX.fullmatch(new[stop])
        new[start:stop] = [line, ""] if separate else [line]
    return [line for line in new if line.strip() != NO_CONSTRAINT] if edits else new


def _body(record: DecisionRecord) -> Body:
    """Return the body, which exists if the front matter could be parsed."""
    assert record.body is not None
    return record.body


def compute_lock(record: DecisionRecord) -> str:
    """Return the digest of the locked part of a record.

    It covers all but status, its date, successors, review, waivers and lock.
    """
    values = record.front.values if record.front is not None and isinstance(record.front.values, dict) else {}
    fixed = {key: value for key, value in values.items() if key not in UNLOCKED_KEYS}
    body = record.lines[record.body.first_line - 1 :] if record.body is not None else []
    text = json.dumps(fixed, sort_keys=True, ensure_ascii=False) + "\n" + "\n".join(body).rstrip("\n")
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def renumbered_path(file: Path, number: int) -> Path:
    """Return the file path with another record number."""
    return file.with_name(f"{number:04d}{file.name[4:]}")
