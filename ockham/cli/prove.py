"""Proofs for a stranger, made and checked: prove."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ockham.cli.options import KeyOption, RunsOption, read_bytes, resolve_run_id, trusted_keys
from ockham.cli.output import OutputOption, write_bytes, write_file
from ockham.errors import BadInputError
from ockham.formatting import format_cell
from ockham.text_safety import escape_control_characters

RUNS = Path("runs")


def prove(
    event: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="ID of a decision or any event, or with --since a run; a unique beginning will do.",
        ),
    ] = "",
    since: Annotated[
        Path | None,
        typer.Option(
            "--since",
            metavar="PIN",
            help="Prove that the logs have only grown since this pin.",
            show_default=False,
        ),
    ] = None,
    check: Annotated[
        Path | None, typer.Option("--check", help="Check a proof that somebody gave you.", show_default=False)
    ] = None,
    key: KeyOption = None,
    pin: Annotated[
        Path | None,
        typer.Option(
            "--pin",
            help="With --check: the pin that a proof made with --since goes back to.",
            show_default=False,
        ),
    ] = None,
    runs: RunsOption = RUNS,
    output: OutputOption = None,
) -> None:
    """Make a proof for a stranger, or check one.

    That an event stands in a signed log, or that logs have only grown; to check one takes no log. The forms are C2SP's: tlog-proof for an event, and for growth the request that a tlog-witness takes.

    Examples:
      ockham prove 01a20da1-7999 -o decision.proof

      ockham prove --check decision.proof --key ockham.key.pub

      ockham prove night-1 --since night-1.pin -o grown.proof

      ockham prove --check grown.proof --pin night-1.pin --key ockham.key.pub
    """
    if check is not None:
        if pin is None:
            _check(read_bytes(check), key)
        else:
            _check_growth(read_bytes(check), read_bytes(pin), key)
        return
    if since is not None:
        _write(_prove_consistency(event, since, key, runs), output)
        return
    if not event:
        raise BadInputError("give the ID of an event, or --check FILE")
    _write(_prove_inclusion(event, runs), output)


def _prove_inclusion(event: str, runs: Path) -> bytes:
    from ockham.catalog import Catalog
    from ockham.record.run_folder import RunFolder
    from ockham.record.tlog.inclusion import prove_inclusion as prove_event

    found = Catalog(runs).rows(
        "select run_id, attempt, rank, sequence, event_id from events where starts_with(event_id, $id) limit 9",
        {"id": event},
    )
    if not found:
        raise BadInputError(f"no event in {runs} has an ID that begins with {event!r}")
    if len(found) > 1:
        listed = ", ".join(row["event_id"] for row in found[:8])
        raise BadInputError(f"{event!r} is the beginning of more than one event: {listed}")
    row = found[0]
    return prove_event(RunFolder(runs, row["run_id"]), row["attempt"], row["rank"], row["sequence"])


def _check(proof: bytes, key: list[str] | None) -> None:
    from ockham.record.tlog.consistency import PROOF_PREFIX
    from ockham.record.tlog.inclusion import verify_inclusion_proof

    if proof.startswith(PROOF_PREFIX):
        raise BadInputError("this proof goes back to a pin: give the pin too, with --pin")
    proven = verify_inclusion_proof(proof, trusted_keys(key))
    typer.echo(
        f"event {proven.sequence} of {format_cell(proven.origin)}, a log of {proven.head.size} events signed by {proven.key.name}",
        err=True,
    )
    typer.echo(escape_control_characters(proven.line.decode("utf-8", "backslashreplace")))


def _prove_consistency(run: str, pin: Path, key: list[str] | None, runs: Path) -> bytes:
    from ockham.record.run_folder import RunFolder
    from ockham.record.tlog.consistency import prove_consistency

    if not run:
        raise BadInputError("--since wants a run too: `ockham prove RUN --since PIN`")
    keys = trusted_keys(key)
    return prove_consistency(RunFolder(runs, resolve_run_id(runs, run)), read_bytes(pin), keys)


def _check_growth(proof: bytes, pin: bytes, key: list[str] | None) -> None:
    from ockham.record.tlog.consistency import verify_consistency_proofs

    for grown in verify_consistency_proofs(proof, pin, trusted_keys(key)):
        typer.echo(
            f"{format_cell(grown.origin)}: the {grown.old} events that were pinned begin the log of {grown.head.size} "
            f"that {grown.key.name} signs now"
        )


def _write(proof: bytes, output: Path | None) -> None:
    if output is None:
        write_bytes(proof)
    else:
        write_file(output, proof)
