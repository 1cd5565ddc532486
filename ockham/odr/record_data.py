"""Data of a record as typed values. Missing values and wrong types are omitted; lint reports them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from ockham.odr.constraint_library import resolve_constraint

VERDICTS = ("KEEP", "REVERT", "INCONCLUSIVE")
# As the schema has it; a table of integers ends at 2**63.
MAX_INTEGER = 2**53 - 1
# It becomes the name of a file.
_EVENT_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Constraint(NamedTuple):
    """One constraint.

    Attributes:
        position: Index in the list.
        judge: What must satisfy the claim if there are several pairs of runs: the 95 % `interval`, or the
            `mean`.
        name: Name of a constraint of the library, which generates text, SQL and claim. Empty for SQL.
        parameters: Parameters of the named constraint, with its defaults.

    """

    position: int
    id: str
    text: str
    sql: str
    op: str
    threshold: float
    tolerance: float = 0.0
    unit: str = ""
    min_n: int = 1
    severity: str = "error"
    measured: float | None = None
    judge: str = "interval"
    name: str = ""
    parameters: Mapping[str, float] = MappingProxyType({})

    @property
    def claim(self) -> str:
        """The claimed limit, such as `< 10 ms`, or `0.5 to 0.7 ratio` for == with a tolerance."""
        if self.op == "==" and self.tolerance > 0:
            low, high = self.threshold - self.tolerance, self.threshold + self.tolerance
            return f"{low:g} to {high:g} {self.unit}".rstrip()
        return f"{self.op} {self.threshold:g} {self.unit}".rstrip()


class EvidenceSide(NamedTuple):
    """One run of the evidence, pinned at a position of one of its logs.

    Attributes:
        name: `baseline` or `candidate`.
        path: Keys in the front matter, such as `("evidence", "candidates", 0)`. Empty if it is not from a
            record.

    """

    name: str
    run: str
    attempt: int = 1
    rank: int = 0
    through: int | None = None
    root: str = ""
    decisions: tuple[str, ...] = ()
    path: tuple[str | int, ...] = ()

    @property
    def label(self) -> str:
        """Name in messages: `candidate`, or `candidates[0]` in a list."""
        return f"{self.path[1]}[{self.path[2]}]" if len(self.path) > 2 else self.name


class Correction(NamedTuple):
    """A later correction of the OQ delta of a decided record, whose text is locked."""

    position: int
    oq_delta: float
    date: str
    reason: str


class EvidencePair(NamedTuple):
    """A candidate and the baseline that it is compared with. None without a baseline."""

    baseline: EvidenceSide | None
    candidate: EvidenceSide


class Waiver(NamedTuple):
    """A constraint that may fail until a date."""

    position: int
    constraint: str
    until: str


class RecordData(NamedTuple):
    """Data of a complete front matter.

    `has_outcome` is True if the outcome has both keys with accepted values. Null is accepted.
    """

    id: str = ""
    title: str = ""
    status: str = ""
    date: str = ""
    owners: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    supersedes: tuple[str, ...] = ()
    superseded_by: tuple[str, ...] = ()
    review_by: str = ""
    baselines: tuple[EvidenceSide, ...] = ()
    candidates: tuple[EvidenceSide, ...] = ()
    varies: tuple[str, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    has_outcome: bool = False
    oq_delta: float | None = None
    oq_delta_at: str = "iteration"
    verdict: str | None = None
    waivers: tuple[Waiver, ...] = ()
    corrections: tuple[Correction, ...] = ()
    lock: str = ""
    registered: str = ""

    @property
    def sides(self) -> tuple[EvidenceSide, ...]:
        """All baselines, then all candidates."""
        return self.baselines + self.candidates

    @property
    def pairs(self) -> tuple[EvidencePair, ...]:
        """Pairs by position. One baseline is compared with all candidates. Empty if the numbers differ."""
        return pair_sides(self.baselines, self.candidates)


def pair_sides(
    baselines: Sequence[EvidenceSide], candidates: Sequence[EvidenceSide]
) -> tuple[EvidencePair, ...]:
    """Return the pairs of baselines and candidates.

    Args:
        baselines: None, one for all candidates, or one for each.
        candidates: Runs with the change.

    Returns:
        One pair per candidate. Empty if there are several baselines, but not one per candidate.

    """
    if len(baselines) in {0, 1}:
        return tuple(EvidencePair(baselines[0] if baselines else None, one) for one in candidates)
    if len(baselines) != len(candidates):
        return ()
    return tuple(map(EvidencePair, baselines, candidates))


def parse_record_data(values: Any) -> RecordData:
    """Return the data of a front matter, valid or not."""
    front = values if isinstance(values, Mapping) else {}
    evidence = _mapping(front, "evidence")
    outcome = _mapping(front, "outcome")
    return RecordData(
        id=_text(front, "id"),
        title=_text(front, "title"),
        status=_text(front, "status"),
        date=_text(front, "date"),
        owners=_texts(front, "owners"),
        tags=_texts(front, "tags"),
        supersedes=_texts(front, "supersedes"),
        superseded_by=_texts(front, "superseded_by"),
        review_by=_text(front, "review_by"),
        baselines=_sides(evidence, "baseline"),
        candidates=_sides(evidence, "candidate"),
        varies=_texts(evidence, "varies"),
        constraints=tuple(_constraints(front)),
        has_outcome=_is_complete(outcome),
        oq_delta=_number(outcome, "oq_delta"),
        oq_delta_at=_text(outcome, "oq_delta_at") or "iteration",
        verdict=verdict if (verdict := _text(outcome, "verdict")) in VERDICTS else None,
        waivers=tuple(
            Waiver(index, _text(item, "constraint"), _text(item, "until"))
            for index, item in enumerate(_list(front, "waivers"))
            if isinstance(item, Mapping)
        ),
        corrections=tuple(_corrections(front)),
        lock=_text(front, "lock"),
        registered=registered if _EVENT_ID.fullmatch(registered := _text(front, "registered")) else "",
    )


def _is_complete(outcome: Mapping[str, Any]) -> bool:
    """Return True if an outcome has both keys with accepted values."""
    delta, verdict = outcome.get("oq_delta", ""), outcome.get("verdict", "")
    number = _number(outcome, "oq_delta")
    is_accepted = delta is None or (number is not None and math.isfinite(number))
    return is_accepted and verdict in (*VERDICTS, None)


def _constraints(front: Mapping[str, Any]) -> list[Constraint]:
    items = enumerate(_list(front, "constraints"))
    return [parse_constraint(index, item) for index, item in items if isinstance(item, Mapping)]


def parse_constraint(index: int, item: Mapping[str, Any]) -> Constraint:
    """Return a constraint with SQL, or one that its name and parameters determine.

    Invalid values are omitted.
    """
    threshold, tolerance = _number(item, "threshold"), _number(item, "tolerance")
    constraint = Constraint(
        index,
        _text(item, "id"),
        _text(item, "text"),
        _text(item, "sql"),
        _text(item, "op"),
        float("nan") if threshold is None else threshold,
        tolerance or 0.0,
        _text(item, "unit"),
        max(1, _integer(item, "min_n", 1)),
        _text(item, "severity") or "error",
        _number(item, "measured"),
        _text(item, "judge") or "interval",
    )
    if "name" not in item:
        return constraint
    # A constraint that cannot be resolved has no SQL, so it is unknown. Lint reports why.
    resolved = resolve_constraint(item)
    if resolved is None:
        return constraint._replace(sql="", name=_text(item, "name"))
    smallest = max(1, _integer(item, "min_n", resolved.min_n))
    return constraint._replace(name=_text(item, "name"), **resolved._replace(min_n=smallest)._asdict())


def _corrections(front: Mapping[str, Any]) -> Iterator[Correction]:
    for index, item in enumerate(_list(front, "corrections")):
        value = _number(item, "oq_delta") if isinstance(item, Mapping) else None
        if value is not None:
            yield Correction(index, value, _text(item, "date"), _text(item, "reason"))


def _sides(evidence: Mapping[str, Any], name: str) -> tuple[EvidenceSide, ...]:
    """Return the sides under `baseline` or `candidate`, or under the list with the plural of this name."""
    items: list[tuple[tuple[str | int, ...], Any]] = [(("evidence", name), evidence.get(name))]
    plural = f"{name}s"
    items += [(("evidence", plural, at), item) for at, item in enumerate(_list(evidence, plural))]
    found = (_side(name, item, path) for path, item in items if isinstance(item, Mapping))
    return tuple(side for side in found if side is not None)


def _side(name: str, side: Mapping[str, Any], path: tuple[str | int, ...]) -> EvidenceSide | None:
    if not _text(side, "run"):
        return None
    through = _integer(side, "through_sequence", -1)
    return EvidenceSide(
        name,
        _text(side, "run"),
        _integer(side, "attempt", 1),
        _integer(side, "rank", 0),
        None if through < 0 else through,
        _text(side, "root"),
        _texts(side, "decisions"),
        path,
    )


def _mapping(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = values.get(key)
    return value if isinstance(value, Mapping) else {}


def _list(values: Mapping[str, Any], key: str) -> list[Any]:
    value = values.get(key)
    return value if isinstance(value, list) else []


def _text(values: Mapping[str, Any], key: str) -> str:
    value = values.get(key)
    return value if isinstance(value, str) else ""


def _texts(values: Mapping[str, Any], key: str) -> tuple[str, ...]:
    return tuple(item for item in _list(values, key) if isinstance(item, str))


def _number(values: Mapping[str, Any], key: str) -> float | None:
    """Return a number as a float. None if it is not a number, or too large."""
    value = values.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def _integer(values: Mapping[str, Any], key: str, default: int) -> int:
    value = values.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > MAX_INTEGER:
        return default
    return value
