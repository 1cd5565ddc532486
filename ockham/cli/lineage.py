"""`ockham lineage`: the decisions that led to a file of weights, and the signature over them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ockham.cli.options import (
    DEFAULT_RUNS,
    KeyFileOption,
    KeyOption,
    RunsOption,
    read_trusted_keys,
    resolve_verifier_keys,
)
from ockham.cli.output import OutputOption, TextFormatOption, print_note, style_result, write_rows
from ockham.errors import BadInputError
from ockham.formatting import format_cell

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ockham.record.lineage import BaseStep, Lineage
    from ockham.record.tlog.note import VerifierKey

# Earlier attempts count until the next attempt began; the last one counts up to the tree head.
_DECISIONS_BEFORE = """
from decisions d where run_id = $run and rank = $rank and not shadow and (
    (attempt = $attempt and sequence < $size)
    or (attempt < $attempt and iter_num < (
        select min(later.iter_num) from decisions later
        where later.run_id = $run and later.rank = $rank
        and later.attempt > d.attempt and later.attempt <= $attempt)))
"""
_DECISION_COUNTS = f"""
select plugin, action, reason_code, count(*) as decisions,
    min(iter_num) as first_iter, max(iter_num) as last_iter
{_DECISIONS_BEFORE} group by all order by plugin, decisions desc
"""
_ACCEPTANCE = """
select decision_id, iter_num, reason_code, observed, threshold
from decisions where decision_id = $id
"""
_APPROVALS = """
select person, reason, time, event_id from people
where kind = 'checkpoint.approved' and weights_sha256 = $digest and signed order by time
"""
_DECISION_LIST = f"""
select decision_id, attempt, sequence, iter_num, hook, plugin, action, reason_code,
    observed, threshold, policy_revision
{_DECISIONS_BEFORE} order by attempt, sequence
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(lineage)


def lineage(
    weights: Annotated[
        Path,
        typer.Argument(
            metavar="PATH",
            help="A safetensors file, or a checkpoint folder or file, also one of another trainer.",
        ),
    ],
    key: KeyOption = None,
    key_file: KeyFileOption = None,
    runs: RunsOption = DEFAULT_RUNS,
    output_format: TextFormatOption = None,
    output: OutputOption = None,
) -> None:
    """Show which decisions led to a file of weights.

    Shows the run, the accepting decision, and all earlier decisions. The file must be identical to the
    one in the log, and a signature must cover the decisions. -f lists every decision. Exit status: 0 the
    log confirms the file, 1 it does not, 2 bad input.

    Examples:
      ockham lineage runs/night-1/checkpoints/accepted-00000599

      ockham lineage out/checkpoint-40

      ockham lineage out/step=40.ckpt

      ockham lineage downloaded.safetensors --key-file ockham.key.pub -f jsonl -o decisions.jsonl
    """
    from ockham.catalog import Catalog
    from ockham.record.lineage import trace_bases

    read_trusted_keys(key, key_file)
    if not weights.exists():
        raise BadInputError(
            f"{weights}: file not found; pass a safetensors file or the folder of a checkpoint"
        )
    file, result, keys = _trace(weights, runs, key, key_file)
    metadata = result.metadata
    # Without a problem, all decisions are signed lines.
    options: dict[str, Any] = {} if result.problems else {"verified": True, "keys": keys}
    catalog = Catalog(runs, run_ids=[metadata["run_id"]], **options)
    parameters = {
        "run": metadata["run_id"],
        "rank": metadata["rank"],
        "attempt": metadata["attempt"],
        "size": metadata["log_size"],
    }
    if output_format is None and output is None:
        acceptance = _find_acceptance(catalog, result)
        for line in _format_lineage(result, acceptance, catalog.rows(_DECISION_COUNTS, parameters)):
            typer.echo(line)
        for line in _format_approvals(catalog, result):
            typer.echo(line)
        if result.path != file:
            typer.echo(f"  {format_cell(str(file))} is an export of it")
        for step in trace_bases(result.settings, runs, keys):
            typer.echo(f"  from {format_cell(step.source)}: {_format_step(step)}")
    else:
        rows = catalog.rows(_DECISION_LIST, parameters)
        write_rows(list(rows[0]) if rows else [], [list(row.values()) for row in rows], output_format, output)
        for problem in result.problems:
            print_note(f"not confirmed: {format_cell(problem)}")
    raise typer.Exit(1 if result.problems else 0)


def _trace(
    weights: Path, runs: Path, key: list[str] | None, key_file: list[Path] | None
) -> tuple[Path, Lineage, list[VerifierKey]]:
    """Return the file or folder that was examined, its lineage, and the trusted keys."""
    from ockham.record.lineage import find_weights_file, read_claims
    from ockham.record.lineage import lineage as read_lineage
    from ockham.record.tlog.note import local_verifier_key
    from ockham.record.trainer_lineage import find_trainer_checkpoint, trace_copy, trace_trainer_checkpoint

    if (location := find_trainer_checkpoint(weights)) is not None:
        keys = resolve_verifier_keys(key, key_file)
        result = trace_trainer_checkpoint(weights, location, runs, keys)
        return result.path, result, keys
    file = find_weights_file(weights)
    # Report a file without metadata before a missing key.
    try:
        claims = read_claims(file)
    except BadInputError:
        local = local_verifier_key()
        known = read_trusted_keys(key, key_file) or ([local] if local else [])
        copy = trace_copy(file, runs, known)
        if copy is None:
            raise
        return file, copy, resolve_verifier_keys(key, key_file)
    source, problem = _find_export_source(file, claims, runs)
    keys = resolve_verifier_keys(key, key_file)
    result = read_lineage(source, runs, keys)
    if problem:
        result = result._replace(problems=(problem, *result.problems))
    return file, result, keys


def _format_step(step: BaseStep) -> str:
    word = "confirmed by its log" if step.confirmed else "not confirmed"
    return f"{word}, {format_cell(step.message)}"


def _find_export_source(file: Path, claims: Mapping[str, Any], runs: Path) -> tuple[Path, str]:
    """Return the checkpoint file of an export of `ockham weights`, or the file itself, and a problem."""
    from ockham.record.run_folder import RunFolder

    name = claims.get("exported_from")
    if name is None:
        return file, ""
    folder = RunFolder(runs, claims["run_id"]).require_exists().checkpoint(str(name))
    source = folder / file.name
    if not source.is_file():
        return file, f"its checkpoint {name} is not in {folder.parent}, so the export cannot be compared"
    try:
        from ockham.nano.sample import is_export
    except ImportError:
        return source, "PyTorch is not installed, so the export cannot be compared with its checkpoint"
    if not is_export(folder, file):
        return source, f"the file differs from an export of its checkpoint {name}"
    return source, ""


def _format_location(checkpoint: Mapping[str, Any]) -> str:
    from ockham.record.checkpoint_path import describe_location

    return format_cell(describe_location(checkpoint))


def _find_acceptance(catalog: Any, result: Lineage) -> dict[str, Any] | None:
    """Return the decision that accepted the checkpoint, or None."""
    checkpoint = result.checkpoint_event or {}
    rows = catalog.rows(_ACCEPTANCE, {"id": checkpoint.get("decision_id") or ""})
    return dict(rows[0]) if rows else None


def _format_approvals(catalog: Any, result: Lineage) -> Iterator[str]:
    """Yield a line for each signed approval of these weights."""
    digest = (result.checkpoint_event or {}).get("weights_sha256")
    for row in catalog.rows(_APPROVALS, {"digest": digest or ""}):
        person, reason = format_cell(row["person"]), format_cell(row["reason"])
        yield f"  approved by {person} on {row['time']:%Y-%m-%d}: {reason} (event {row['event_id']})"


def _format_lineage(
    result: Lineage, acceptance: dict[str, Any] | None, counts: list[dict[str, Any]]
) -> Iterator[str]:
    metadata = result.metadata
    checkpoint = result.checkpoint_event or {}
    confirmed = not result.problems
    word = style_result("confirmed by the log" if confirmed else "NOT CONFIRMED", good=confirmed)
    yield f"{format_cell(str(result.path))}: {word}"
    for problem in result.problems:
        yield f"  {format_cell(problem)}"
    yield f"  sha256 {result.sha256}"
    kind = format_cell(str(metadata.get("kind")))
    revision = format_cell(str(metadata.get("policy_revision")))
    yield (
        f"  run {format_cell(metadata['run_id'])}, attempt {metadata['attempt']}, "
        f"iteration {metadata.get('iter_num')}, kind {kind}"
    )
    yield f"  policy {revision}"
    if checkpoint:
        yield f"  saved as {format_cell(checkpoint['snapshot_id'])}, event {result.event_id}"
        if checkpoint.get("folder"):
            yield f"  written by another trainer to {_format_location(checkpoint)}"
        what = "weights" if checkpoint["kind"] == "trainer" else "tensors"
        yield f"  {what} sha256 {checkpoint['weights_sha256']}"
    if acceptance is not None:
        yield f"  accepted at iteration {acceptance['iter_num']} by decision {acceptance['decision_id']}"
        reason = format_cell(acceptance["reason_code"])
        yield f"    because {reason}: {acceptance['observed']} against {acceptance['threshold']}"
    elif checkpoint:
        yield "  not accepted by a decision: a checkpoint for resuming or rolling back, or an anchor"
    total = sum(row["decisions"] for row in counts)
    yield f"  {total:,} decisions led to these weights (-f lists each):"
    for row in counts:
        plugin, action = format_cell(row["plugin"]), format_cell(row["action"])
        reason = format_cell(row["reason_code"])
        yield (
            f"    {row['decisions']:>8,}  {plugin}: {action} because {reason}, "
            f"iterations {row['first_iter']} to {row['last_iter']}"
        )
    yield f"  log: {metadata['log_size']:,} events, signed to {result.signed:,}"
    yield f"    root {format_cell(metadata['log_root'])}"
    yield "  only the events before these weights were checked; `ockham verify` checks the whole run"
