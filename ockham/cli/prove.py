"""`ockham prove`: create proofs for third parties, and check them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ockham.cli.options import (
    DEFAULT_RUNS,
    MAX_LISTED_IDS,
    KeyFileOption,
    KeyOption,
    RunsOption,
    list_names,
    read_bytes,
    read_pin,
    read_trusted_keys,
    resolve_run_id,
    resolve_verifier_keys,
)
from ockham.cli.output import (
    OutputOption,
    TextFormatOption,
    print_note,
    write_bytes,
    write_file,
    write_rows,
    write_text,
)
from ockham.errors import BadInputError
from ockham.formatting import format_cell
from ockham.text_safety import escape_control_characters

if TYPE_CHECKING:
    from ockham.cli.output import Format
    from ockham.record.tlog.note import VerifierKey

_EVENTS = """
select run_id, attempt, rank, sequence, event_id
from events where starts_with(event_id, $id) limit 9
"""
EVENT_COLUMNS = ("origin", "sequence", "log_size", "signed_by", "event")
GROWTH_COLUMNS = ("origin", "pinned_size", "log_size", "signed_by")


def prove(
    name: Annotated[
        str,
        typer.Argument(
            metavar="ID", help="ID of an event or decision, or with --since a run; or a unique prefix."
        ),
    ] = "",
    since: Annotated[
        Path | None,
        typer.Option(
            "--since",
            metavar="PIN",
            help="Prove that the logs of a run have only grown since this pin.",
            show_default=False,
        ),
    ] = None,
    check: Annotated[
        Path | None,
        typer.Option("--check", metavar="FILE", help="Check a proof.", show_default=False),
    ] = None,
    key: KeyOption = None,
    key_file: KeyFileOption = None,
    pin: Annotated[
        Path | None,
        typer.Option(
            "--pin",
            metavar="PIN",
            help="With --check: the pin of a proof that was created with --since.",
            show_default=False,
        ),
    ] = None,
    runs: RunsOption = DEFAULT_RUNS,
    output_format: TextFormatOption = None,
    output: OutputOption = None,
) -> None:
    """Create a proof for a third party, or check one.

    A proof shows that an event is in a signed log, or that logs have only grown. Checking needs no log.
    The formats are those of C2SP: tlog-proof for an event, the request of a tlog-witness for growth.

    Examples:
      ockham prove 01a20da1-7999 -o decision.proof

      ockham prove --check decision.proof --key-file ockham.key.pub

      ockham prove night-1 --since night-1.pin -o grown.proof

      ockham prove --check grown.proof --pin night-1.pin --key-file ockham.key.pub
    """
    if check is not None and pin is None:
        proof = read_bytes(check)
        _check_inclusion(proof, resolve_verifier_keys(key, key_file), output_format, output)
    elif check is not None and pin is not None:
        proof, pinned = read_bytes(check), read_pin(pin)
        keys = resolve_verifier_keys(key, key_file)
        _check_consistency(proof, pinned, keys, output_format, output)
    elif not name:
        raise BadInputError(
            "prove: ID missing; pass the ID of an event, a run with --since PIN, or --check FILE"
        )
    elif since is not None:
        pinned = read_pin(since)
        keys = resolve_verifier_keys(key, key_file)
        _write_proof(_prove_consistency(name, pinned, keys, runs), output)
    else:
        _write_proof(_prove_inclusion(name, runs, read_trusted_keys(key, key_file)), output)


def _prove_inclusion(event_prefix: str, runs: Path, keys: list[VerifierKey]) -> bytes:
    """Return the proof that an event is in its log. Without a key, the key that the run names is used."""
    from ockham.catalog import Catalog
    from ockham.record.proofs import prove_inclusion as prove_event
    from ockham.record.run_folder import RunFolder

    rows = Catalog(runs).rows(_EVENTS, {"id": event_prefix})
    if not rows:
        raise BadInputError(f"{event_prefix!r}: no event in {runs} has an ID with this prefix")
    if len(rows) > 1:
        event_ids = list_names([row["event_id"] for row in rows], MAX_LISTED_IDS)
        raise BadInputError(
            f"{event_prefix!r}: matches more than one event; type more characters: {event_ids}"
        )
    row = rows[0]
    return prove_event(RunFolder(runs, row["run_id"]), row["attempt"], row["rank"], row["sequence"], keys)


def _prove_consistency(run_prefix: str, pin: bytes, keys: list[VerifierKey], runs: Path) -> bytes:
    """Return the proofs that the logs of a run have only grown since a pin."""
    from ockham.record.proofs import prove_consistency
    from ockham.record.run_folder import RunFolder

    return prove_consistency(RunFolder(runs, resolve_run_id(runs, run_prefix)), pin, keys)


def _check_inclusion(
    proof: bytes, keys: list[VerifierKey], output_format: Format | None, output: Path | None
) -> None:
    """Check the proof of an event and print the event."""
    from ockham.record.tlog.consistency import PROOF_PREFIX
    from ockham.record.tlog.inclusion import verify_inclusion_proof

    if proof.startswith(PROOF_PREFIX):
        raise BadInputError("--check: this proof was created with --since; pass the pin with --pin")
    proven = verify_inclusion_proof(proof, keys)
    line = proven.line.decode("utf-8", "backslashreplace")
    if output_format is not None:
        row = (proven.origin, proven.sequence, proven.head.size, proven.key.name, line)
        write_rows(EVENT_COLUMNS, [row], output_format, output)
        return
    print_note(
        f"event {proven.sequence} of {format_cell(proven.origin)}, "
        f"a log of {proven.head.size} events signed by {proven.key.name}"
    )
    write_text(escape_control_characters(line), output)


def _check_consistency(
    proof: bytes, pin: bytes, keys: list[VerifierKey], output_format: Format | None, output: Path | None
) -> None:
    """Check the proof that logs have only grown since a pin."""
    from ockham.record.tlog.consistency import verify_consistency_proofs

    proofs: list[Any] = list(verify_consistency_proofs(proof, pin, keys))
    if output_format is not None:
        rows = [(grown.origin, grown.old, grown.head.size, grown.key.name) for grown in proofs]
        write_rows(GROWTH_COLUMNS, rows, output_format, output)
        return
    lines = [
        f"{format_cell(grown.origin)}: the {grown.old} pinned events are the start of the log of "
        f"{grown.head.size} events, signed by {grown.key.name}"
        for grown in proofs
    ]
    write_text("\n".join(lines), output)


def _write_proof(proof: bytes, output: Path | None) -> None:
    if output is None:
        write_bytes(proof)
    else:
        write_file(output, proof)
        print_note(f"{output}: written")
