"""Pre-registration: criteria and candidates are in the ledger before the first candidate starts.

The first event of a candidate names size and root of the ledger at its start. If the registration is a leaf
of that tree, it is older than all events of the run: its criteria were fixed before the data, and its
candidates before it was known which of them is best. A holder of the key can make registration and run again.
A pin of the ledger or of the run, stored elsewhere, reveals that.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from ockham.errors import BadInputError
from ockham.event import event_kind
from ockham.odr import edit
from ockham.odr.candidate_rule import CandidateRule, find_rule_problems, parse_rule, read_started_event
from ockham.odr.constraint_sql import analyze_sql
from ockham.odr.pinned_log import PinnedLog, parse_event
from ockham.odr.record import DecisionRecord
from ockham.odr.record_data import Constraint
from ockham.odr.records_folder import printable
from ockham.odr.verdict import Registration
from ockham.record.durable_io import atomic_write
from ockham.record.ledger import append_entry, read_entries
from ockham.record.run_folder import RunFolder, list_regular_files, read_regular_file
from ockham.record.tlog.merkle import inclusion_proof, leaf_hash, verify_inclusion

KIND = "odr.registered"
# A line has at most 65,535 bytes.
MAX_PROOF_BYTES = 200_000
# Values in a finding. Of longer ones it contains the first difference and some characters before it.
MAX_VALUE_CHARACTERS = 120
_BEFORE_CHARACTERS = 40
_FIXED = ("name", "text", "sql", "op", "threshold", "tolerance", "unit", "min_n", "severity", "judge")


class RegisteredEvent(NamedTuple):
    """A registration: its line, its position in the ledger, and its inclusion proof, if there is one."""

    line: bytes
    position: int
    proof: Callable[[int], list[bytes] | None]


def register(record: DecisionRecord, runs: Path, rule: CandidateRule) -> str:
    """Write constraints and candidates to the ledger. Return the record's text, which then names the event.

    Args:
        record: Record after lint.
        runs: Folder of runs with the ledger.
        rule: The runs that the record will cite.

    Raises:
        BadInputError: If the record has nothing to register, or a candidate has started.
        LogError: If the ledger cannot be written.

    """
    _require_registrable(record, rule)
    for side in record.claims.candidates:
        if side.root:
            raise _started_error(record, side.run)
    for run in rule.runs:
        if RunFolder(runs, run).exists():
            raise _started_error(record, run)
    claims = record.claims
    for event_id, data in find_registrations(record.file.parent, [runs]).items():
        if data["odr_id"] == claims.id:
            raise _registered_error(record, event_id)
    fields = {
        "odr_id": claims.id,
        "title": claims.title,
        "odr_sha256": hashlib.sha256(record.data).hexdigest(),
        "constraints": [registered_fields(constraint) for constraint in claims.constraints],
        "candidates": rule.fields(),
    }
    # Fails before anything is registered if the file cannot be edited.
    _with_registered(record, "0" * 8)
    return _with_registered(record, append_entry(runs, KIND, fields))


def _started_error(record: DecisionRecord, run: str) -> BadInputError:
    return BadInputError(
        f"{record.claims.id}: the candidate run {run} exists; register before the run starts"
    )


def _registered_error(record: DecisionRecord, event_id: str) -> BadInputError:
    return BadInputError(
        f"{record.claims.id} is registered as {event_id}: another question is another record"
    )


def _require_registrable(record: DecisionRecord, rule: CandidateRule) -> None:
    """Check that a record has constraints, no error, no registration, and all runs that it compares.

    Raises:
        BadInputError: If it does not.

    """
    edit.require_readable(record)
    claims = record.claims
    if claims.registered:
        raise _registered_error(record, claims.registered)
    if claims.status not in {"draft", "proposed"}:
        raise BadInputError(f"{claims.id} is {claims.status}: a decided record cannot be registered")
    if not claims.constraints:
        raise BadInputError(f"{claims.id} has no constraint: say first what must hold")
    fault = next((f for f in record.findings if f.severity == "error"), None)
    if fault is not None:
        raise BadInputError(f"{claims.id}: {fault.code} at line {fault.line}, {fault.message}; fix it first")
    compared = [
        one.id
        for one in claims.constraints
        if not analyze_sql(one.sql).parameters.isdisjoint({"baseline", "baselines"})
    ]
    if compared and not rule.baselines:
        raise BadInputError(f"{claims.id}: {compared[0]} compares with a baseline; name it with --baseline")


def _with_registered(record: DecisionRecord, event_id: str) -> str:
    lines = edit.set_key(record, record.lines, "registered", edit.yaml_string(event_id), "supersedes")
    return edit.join_lines(record, lines)


def registered_fields(constraint: Constraint) -> dict[str, Any]:
    """Return the fields of a constraint that a registration fixes: all but the measured values."""
    return {"id": constraint.id, **{name: getattr(constraint, name) for name in _FIXED}}


def check_registration(
    record: DecisionRecord, cuts: Sequence[PinnedLog], places: Sequence[Path]
) -> Registration | None:
    """Compare a record with its registration, and prove that it is older than the candidate runs.

    Adds ODR409, ODR411, ODR412 and ODR413. Returns None if the proof is not possible.
    """
    if not record.claims.registered:
        return None
    event_id = record.claims.registered
    found = _read_packed(_packed_file(record), event_id) or find_registration(event_id, places)
    if found is None:
        where = ", ".join(str(place) for place in places)
        record.add_finding_at("ODR409", f"{event_id} is in no ledger of {where}, nor packed", ("registered",))
        return None
    data = orjson.loads(found.line)
    same = _same_criteria(record, data["data"])
    candidates = [one for one in cuts if one.side.name == "candidate"]
    if not candidates:
        return None
    rule = parse_rule(data["data"])
    other = list(find_rule_problems(rule, record.claims, found.position, places)) if same else []
    for message in other:
        record.add_finding_at("ODR413", message, ("registered",))
    orders = [_order_problem(found, candidate) for candidate in candidates]
    late = [message for message, _ in orders if message]
    for message in late:
        record.add_finding_at("ODR412", message, ("registered",))
    if late or other or not same:
        return None
    size = min(size for _, size in orders)
    return Registration(data["id"], data["time"], found.position, size, rule.sentence())


def find_registrations(folder: Path, places: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """Return the data of all registrations by event ID: those of the ledgers, and those packed with records.

    Args:
        folder: Folder of records.
        places: Folders of runs.

    """
    lines = [line for place in places for line in read_entries(place) if _registered(line, "")]
    packed = folder / "evidence" / "registrations"
    found = (_read_packed(packed / name, "") for name in sorted(list_regular_files(packed)))
    lines += [one.line for one in found if one is not None]
    events = map(orjson.loads, lines)
    return {event["id"]: event["data"] for event in events}


def check_other_registrations(record: DecisionRecord, registrations: Mapping[str, dict[str, Any]]) -> None:
    """Add ODR417 for each registration of a record that the record does not name."""
    for event_id, data in registrations.items():
        if data["odr_id"] == record.claims.id and event_id != record.claims.registered:
            message = f"{record.claims.id} is registered as {event_id}, which the record does not name"
            record.add_finding_at("ODR417", message, ("registered",))


def find_deleted_records(
    folder: Path, records: Sequence[DecisionRecord], places: Sequence[Path]
) -> list[DecisionRecord]:
    """Return the folder with a finding for each registered record that it does not contain."""
    known = {record.claims.id for record in records}
    missing = DecisionRecord(folder, printable(folder))
    for event_id, data in find_registrations(folder, places).items():
        if data["odr_id"] not in known:
            name = f"{data['odr_id']:.40} {data['title']:.80}".rstrip()
            message = f"{name} is registered as {event_id}, and the folder does not contain it"
            missing.add_finding("ODR418", message)
    return [missing] if missing.findings else []


def find_registration(event_id: str, places: Sequence[Path]) -> RegisteredEvent | None:
    """Return a registration from the ledgers of these folders."""
    for place in places:
        lines = read_entries(place)
        for index, line in enumerate(lines):
            if _registered(line, event_id):
                return RegisteredEvent(line, index, _make_prover(lines, index))
    return None


def _make_prover(lines: Sequence[bytes], index: int) -> Callable[[int], list[bytes] | None]:
    leaves = [leaf_hash(line) for line in lines]
    return lambda size: inclusion_proof(leaves[:size], index) if index < size <= len(leaves) else None


def _registered(line: bytes, event_id: str) -> bool:
    """Return True if a line is a registration with this ID or ID prefix."""
    if f'"id":"{event_id}'.encode() not in line:
        return False
    event = parse_event(line)
    return event is not None and event_kind(event["type"]) == KIND and str(event["id"]).startswith(event_id)


def pack_registration(
    record: DecisionRecord, cuts: Sequence[PinnedLog], places: Sequence[Path]
) -> Path | None:
    """Write a registration and its inclusion proof to the packed evidence. None if it does not exist."""
    found = find_registration(record.claims.registered, places) if record.claims.registered else None
    if found is None:
        return None
    named = [_named_ledger(one) for one in cuts if one.side.name == "candidate"]
    sizes = sorted({ledger[0] for ledger in named if ledger is not None})
    paths = {size: path for size in sizes if (path := found.proof(size)) is not None}
    if not paths:
        return None
    document = {
        "line": found.line.decode(),
        "index": found.position,
        "proofs": [{"size": size, "path": [node.hex() for node in path]} for size, path in paths.items()],
    }
    file = _packed_file(record)
    atomic_write(file, orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n")
    return file


def _packed_file(record: DecisionRecord) -> Path:
    return record.file.parent / "evidence" / "registrations" / f"{record.claims.registered}.json"


def _read_packed(file: Path, event_id: str) -> RegisteredEvent | None:
    """Return a packed registration with this ID if it can be read. It can be untrusted."""
    try:
        document = orjson.loads(read_regular_file(file)[:MAX_PROOF_BYTES])
        line, index = document["line"].encode(), document["index"]
        paths = {
            proof["size"]: [bytes.fromhex(node) for node in proof["path"]] for proof in document["proofs"]
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    if type(index) is not int or not _registered(line, event_id):
        return None
    return RegisteredEvent(line, index, paths.get)


def _same_criteria(record: DecisionRecord, data: dict[str, Any]) -> bool:
    if data["odr_id"] != record.claims.id:
        record.add_finding_at(
            "ODR409", f"{record.claims.registered} registers {data['odr_id']:.40}", ("registered",)
        )
        return False
    then = {str(one.get("id")): one for one in data["constraints"]}
    now = {constraint.id: registered_fields(constraint) for constraint in record.claims.constraints}
    odd = []
    for name in [*then, *(name for name in now if name not in then)]:
        if name not in then or name not in now:
            change = "added" if name in now else "removed"
            odd.append(f"{name} was {change} since")
        odd += [
            f"{name}.{key} is {format_change(now[name][key], registered)}"
            for key in _FIXED
            if name in then and name in now
            if now[name][key] != (registered := _registered_value(then[name], key))
        ]
    for message in odd:
        record.add_finding_at("ODR411", message, ("registered",))
    return not odd


def format_change(now: object, registered: object) -> str:
    """Return two different values. Of long texts it contains the part that differs."""
    texts = [json.dumps(value, ensure_ascii=False) for value in (now, registered)]
    same = next((at for at, (one, two) in enumerate(zip(*texts, strict=False)) if one != two), 0)
    start = 0 if max(map(len, texts)) <= MAX_VALUE_CHARACTERS else max(0, same - _BEFORE_CHARACTERS)
    shown = [_excerpt(text, start) for text in texts]
    return f"{shown[0]}, registered was {shown[1]}"


def _excerpt(text: str, start: int) -> str:
    end = start + MAX_VALUE_CHARACTERS
    return ("..." if start else "") + text[start:end] + ("..." if end < len(text) else "")


def _registered_value(constraint: dict[str, Any], key: str) -> Any:
    """Return a registered field. One that did not exist yet has its default."""
    return constraint.get(key, Constraint._field_defaults.get(key))


def _order_problem(found: RegisteredEvent, candidate: PinnedLog) -> tuple[str, int]:
    """Return why the order is not proven, or an empty string, and the size of the tree."""
    run, named = candidate.side.run, _named_ledger(candidate)
    if candidate.side.attempt != 1:
        return (
            f"the evidence is attempt {candidate.side.attempt} of {run}: only a first one names its ledger",
            0,
        )
    if named is None:
        return f"run {run} started without a ledger", 0
    size, root = named
    if found.position >= size:
        return f"run {run} began when the ledger had {size} lines, and this is line {found.position + 1}", 0
    path = found.proof(size)
    if path is None or not verify_inclusion(leaf_hash(found.line), found.position, size, path, root):
        return f"the ledger is not the one that run {run} began under: its root was {root.hex()}", 0
    return "", size


def _named_ledger(candidate: PinnedLog) -> tuple[int, bytes] | None:
    """Return size and root of the ledger in the first event of a candidate."""
    started = read_started_event([segment for segment, _ in candidate.parts])
    ledger = started["data"].get("ledger") if started is not None else None
    return (int(ledger["size"]), bytes.fromhex(ledger["root"])) if ledger else None
