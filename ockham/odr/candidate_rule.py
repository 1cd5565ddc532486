"""Which runs a registration fixed: their IDs, or the first N runs with a name pattern that begin later.

Without this, someone could train many candidates and cite the best one.
"""

from __future__ import annotations

import contextlib
import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ockham.errors import BadInputError
from ockham.odr.pinned_log import check_schema
from ockham.odr.record_data import RecordData
from ockham.record.run_folder import RunFolder, check_run_id, list_runs
from ockham.record.segment_reader import read_first_event

MAX_CANDIDATES = 50


class CandidateRule(NamedTuple):
    """Registered runs.

    Attributes:
        runs: IDs of the candidates. Empty if a pattern selects them.
        pattern: Name pattern with `*` and `?`. Empty if the candidates are named.
        total: Number of runs that match the pattern.
        baselines: IDs of the baselines. Empty if the record compares with no run.

    """

    runs: tuple[str, ...] = ()
    pattern: str = ""
    total: int = 0
    baselines: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Return True if it fixes candidates."""
        return bool(self.runs or self.pattern)

    def sentence(self) -> str:
        """Return `cand-1, cand-2 against base`, or `the first 3 runs named cand-*`."""
        if not self:
            return ""
        runs = ", ".join(self.runs) or f"the first {self.total} runs named {self.pattern}"
        return f"{runs} against {', '.join(self.baselines)}" if self.baselines else runs

    def fields(self) -> dict[str, Any]:
        """Return the rule as a field of a registration."""
        selected = {"runs": list(self.runs)} if self.runs else {"pattern": self.pattern, "count": self.total}
        return {**selected, "baselines": list(self.baselines)}


def make_rule(
    claims: RecordData, candidates: Sequence[str], matching: str, count: int, baselines: Sequence[str]
) -> CandidateRule:
    """Return the rule of a new registration. Runs that the record already names are its default.

    Raises:
        BadInputError: If it selects no runs, selects them in two ways, or a name is not valid.

    """
    runs = tuple(candidates) or (() if matching else tuple(side.run for side in claims.candidates))
    fixed = tuple(baselines) or tuple(side.run for side in claims.baselines)
    if bool(runs) == bool(matching):
        raise BadInputError(
            f"{claims.id}: the registration needs the candidates; "
            "name them with --candidate, or select them with --matching PATTERN --count N"
        )
    if matching and not 1 <= count <= MAX_CANDIDATES:
        raise BadInputError(f"--matching needs --count: 1 to {MAX_CANDIDATES} runs")
    for run in (*runs, *fixed, *([matching.replace("*", "x").replace("?", "x")] if matching else [])):
        check_run_id(run)
    if len({*runs, *fixed}) < len(runs) + len(fixed):
        raise BadInputError(f"{claims.id}: a run is named twice")
    return CandidateRule(runs, matching, count if matching else 0, fixed)


def parse_rule(data: Mapping[str, Any]) -> CandidateRule:
    """Return the rule of a registered event, which fits its schema."""
    rule = data.get("candidates", {})
    return CandidateRule(
        tuple(rule.get("runs", ())),
        rule.get("pattern", ""),
        rule.get("count", 0),
        tuple(rule.get("baselines", ())),
    )


def find_rule_problems(
    rule: CandidateRule, claims: RecordData, position: int, places: Sequence[Path]
) -> Iterator[str]:
    """Yield a message for each difference between the registered runs and the runs of a record.

    Args:
        rule: The registered rule.
        claims: The record.
        position: Position of the registration in the ledger.
        places: Folders of runs, which show whether a run that matches the pattern was left out.

    """
    cited = [side.run for side in claims.candidates]
    # The first registrations fixed no runs.
    if rule and [side.run for side in claims.baselines] != list(rule.baselines):
        registered = ", ".join(rule.baselines) or "none"
        yield f"the baselines are {_names(claims.baselines)}, registered were {registered}"
    if rule.runs:
        if cited != list(rule.runs):
            yield f"the candidates are {', '.join(cited)}, registered were {', '.join(rule.runs)}"
        return
    if not rule.pattern:
        return
    odd = [run for run in cited if not fnmatch.fnmatchcase(run, rule.pattern)]
    if odd:
        yield f"run {odd[0]} does not match the registered pattern {rule.pattern}"
    if len(cited) != rule.total:
        yield f"the record cites {len(cited)} candidates, registered were {rule.sentence()}"
        return
    known = list(_later_runs(rule.pattern, position, places))
    skipped = [run for run in known[: rule.total] if run not in cited]
    if skipped and not odd and any(run in known for run in cited):
        yield f"run {skipped[0]} is one of {rule.sentence()}, but the record does not cite it"


def _names(sides: Sequence[Any]) -> str:
    return ", ".join(side.run for side in sides) or "none"


def _later_runs(pattern: str, position: int, places: Sequence[Path]) -> Iterator[str]:
    """Yield the runs that match a pattern and name a ledger with the registration, the oldest first."""
    found: dict[str, str] = {}
    for place in places:
        for run in list_runs(place):
            if run in found or not fnmatch.fnmatchcase(run, pattern):
                continue
            started = read_started_event(RunFolder(place, run).segments(1, 0))
            ledger = started["data"].get("ledger") if started is not None else None
            if started is not None and ledger and ledger["size"] > position:
                found[run] = started["time"]
    yield from sorted(found, key=lambda run: (found[run], run))


def read_started_event(segments: Sequence[Path]) -> dict[str, Any] | None:
    """Return the `run.started` event of a log, or None if it begins with another line."""
    event = None
    with contextlib.suppress(ValueError, OSError):
        event = check_schema(read_first_event(segments[0])) if segments else None
    return event if event is not None and event["type"] == "ockham.run.started.v1" else None
