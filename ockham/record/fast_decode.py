"""Fast decoding of decisions and contexts, which are nearly all lines of a log, into typed structs.

This is a fast path. It accepts only lines that are byte-identical to the writer's output and typed as the
schema requires. All other lines take the slow path (JSON parsing and schema validation), the only one that
rejects lines. Every line that is accepted here passes the slow path too, and
`tests/record/test_fast_decode.py` searches for exceptions. The result is therefore the same at a third of the
cost. To check that bytes are canonical, the decoded value is encoded again and compared. Numbers from 1e15 up
take the slow path, because msgspec and orjson write exponents differently.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, compress, repeat
from operator import attrgetter
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from ockham.context import CODE_PATTERN, FIELDS, GAUGES, KNOBS, REQUIRED
from ockham.data_position import MAX_INDICES
from ockham.event import SPECVERSION, event_type, to_json_value
from ockham.fields import STEP_KNOBS

DECISION, CONTEXT = "decision.made", "context.recorded"
Int = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Count = Annotated[int, Meta(ge=0, le=2**53 - 1)]
Number = Int | Annotated[float, Meta(gt=-1e15, lt=1e15)] | Literal["NaN", "Infinity", "-Infinity"]
KnobValue = Number | bool | list[Number]
_KINDS: Mapping[str, Any] = {"float": Number, "int": Int, "bool": bool, "str": str, "floats": list[Number]}
# bytes; near the limit of a line the slow reading counts exactly.
_FAST_PATH_MAX_BYTES = 64_000
# Recurring texts of a line.
_context_texts = attrgetter("attempt", "rank", "policy_revision")
_decision_texts = attrgetter("attempt", "rank", "policy_revision", "plugin", "action", "reason_code")
# Names seen before; a hostile log must not fill the memory with them.
_MAX_CACHED = 4096
_BEFORE_SOURCE = '","source":"'
# An ID always has 36 characters.
_AT_SOURCE = len('{"specversion":"1.0","id":"') + 36
# Of many lines at once, one under the other; without a group for each the engine keeps no stack of them.
_IDS = re.compile(r"(?:[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}(?:\n|\Z))+")
_TIMES = re.compile(
    r"(?:[0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\.[0-9]{6}Z(?:\n|\Z))+"
)
_DIGESTS = re.compile(r"(?:[0-9A-Za-z:+/=._-]{8,128}(?:\n|\Z))+")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,63}")
_REVISION = re.compile(r"sha256:[0-9a-f]{64}")


class ChangeData(Struct, forbid_unknown_fields=True, gc=False):
    """One knob change by one plugin."""

    field: Literal[KNOBS]  # type: ignore[valid-type]  # the table of fields is the one list of knobs
    before: KnobValue
    after: KnobValue


class DecisionData(Struct, forbid_unknown_fields=True, gc=False):
    """Data of `decision.made`, in the order in which it is written."""

    sequence: Count
    attempt: Count
    rank: Count
    iter_num: Count
    micro_step: Count
    hook: Literal["on_batch_start", "on_gradients", "on_batch_end", "on_evaluate", "on_consolidate"]
    plugin: str
    order: Count
    shadow: bool
    action: str
    reason_code: str
    observed: Number | None
    threshold: Number | None
    changes: list[ChangeData]
    numbers: dict[str, Number]
    policy_revision: str


def _table(name: str, fields: Sequence[Any], *, absent: bool) -> Any:
    """Return a struct type of context fields.

    A field that is missing in a line has its default or is UNSET.
    """
    members: list[Any] = []
    for field in fields:
        kind = _KINDS[field.kind] | None if field.nullable else _KINDS[field.kind]
        if absent:
            members.append((field.name, kind | UnsetType, UNSET))
        elif field.name in REQUIRED:
            members.append((field.name, kind))
        else:
            members.append((field.name, kind, to_json_value(field.default)))
    if name != "Left":
        members.append(("custom", dict[str, Number] | UnsetType, UNSET))
    return msgspec.defstruct(name, members, forbid_unknown_fields=True, omit_defaults=True, gc=False)


Given = _table("Given", FIELDS, absent=False)
Measured = _table("Measured", [f for f in FIELDS if f.name in GAUGES], absent=True)
Left = _table("Left", [f for f in FIELDS if f.name in KNOBS], absent=True)
Gradients = _table("Gradients", [f for f in FIELDS if f.name in STEP_KNOBS], absent=True)


class Applied(Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """Measurement at the optimizer."""

    updated: bool | None
    learning_rates: list[Number] | UnsetType = UNSET
    clipped_grad_norm: Number | UnsetType = UNSET
    weights_changed: bool | UnsetType = UNSET
    cause: Annotated[str, Meta(pattern="^[A-Z][A-Z0-9_]{1,63}$")] | UnsetType = UNSET
    learning_rate: Number | UnsetType = UNSET
    lambda_ockham: Number | UnsetType = UNSET
    grad_clip: Number | UnsetType = UNSET
    drift_ceiling: Number | UnsetType = UNSET


class Rows(Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """Where the rows of a batch came from."""

    position: Count | UnsetType = UNSET
    indices: Annotated[list[Count], Meta(max_length=MAX_INDICES)] | UnsetType = UNSET
    # A pattern here would call Python for each row; `_DIGESTS` matches those of many lines at once.
    digest: str | UnsetType = UNSET


class Range(Struct, forbid_unknown_fields=True, gc=False):
    """First decision of a context, and the number of decisions."""

    first: Count | None
    count: Count


class ContextData(Struct, forbid_unknown_fields=True, gc=False):
    """Data of `context.recorded`, in the order in which it is written."""

    sequence: Count
    attempt: Count
    rank: Count
    iter_num: Count
    micro_step: Count
    hook: Literal["batch", "on_evaluate", "on_consolidate"]
    policy_revision: str
    given: Given  # type: ignore[valid-type]
    measured: Measured  # type: ignore[valid-type]
    left: Left  # type: ignore[valid-type]
    applied: Applied
    seconds: dict[str, Number]
    decisions: Range
    gradients: Gradients | UnsetType = UNSET  # type: ignore[valid-type]
    rows: Rows | UnsetType = UNSET


# kind, ID and data: a struct for decisions and contexts, else as JSON gives it.
Event = tuple[str, str, Any]


def to_struct(kind: str, data: Mapping[str, Any]) -> Any:
    """Return the struct of a decision or context whose data passed its schema.

    Other data is returned unchanged.
    """
    rest = {key: value for key, value in data.items() if key != "ext"}
    if kind == DECISION:
        return DecisionData(**{**rest, "changes": [ChangeData(**change) for change in data["changes"]]})
    if kind == CONTEXT:
        parts = (
            ("given", Given),
            ("measured", Measured),
            ("left", Left),
            ("applied", Applied),
            ("decisions", Range),
            ("gradients", Gradients),
            ("rows", Rows),
        )
        known = {name: part(**data[name]) for name, part in parts if name in data}
        return ContextData(**{**rest, **known})
    return data


class FastDecoder:
    """Decoder of the decisions and contexts among many lines.

    Checks run on columns of many lines at once. Names and codes recur, so each is checked once.

    Args:
        source: `source` of the events of this run.
        attempt: Attempt number, from 1.
        rank: Rank, from 0.

    """

    def __init__(self, source: str, attempt: int, rank: int) -> None:
        self._place = (attempt, rank)
        self._readers = [
            (
                kind,
                f'{_BEFORE_SOURCE}{source}","type":"{event_type(kind)}"'.encode(),
                _line_reader(source, kind, data),
            )
            for kind, data in ((DECISION, DecisionData), (CONTEXT, ContextData))
        ]
        self._encoder = msgspec.json.Encoder()
        self._days: set[str] = set()
        self._known: set[tuple[Any, ...]] = set()
        self._names: set[str] = set()

    def read(self, raw_lines: Sequence[bytes], first: int) -> list[Event | None]:
        """Return the event of each line, or None if the slow path must decode it.

        Args:
            raw_lines: Lines without their newlines.
            first: Sequence number of the first one.

        """
        found: list[Event | None] = [None] * len(raw_lines)
        for kind, sequences, read in self._accepted(raw_lines, first):
            events = zip(repeat(kind), [line.id for line in read], [line.data for line in read])
            if len(read) == len(found):
                return list(events)
            for sequence, event in zip(sequences, events, strict=False):
                found[sequence - first] = event
        return found

    def lines(self, raw_lines: Sequence[bytes], first: int) -> list[Any]:
        """Return each line with its envelope as a struct, or None if the slow path must decode it.

        Args:
            raw_lines: Lines without their newlines.
            first: Sequence number of the first one.

        """
        found = [None] * len(raw_lines)
        for _, sequences, read in self._accepted(raw_lines, first):
            for sequence, line in zip(sequences, read, strict=True):
                found[sequence - first] = line
        return found

    def _accepted(self, raw_lines: Sequence[bytes], first: int) -> Iterator[tuple[str, list[int], list[Any]]]:
        """Yield kind, sequence numbers and decoded lines of each kind."""
        for kind, mark, reader in self._readers:
            marked = [raw.startswith(mark, _AT_SOURCE) for raw in raw_lines]
            sequences = list(compress(range(first, first + len(raw_lines)), marked))
            read = self._lines(reader, list(compress(raw_lines, marked)))
            datas = [line.data for line in read]
            if not read:
                continue
            if [data.sequence for data in datas] == sequences and self._are_valid(kind, datas):
                yield kind, sequences, read
                continue
            for sequence, line in zip(sequences, read, strict=True):
                if line.data.sequence == sequence and self._are_valid(kind, [line.data]):
                    yield kind, [sequence], [line]

    def _lines(self, reader: Any, raw_lines: list[bytes]) -> list[Any]:
        """Return all decoded lines, or an empty list if one is not canonical."""
        whole = b"\n".join(raw_lines) + b"\n"
        if (
            not raw_lines
            or not whole.isascii()
            or b"\\" in whole
            or max(map(len, raw_lines)) > _FAST_PATH_MAX_BYTES
        ):
            return []
        try:
            read: list[Any] = reader.decode_lines(whole)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return []
        if self._encoder.encode_lines(read) != whole:
            return []
        ids, times = "\n".join([line.id for line in read]), "\n".join([line.time for line in read])
        good = _IDS.fullmatch(ids) and _TIMES.fullmatch(times)
        return read if good and all(map(self._is_day, {line.time[:10] for line in read})) else []

    def _are_valid(self, kind: str, datas: list[Any]) -> bool:
        """Return True if positions, codes, revisions, names and digests are valid by the schema."""
        if kind == DECISION:
            recurring = set(map(_decision_texts, datas))
            names = set(chain.from_iterable([data.numbers for data in datas]))
        else:
            recurring = set(map(_context_texts, datas))
            names = set(chain.from_iterable([data.seconds for data in datas]))
            parts = [part for data in datas for part in (data.given, data.measured, data.gradients)]
            customs = [part.custom for part in parts if part is not UNSET and part.custom is not UNSET]
            names.update(chain.from_iterable(customs))
            found = [data.rows.digest for data in datas if data.rows is not UNSET]
            digests = [digest for digest in found if digest is not UNSET]
            if digests and not _DIGESTS.fullmatch("\n".join(digests)):
                return False
        return all(map(self._is_valid, recurring - self._known)) and all(
            map(self._is_name, names - self._names)
        )

    def _is_valid(self, texts: tuple[Any, ...]) -> bool:
        """Return True if position, revision and codes are valid by the schema. Valid ones are cached."""
        attempt, rank, revision, *others = texts
        good = (attempt, rank) == self._place and _REVISION.fullmatch(revision) is not None
        if others:
            plugin, action, reason_code = others
            codes = CODE_PATTERN.fullmatch(action) and CODE_PATTERN.fullmatch(reason_code)
            good = good and codes is not None and len(plugin) <= 4096
        if good and len(self._known) < _MAX_CACHED:
            self._known.add(texts)
        return good

    def _is_name(self, name: str) -> bool:
        """Return True if the name of a number is valid by the schema. Valid ones are cached."""
        good = _NAME.fullmatch(name) is not None
        if good and len(self._names) < _MAX_CACHED:
            self._names.add(name)
        return good

    def _is_day(self, day: str) -> bool:
        if day in self._days:
            return True
        try:
            dt.date.fromisoformat(day)
        except ValueError:
            return False
        if len(self._days) < _MAX_CACHED:
            self._days.add(day)
        return True


def _line_reader(source: str, kind: str, data: Any) -> Any:
    """Return a decoder for complete lines of one kind, with the envelope in its written order."""
    members = [
        ("specversion", Literal[SPECVERSION]),
        ("id", str),
        ("source", Literal[source]),
        ("type", Literal[event_type(kind)]),
        ("subject", Annotated[str, Meta(min_length=1, max_length=200)]),
        ("time", str),
        ("dataschema", Literal[f"urn:ockham:{kind}.v1"]),
        ("data", data),
    ]
    return msgspec.json.Decoder(msgspec.defstruct("Line", members, forbid_unknown_fields=True, gc=False))
