"""Events to others: forward."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ockham.cli.options import RunsOption

if TYPE_CHECKING:
    from ockham.forwarding import HttpSink
    from ockham.integrations.otel import OtlpSink

RUNS = Path("runs")
TOKEN = "OCKHAM_FORWARD_TOKEN"  # noqa: S105 - the name of the variable


def forward(
    run: Annotated[str, typer.Argument(help="Run ID, or a unique beginning.")],
    to: Annotated[str, typer.Option("--to", metavar="URL", help="http:// or https:// of the receiver.")],
    follow: Annotated[bool, typer.Option("--follow", "-F", help="Go on until the run ends; Ctrl-C stops.")] = False,
    batch: Annotated[int, typer.Option(min=1, max=10_000, help="Events in one request; 1: structured mode.")] = 100,
    otlp: Annotated[bool, typer.Option("--otlp", help="To an OpenTelemetry collector: as log records, OTLP over HTTP.")] = False,
    kind: Annotated[list[str] | None, typer.Option("--type", help="Only these, as decision.made; may be repeated.", show_default=False)] = None,
    cursor: Annotated[Path | None, typer.Option("--cursor", help="File of the cursor; default: in your state folder.", show_default=False)] = None,
    give_up: Annotated[float, typer.Option(min=0.0, help="Seconds of retrying after which it stops; 0: never.")] = 300.0,
    runs: RunsOption = RUNS,
) -> None:  # fmt: skip
    """Send a run's events to others by HTTP.

    As CloudEvents or to OpenTelemetry; in order, at least once, going on where it stopped. A token in $OCKHAM_FORWARD_TOKEN is sent as a bearer token. Nobody but the receiver waits: the run does not know.

    Examples:
      ockham forward night-1 --to http://localhost:8080/events

      ockham forward night-1 --to https://example.org/hook -F --type decision.made --batch 1

      ockham forward night-1 --otlp --to http://127.0.0.1:4318 -F
    """
    from ockham.cli.options import resolve_run_id
    from ockham.errors import BadInputError
    from ockham.forwarding import Cursor, cursor_path
    from ockham.forwarding import forward as send
    from ockham.record.run_folder import RunFolder
    from ockham.resources import schemas_dir

    known = sorted(
        path.name.removesuffix(".v1.schema.json") for path in schemas_dir().glob("*.*.v1.schema.json")
    )
    unknown = sorted(set(kind or ()) - set(known))
    if unknown:
        raise BadInputError(f"--type {unknown[0]!r}: one of {', '.join(known)}")
    logging.getLogger("stamina").setLevel(logging.ERROR)  # each new try is told below, in words
    folder = RunFolder(runs, resolve_run_id(runs, run))
    token = os.environ.get(TOKEN)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    named = f"otlp {to}" if otlp else to  # the same collector may get both, each with a cursor of its own
    place = Cursor(cursor or cursor_path(runs, folder.run_id, named), folder.run_id)
    with _receiver(to, headers, otlp=otlp) as receiver:
        sent = send(
            folder, receiver, place, batch=batch, follow=follow, kinds=kind or (),
            retry_timeout=give_up or None, on_retry=lambda text: typer.echo(f"{to}: {text}", err=True),
        )  # fmt: skip
    typer.echo(f"{to}: {sent.events} events in {sent.requests} requests", err=True)


def _receiver(to: str, headers: dict[str, str], *, otlp: bool) -> HttpSink | OtlpSink:
    from ockham.errors import MissingExtraError
    from ockham.forwarding import HttpSink

    if not otlp:
        return HttpSink(to, headers)
    try:
        from ockham.integrations.otel import OtlpSink
    except ImportError:
        raise MissingExtraError("opentelemetry", "otel") from None
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # what it was answered is told below
    return OtlpSink(to, headers)
