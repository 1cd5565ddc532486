"""Waiver of a constraint: the entry in the record, and the signed event in the ledger."""

from __future__ import annotations

import datetime as dt
import hashlib
from pathlib import Path

import orjson

from ockham.errors import BadInputError
from ockham.odr import edit
from ockham.odr.record import DecisionRecord
from ockham.record.ledger import append_entry
from ockham.record.requests import Request, event_fields, make_request, sign_request
from ockham.record.run_folder import LEDGER, RunFolder
from ockham.record.tlog.note import load_or_create_signer

MAX_BY_CHARACTERS = 80
MAX_REASON_CHARACTERS = 300
MAX_WAIVERS = 50


def add_waiver(
    record: DecisionRecord, constraint: str, until: dt.date, by: str, reason: str, runs: Path
) -> tuple[str, str]:
    """Record a waiver in the ledger. Return the ID of the event, and the record's text with the waiver.

    Args:
        record: The decision record. Its file is not changed.
        constraint: ID of the constraint, such as `C1`.
        until: Last day of the waiver.
        by: Person who waives the constraint.
        reason: Why.
        runs: Folder of runs with the ledger.

    Raises:
        BadInputError: If the constraint does not exist, or a text is too long.
        LogError: If the ledger cannot be written.

    """
    edit.require_readable(record)
    claims = record.claims
    known = [each.id for each in claims.constraints]
    if constraint not in known:
        existing = ", ".join(known) or "none"
        raise BadInputError(
            f"{claims.id}: no constraint {constraint!r:.40}; existing constraints: {existing}"
        )
    for option, text, limit in (("--by", by, MAX_BY_CHARACTERS), ("--reason", reason, MAX_REASON_CHARACTERS)):
        if len(text) > limit:
            raise BadInputError(f"{option} {text[:40]!r}: {len(text)} characters; a waiver accepts {limit}")
    request = make_request(
        RunFolder(runs, LEDGER),
        "WAIVE",
        by,
        reason,
        target=claims.id,
        digest=hashlib.sha256(record.data).hexdigest(),
        settings=(f"{constraint} until {until.isoformat()}",),
    )
    text = _with_waiver(record, constraint, until, request)
    event_id = append_entry(runs, *event_fields(sign_request(request, load_or_create_signer())))
    return event_id, text


def _with_waiver(record: DecisionRecord, constraint: str, until: dt.date, request: Request) -> str:
    """Return the record's text with the waiver, which replaces an earlier one of the same constraint."""
    values = record.front.values if record.front is not None else {}
    present = values.get("waivers") if isinstance(values, dict) else None
    others = [
        item for item in present or [] if isinstance(item, dict) and item.get("constraint") != constraint
    ]
    waiver = {
        "constraint": constraint,
        "by": request.by,
        "reason": request.reason,
        "until": until.isoformat(),
    }
    waivers = [*others, waiver]
    if len(waivers) > MAX_WAIVERS:
        raise BadInputError(f"{record.claims.id}: has {MAX_WAIVERS} waivers; remove one that has ended")
    # JSON is YAML.
    lines = edit.set_key(record, record.lines, "waivers", orjson.dumps(waivers).decode(), "outcome")
    return edit.join_lines(record, lines)
