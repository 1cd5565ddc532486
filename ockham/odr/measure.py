"""Filling in what a log knows: the pinned sides of a new record, and the values of its constraints."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ockham.errors import BadInputError
from ockham.odr import edit
from ockham.odr.ask import guarded
from ockham.odr.claims import Constraint, Side
from ockham.odr.draft import DEFAULTS
from ockham.odr.evidence import Cut, cut, lay_out, locate, pinned
from ockham.odr.packed import pack
from ockham.odr.record import Record
from ockham.odr.registration import pack_registration
from ockham.odr.report import result_json
from ockham.odr.verdict import Judgement, judge
from ockham.record.folder import RunFolder
from ockham.record.ledger import say
from ockham.record.links import refuse_links


def pinned_sides(runs: Path, baseline: str | None, candidate: str | None) -> tuple[Side, ...]:
    """The sides of the evidence as the logs are now; none where no candidate is named.

    Raises:
        BadInputError: if only a baseline is named, or both are one run.
        RunError: if a run is not there.

    """
    if candidate is None:
        if baseline is not None:
            raise BadInputError("--baseline needs --candidate: the run with the change")
        return ()
    if baseline == candidate:
        raise BadInputError(f"baseline and candidate are both {candidate!r}: name two runs")
    sides = []
    for name, run in (("baseline", baseline), ("candidate", candidate)):
        if run is not None:
            side = pinned(name, RunFolder(runs, run).require())
            if side is None:
                raise BadInputError(f"run {run!r} in {runs} has no event yet")
            sides.append(side)
    return tuple(sides)


def measured_defaults(sides: Sequence[Side], runs: Path) -> tuple[Constraint, ...]:
    """The constraints that a new record begins with, measured; none without two sides."""
    if len(sides) < 2:
        return ()

    cuts = [one for side in sides if (one := cut(side, RunFolder(runs, side.run))) is not None]
    parameters = {side.name: side.run for side in sides}
    with tempfile.TemporaryDirectory(prefix="ockham-odr-") as temporary:
        lay_out(cuts, Path(temporary))
        with guarded(Path(temporary)) as ask:
            results = [judge(constraint, ask(constraint.sql, parameters)) for constraint in DEFAULTS]
    return tuple(result.constraint._replace(measured=rounded(result.value)) for result in results)


def rounded(value: float | None) -> float | None:
    """Six digits: a record claims what it writes, and nobody means the seventeenth."""
    return None if value is None else float(f"{value:.6g}")


def pack_record(record: Record, runs: Path) -> list[Path]:
    """Pack the pinned logs of a record beside it.

    Raises:
        BadInputError: if a side is not pinned, not there, or its root is another one, or a link stands in the way.

    """
    cuts: list[Cut] = []
    for side in record.claims.sides:
        folder = locate(side.run, [runs])
        one = cut(side, folder) if folder is not None else None
        if one is None:
            raise BadInputError(f"{record.claims.id}: run {side.run} is not in {runs}")
        if side.through is None or not side.root:
            raise BadInputError(
                f"{record.claims.id}: evidence.{side.name} names no through_sequence and root"
            )
        if one.root != side.root:
            raise BadInputError(
                f"{record.claims.id}: the log of {side.run} has the root {one.root}, not the one named"
            )
        cuts.append(one)
    refuse_links(record.file.parent / "evidence")
    files = [pack(one, record.file.parent / "evidence") for one in cuts]  # all or none
    registration = pack_registration(record, cuts, [runs])
    return files if registration is None else [*files, registration]


def with_evidence(record: Record, sides: Sequence[Side]) -> str:
    """The record's text with these sides as its evidence, in place of what stood there.

    Raises:
        BadInputError: if the record is decided, or cannot be edited.

    """
    edit.require_readable(record)
    if record.claims.status not in {"draft", "proposed"}:
        raise BadInputError(f"{record.claims.id} is {record.claims.status}: its evidence is locked")
    told = ", ".join(f"{side.name}: {_flow(side)}" for side in sides)
    lines = edit.with_key(record, record.lines, "evidence", "{" + told + "}", "supersedes")
    return edit.text_of(record, lines)


def _flow(side: Side) -> str:
    decisions = ", ".join(edit.quoted(decision) for decision in side.decisions)
    return (
        f"{{run: {edit.quoted(side.run)}, attempt: {side.attempt}, rank: {side.rank}, "
        f"through_sequence: {side.through}, root: {edit.quoted(side.root)}, decisions: [{decisions}]}}"
    )


def attest(record: Record, judgement: Judgement, runs: Path) -> str:
    """Write an `odr.checked` event into the ledger; returns its ID, empty where nothing was judged.

    Raises:
        LogError: if the ledger can't be written.

    """
    if judgement.verdict is None:
        return ""
    fields = {
        "odr_id": judgement.odr_id,
        "odr_sha256": hashlib.sha256(record.data).hexdigest(),
        "verdict": judgement.verdict,
        "oq_delta": judgement.oq_delta,
        "evidence": [pin._asdict() for pin in judgement.pins],
        "constraints": [result_json(result) for result in judgement.results],
    }
    return say(runs, "odr.checked", fields)
