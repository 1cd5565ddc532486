"""What a run says of itself when it ends."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from ockham.cli.options import RUNS_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ockham.nano.stage_timer import ComputeSavings
    from ockham.record.counters import RunCounters
    from ockham.run import Run

NEXT_COMMANDS = (
    ("{ockham} show {run}", "this run"),
    ("{ockham} why {run} {iter}", "the chain of one batch, in plain words"),
    ('{ockham} query "select plugin, action, reason_code, count(*) n from decisions group by all order by n desc"',
     "ask anything"),
    ("{ockham} verify {run}", "the proofs"),
)  # fmt: skip


def print_summary(
    run: Run, reason: str, message: str | None, saved: ComputeSavings, verb: str = "train"
) -> None:
    """Rates beside their bands, loss, compute saved, and what to type next; to stdout.

    Args:
        run: whose log has ended.
        reason: why, a stable code.
        message: why, for people.
        saved: what skipping saved.
        verb: that goes on with an interrupted run.

    """
    console = Console(highlight=False)
    counts, rates = run.counts, run.rates()
    table = Table.grid(padding=(0, 2))
    table.add_row(
        "run", f"{run.run_id}: {reason}, {counts.batches} batches, {run.attempt.log.next_sequence} events"
    )
    table.add_row("policy", f"{run.policy.name} {run.policy.revision[:19]}…")
    if message:
        table.add_row("", message)
    if run.val_loss is not None:
        table.add_row("validation loss", f"{run.val_loss:.4f} nats/token")
    for name, rate in rates.items():
        if rate is not None:
            table.add_row(
                name.replace("_", " "), _format_rate(name, rate, run.policy.targets.get(name), counts)
            )
    if saved.bound is not None and saved.measured is not None:
        ratio = f"backward/forward {saved.backward_over_forward:.2f}"
        table.add_row("compute saved", f"{saved.measured:.1%} measured, bound {saved.bound:.1%} ({ratio})")
    table.add_row("record", str(run.folder.path))
    console.print(table, soft_wrap=True)
    console.print("\nNext:", soft_wrap=True)
    go_on = (
        [(f"{{ockham}} {verb} --run {{run}} --resume", "go on where it stopped")]
        if reason == "INTERRUPTED"
        else []
    )
    for command, why in (*go_on, *NEXT_COMMANDS):
        filled = command.format(ockham=_command_name(run.folder.runs), run=run.run_id, iter=run.last_iter)
        console.print(f"  {filled}   # {why}", soft_wrap=True, markup=False)


def print_complete(run_id: str, steps: int) -> None:
    """Say that there is nothing to go on with; to stderr."""
    told = f"run {run_id!r} is already complete: {steps} of {steps} steps, nothing to do; --set max_iters=MORE goes on"
    print(told, file=sys.stderr)


def _format_rate(name: str, rate: float, band: Sequence[float] | None, counts: RunCounters) -> str:
    """A rate and its band; one of too few is shown and not judged, as on the pages (attention.sql)."""
    judged = {"accept_rate": (counts.evaluations, "evaluations"), "update_rate": (counts.finite, "batches")}
    number, of = judged[name]
    told = f"{rate:.1%} of {number} {'finite ' if number < counts.batches and of == 'batches' else ''}{of}"
    if band is None:
        return told
    low, high = band
    few = counts.batches < 200 or (of == "evaluations" and number < 20)
    verdict = (
        "too few to judge; band" if few else "in its band" if low <= rate <= high else "outside its band"
    )
    return f"{told}, {verdict} {low:.0%} to {high:.0%}"


def _command_name(runs: Path) -> str:
    """How to type `ockham` here: by its path where it is not on PATH, and with --runs where that is not the default."""
    beside = Path(sys.executable).parent / "ockham"
    name = "ockham" if shutil.which("ockham") or not beside.exists() else os.path.relpath(beside)
    typed = any(word.partition("=")[0] == "--runs" for word in sys.argv)  # else the shell has the variable
    if runs == Path("runs") or (os.environ.get(RUNS_VARIABLE) and not typed):
        return name
    return f"{name} --runs {shlex.quote(str(runs))}"
