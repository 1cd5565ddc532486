"""`ockham forward`: send events to another system."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ockham.cli.options import DEFAULT_RUNS, RunArgument, RunsOption, resolve_run_id
from ockham.cli.output import pluralize, print_note
from ockham.errors import BadInputError, MissingExtraError

if TYPE_CHECKING:
    from ockham.forwarding import HttpSink
    from ockham.integrations.otel import OtlpSink

TOKEN_VARIABLE = "OCKHAM_FORWARD_TOKEN"  # noqa: S105 - the name of a variable, not a secret


def forward(
    run: RunArgument,
    to: Annotated[
        str, typer.Option("--to", metavar="URL", help="Address of the receiver, http:// or https://.")
    ],
    follow: Annotated[
        bool, typer.Option("--follow", "-F", help="Continue until the run ends. Ctrl-C stops.")
    ] = False,
    batch: Annotated[
        int,
        typer.Option("--batch", min=1, max=10_000, help="Events per request. 1 selects the structured mode."),
    ] = 100,
    otlp: Annotated[
        bool, typer.Option("--otlp", help="Send log records to an OpenTelemetry collector, OTLP over HTTP.")
    ] = False,
    event_types: Annotated[
        list[str] | None,
        typer.Option(
            "--type",
            metavar="TYPE",
            help="Only events of this type, such as decision.made; may be repeated.",
            show_default=False,
        ),
    ] = None,
    cursor: Annotated[
        Path | None,
        typer.Option(
            "--cursor", metavar="FILE", help="Cursor file; default: in the state folder.", show_default=False
        ),
    ] = None,
    give_up: Annotated[
        float,
        typer.Option(
            "--give-up", min=0.0, metavar="SECONDS", help="Retry for at most this time. 0: forever."
        ),
    ] = 300.0,
    runs: RunsOption = DEFAULT_RUNS,
) -> None:
    """Send a run's events to another system by HTTP.

    Sends CloudEvents, or OpenTelemetry log records, in order and at least once. The next call continues
    after the last event that was sent. A token in $OCKHAM_FORWARD_TOKEN is sent as a bearer token. The
    run itself is not affected.

    Examples:
      ockham forward night-1 --to http://localhost:8080/events

      ockham forward night-1 --to https://example.org/hook -F --type decision.made --batch 1

      ockham forward night-1 --otlp --to http://127.0.0.1:4318 -F
    """
    from ockham.forwarding import Cursor, cursor_path
    from ockham.forwarding import forward as send_events
    from ockham.record.run_folder import RunFolder

    _check_event_types(event_types or [])
    # Each retry is reported below.
    import logging

    logging.getLogger("stamina").setLevel(logging.ERROR)
    folder = RunFolder(runs, resolve_run_id(runs, run))
    token = os.environ.get(TOKEN_VARIABLE)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    # One collector may receive both formats, each with a separate cursor.
    receiver_name = f"otlp {to}" if otlp else to
    position = Cursor(cursor or cursor_path(runs, folder.run_id, receiver_name), folder.run_id)
    with _open_receiver(to, headers, otlp=otlp) as receiver:
        sent = send_events(
            folder,
            receiver,
            position,
            batch=batch,
            follow=follow,
            kinds=event_types or (),
            retry_timeout=give_up or None,
            on_retry=print_note,
        )
    print_note(f"{to}: {pluralize(sent.events, 'events')} in {pluralize(sent.requests, 'requests')}")


def _check_event_types(names: list[str]) -> None:
    from ockham.resources import schemas_dir

    files = schemas_dir().glob("*.*.v1.schema.json")
    known = sorted(path.name.removesuffix(".v1.schema.json") for path in files)
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise BadInputError(f"--type {unknown[0]!r}: unknown event type; accepted: {', '.join(known)}")


def _open_receiver(to: str, headers: dict[str, str], *, otlp: bool) -> HttpSink | OtlpSink:
    from ockham.forwarding import HttpSink

    if not otlp:
        return HttpSink(to, headers)
    try:
        from ockham.integrations.otel import OtlpSink
    except ImportError:
        raise MissingExtraError("opentelemetry", "otel") from None
    # Failed requests are reported by the retry notes.
    import logging

    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    return OtlpSink(to, headers)
