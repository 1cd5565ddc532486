"""Values from a log for a new record: the pinned sides, and the values of its constraints."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ockham.errors import BadInputError
from ockham.odr import edit
from ockham.odr.constraint_evaluation import evaluate_constraints
from ockham.odr.evidence_pack import pack_log
from ockham.odr.evidence_store import EvidenceStore
from ockham.odr.output_formats import result_json
from ockham.odr.pinned_log import PinnedLog, find_run, pin_side, read_pinned_log
from ockham.odr.query import guarded_queries
from ockham.odr.record import DecisionRecord
from ockham.odr.record_data import Constraint, EvidenceSide, RecordData
from ockham.odr.registration import pack_registration
from ockham.odr.verdict import CheckResult
from ockham.record.ledger import append_entry
from ockham.record.path_safety import reject_special_files
from ockham.record.run_folder import RunFolder


def pin_sides(runs: Path, baselines: Sequence[str], candidates: Sequence[str]) -> tuple[EvidenceSide, ...]:
    """Return the sides of the evidence at present. Empty without a candidate.

    Args:
        runs: Folder of runs.
        baselines: IDs of the runs to compare with: none, one for all candidates, or one for each.
        candidates: IDs of the runs with the change.

    Raises:
        BadInputError: If only a baseline is named, the two lists form no pairs, or a run is named twice.
        RunError: If a run does not exist.

    """
    _check_names(baselines, candidates)
    sides = []
    for name, ids in (("baseline", baselines), ("candidate", candidates)):
        for at, run in enumerate(ids):
            side = pin_side(name, RunFolder(runs, run).require_exists())
            if side is None:
                raise BadInputError(f"run {run!r} in {runs} has no signed event yet")
            path = ("evidence", name) if len(ids) == 1 else ("evidence", f"{name}s", at)
            sides.append(side._replace(path=path))
    return tuple(sides)


def _check_names(baselines: Sequence[str], candidates: Sequence[str]) -> None:
    """Check that the runs form pairs and that none is named twice.

    Raises:
        BadInputError: If they do not.

    """
    if baselines and not candidates:
        raise BadInputError("--baseline needs --candidate: the run with the change")
    if len(baselines) > 1 and len(baselines) != len(candidates):
        raise BadInputError(
            f"{len(baselines)} baselines and {len(candidates)} candidates form no pairs; "
            "name one baseline for all candidates, or one for each"
        )
    for run, count in Counter([*baselines, *candidates]).items():
        if count > 1:
            where = "baseline and candidate are both" if run in baselines else "two candidates are"
            raise BadInputError(f"{where} {run!r}: name different runs")


def measure_constraints(
    constraints: Sequence[Constraint], sides: Sequence[EvidenceSide], runs: Path
) -> tuple[Constraint, ...]:
    """Return constraints with values measured on the sides. Empty without a baseline.

    The value over several pairs is their mean.
    """
    baselines = tuple(side for side in sides if side.name == "baseline")
    candidates = tuple(side for side in sides if side.name == "candidate")
    if not baselines or not candidates:
        return ()
    claims = RecordData(baselines=baselines, candidates=candidates, constraints=tuple(constraints))
    with EvidenceStore([runs], guarded_queries) as store:
        logs = [store.read_log(side, RunFolder(runs, side.run)) for side in sides]
        ask = store.open_queries([log for log in logs if log is not None])
        results = evaluate_constraints(claims, ask)
    return tuple(result.constraint._replace(measured=round_to_six_digits(result.value)) for result in results)


def round_to_six_digits(value: float | None) -> float | None:
    """Return a value with six digits, the precision of claims in a record."""
    return None if value is None else float(f"{value:.6g}")


def pack_record(record: DecisionRecord, runs: Path) -> list[Path]:
    """Pack the pinned logs of a record into its evidence folder.

    Raises:
        BadInputError: If a side is not pinned or does not exist, its root differs, or a link is in the way.

    """
    cuts: list[PinnedLog] = []
    for side in record.claims.sides:
        folder = find_run(side.run, [runs])
        one = read_pinned_log(side, folder) if folder is not None else None
        if one is None:
            raise BadInputError(f"{record.claims.id}: run {side.run} is not in {runs}")
        if side.through is None or not side.root:
            raise BadInputError(
                f"{record.claims.id}: evidence.{side.label} names no through_sequence and root"
            )
        if one.root != side.root:
            raise BadInputError(
                f"{record.claims.id}: the log of {side.run} has root {one.root}; "
                f"evidence.{side.label} pins root {side.root}"
            )
        cuts.append(one)
    reject_special_files(record.file.parent / "evidence")
    # All or none.
    files = [pack_log(one, record.file.parent / "evidence") for one in cuts]
    registration = pack_registration(record, cuts, [runs])
    return files if registration is None else [*files, registration]


def require_pinned_logs(record: DecisionRecord, sides: Sequence[EvidenceSide], runs: Path) -> None:
    """Check that runs which the record pins already are still the same runs. A log may have grown.

    Raises:
        BadInputError: If another run is in the folder of one.
        UnverifiableError: If a log cannot be read.

    """
    names = {side.run for side in sides}
    for pinned in record.claims.sides:
        if not pinned.root or pinned.run not in names:
            continue
        log = read_pinned_log(pinned, RunFolder(runs, pinned.run))
        if log is None or log.root != pinned.root:
            raise BadInputError(
                f"run {pinned.run}: not the run that evidence.{pinned.label} pins with root {pinned.root}; "
                "restore that run, or remove `evidence` from the record to cite the present one"
            )


def set_evidence(record: DecisionRecord, sides: Sequence[EvidenceSide]) -> str:
    """Return the record's text with these sides as its evidence.

    Raises:
        BadInputError: If the record is decided, or cannot be edited.

    """
    edit.require_readable(record)
    if record.claims.status not in {"draft", "proposed"}:
        raise BadInputError(f"{record.claims.id} is {record.claims.status}: its evidence is locked")
    lines = edit.set_key(record, record.lines, "evidence", _flow_evidence(record, sides), "supersedes")
    return edit.join_lines(record, lines)


def _flow_evidence(record: DecisionRecord, sides: Sequence[EvidenceSide]) -> str:
    """Return the evidence as YAML on one line. Settings that vary on purpose stay."""
    parts = []
    for name in ("baseline", "candidate"):
        flows = [_flow(side) for side in sides if side.name == name]
        if len(flows) == 1:
            parts.append(f"{name}: {flows[0]}")
        elif flows:
            parts.append(f"{name}s: [{', '.join(flows)}]")
    if record.claims.varies:
        parts.append(f"varies: [{', '.join(map(edit.yaml_string, record.claims.varies))}]")
    return "{" + ", ".join(parts) + "}"


def _flow(side: EvidenceSide) -> str:
    decisions = ", ".join(edit.yaml_string(decision) for decision in side.decisions)
    return (
        f"{{run: {edit.yaml_string(side.run)}, attempt: {side.attempt}, rank: {side.rank}, "
        f"through_sequence: {side.through}, root: {edit.yaml_string(side.root)}, decisions: [{decisions}]}}"
    )


def attest(record: DecisionRecord, judgement: CheckResult, runs: Path) -> str:
    """Append an `odr.checked` event to the ledger. Return its ID, empty if nothing was evaluated.

    Raises:
        LogError: If the ledger cannot be written.

    """
    if judgement.verdict is None or not judgement.complete:
        return ""
    fields = {
        "odr_id": judgement.odr_id,
        "odr_sha256": hashlib.sha256(record.data).hexdigest(),
        "verdict": judgement.verdict,
        "oq_delta": judgement.oq_delta,
        "oq_delta_at": None if judgement.oq is None else judgement.oq.place,
        "evidence": [pin._asdict() for pin in judgement.pins],
        "constraints": [result_json(result) for result in judgement.results],
    }
    return append_entry(runs, "odr.checked", fields)
