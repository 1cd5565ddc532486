"""Comparing whole runs: compare, roi."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ockham.cli.live import resolve
from ockham.cli.options import RunsOption
from ockham.cli.output import FormatOption, OutputOption, shown, write_rows

RUNS = Path("runs")
RunArgument = Annotated[str, typer.Argument(help="Run ID, or a unique beginning.")]


def compare(
    a: Annotated[str, typer.Argument(help="Run ID, or a unique beginning.")],
    b: Annotated[str, typer.Argument(help="The other one.")],
    losses: Annotated[bool, typer.Option("--losses", help="Every evaluation that both have, not twelve of them.")] = False,
    runs: RunsOption = RUNS,
    form: FormatOption = None,
    output: OutputOption = None,
) -> None:  # fmt: skip
    """Put two runs side by side: policies, figures, losses at the same iterations, verdicts on the same batches.

    `difference` is b - a; of Occam Quotients it is b/a - 1. Compute is counted in forwards: 1 for each batch, and
    for each update b more, the measured cost of backward and optimizer.

    Example:
      ockham compare night-1 night-2
    """
    from ockham.study.compare import Row
    from ockham.study.compare import compare as side_by_side
    from ockham.study.seen import see

    rows, notes = side_by_side(see(runs, resolve(runs, a)), see(runs, resolve(runs, b)), all_losses=losses)
    write_rows(Row._fields, rows, form, output)
    for note in notes:
        typer.echo(f"note: {shown(note)}", err=True)


def roi(
    run: RunArgument,
    against: Annotated[str, typer.Option("--against", metavar="RUN", help="A run that always updated: its best loss is the floor of quality.")] = "",
    floor: Annotated[float | None, typer.Option("--floor", help="Validation loss that the model must reach, nats/token.", show_default=False)] = None,
    tolerance: Annotated[float, typer.Option("--tolerance", min=0.0, help="With --against: so much worse will do, nats/token.")] = 0.01,
    price_per_hour: Annotated[float | None, typer.Option("--price-per-hour", help="Of one device, any currency.", show_default=False)] = None,
    price_per_gb: Annotated[float | None, typer.Option("--price-per-gb", help="Of keeping one GB of checkpoints.", show_default=False)] = None,
    runs: RunsOption = RUNS,
    form: FormatOption = None,
    output: OutputOption = None,
) -> None:  # fmt: skip
    """Count what a run saved: updates, FLOPs, hours, bytes, money; each figure measured, derived or assumed.

    A skip saves backward and optimizer, never the forward, and a model that is not good enough has saved nothing.

    Examples:
      ockham roi night-1 --against always-1 --price-per-hour 2.5

      ockham roi night-1 --floor 2.2 -f json
    """
    from ockham.study.roi import Prices, Row
    from ockham.study.roi import roi as count
    from ockham.study.seen import see

    rival = see(runs, resolve(runs, against)) if against else None
    prices = Prices(price_per_hour, price_per_gb)
    rows = count(see(runs, resolve(runs, run)), prices, floor, rival, tolerance)
    write_rows(Row._fields, rows, form, output)
