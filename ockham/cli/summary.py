"""Summary that `train` and `adapt` print at the end of a run."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ockham.acceptance import MIN_BATCHES
from ockham.cli.options import DEFAULT_RUNS, RUNS_VARIABLE
from ockham.cli.output import print_note
from ockham.cli.streams import ignore_lost_output
from ockham.savings import SAVINGS_REASONS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ockham.record.checkpoints import ResumePoint
    from ockham.record.counters import RunCounters
    from ockham.run import Run
    from ockham.savings import Savings

EXAMPLE_QUERY = (
    "select plugin, action, reason_code, shadow, count(*) n from decisions where counted "
    "group by all order by n desc"
)
NEXT_COMMANDS = (
    ("{ockham} show {run}", "this run"),
    ("{ockham} why {run} {iter}", "the decisions about one batch"),
    (
        f'{{ockham}} query "{EXAMPLE_QUERY}"',
        "SQL on the decisions that count",
    ),
    ("{ockham} verify {run}", "check the log"),
)
MIN_EVALUATIONS = 20


def print_summary(run: Run, reason: str, message: str | None, command: str = "train") -> None:
    """Print rates, targets, loss, saved compute and the next commands to stdout.

    Args:
        run: Run whose log has ended.
        reason: Stable code of the end.
        message: Optional sentence about the end.
        command: Command that continues an interrupted run.

    """
    # The run has ended, so a terminal that is gone must not change the exit status.
    with ignore_lost_output(sys.stdout):
        _print_summary(run, reason, message, command)


def _print_summary(run: Run, reason: str, message: str | None, command: str) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    for label, text in _summary_rows(run, reason, message):
        console.print(f"{label:<15}  {text}", soft_wrap=True, markup=False)
    console.print("\nNext:", soft_wrap=True)
    commands = [*NEXT_COMMANDS]
    if reason == "INTERRUPTED":
        commands.insert(0, (f"{{ockham}} {command} --run {{run}} --resume", "continue the run"))
    ockham = _command_name(run.folder.runs)
    for template, purpose in commands:
        text = template.format(ockham=ockham, run=run.run_id, iter=run.last_iter)
        console.print(f"  {text}   # {purpose}", soft_wrap=True, markup=False)


def _summary_rows(run: Run, reason: str, message: str | None) -> Iterator[tuple[str, str]]:
    counts = run.counts
    attempt = run.attempt
    events = f"{attempt.log.next_sequence} events in log {attempt.number}-{attempt.rank}"
    yield "run", f"{run.run_id}: {reason}, {counts.batches} batches, {events}"
    yield "policy", f"{run.policy.name} {run.policy.revision[:19]}…"
    if message:
        yield "", message
    if run.val_loss is not None:
        yield "validation loss", f"{run.val_loss:.4f} nats/token"
    for name, rate in run.rates().items():
        if rate is not None:
            yield name.replace("_", " "), _format_rate(name, rate, run.policy.targets.get(name), counts)
    yield "steps", f"{counts.steps} optimizer steps, {counts.iterations - counts.steps} skipped steps"
    yield "compute saved", _format_savings(run.savings())
    yield "folder", str(run.folder.path)


def _format_savings(savings: Savings) -> str:
    """Return the estimate with its interval, or why it is unknown."""
    if savings.compute_saved is None:
        return f"unknown: {SAVINGS_REASONS[savings.compute_saved_reason or '']}"
    text = f"{savings.compute_saved:.1%} (estimate"
    if savings.compute_saved_low is not None and savings.compute_saved_high is not None:
        text += f", 95 % interval {savings.compute_saved_low:.1%} to {savings.compute_saved_high:.1%}"
    if savings.chain_share is not None:
        text += f"; the chain cost {savings.chain_share:.1%}"
    return f"{text})"


def print_skipped_checkpoints(start: ResumePoint) -> None:
    """Print to stderr which damaged checkpoints the resume gives up."""
    for snapshot_id, problem in start.damaged:
        print_note(f"checkpoint {snapshot_id} is damaged and is given up: {problem}")
    if start.damaged and start.snapshot_id:
        print_note(f"resuming from {start.snapshot_id}")


def print_complete(run_id: str, steps: int) -> None:
    """Print to stderr that a run is already complete."""
    print_note(
        f"run {run_id!r} is already complete: {steps} of {steps} steps; "
        "continue with a larger --set max_iters=N"
    )


def _format_rate(name: str, rate: float, band: Sequence[float] | None, counts: RunCounters) -> str:
    """Return a rate and its target band. Few batches are not rated, as on the pages (workbench.sql)."""
    count, noun = counts.finite, "batches"
    if name == "accept_rate":
        count, noun = counts.evaluations, "evaluations"
    elif count < counts.batches:
        noun = "finite batches"
    text = f"{rate:.1%} of {count} {noun}"
    if band is None:
        return text
    low, high = band
    if counts.batches < MIN_BATCHES or (name == "accept_rate" and count < MIN_EVALUATIONS):
        return f"{text}, few {noun.split()[-1]}: not rated; target {low:.0%} to {high:.0%}"
    state = "within" if low <= rate <= high else "outside"
    return f"{text}, {state} target {low:.0%} to {high:.0%}"


def _command_name(runs: Path) -> str:
    """Return how to type `ockham` here: by its path if it is not on PATH, and with --runs if needed."""
    script = Path(sys.executable).parent / "ockham"
    name = "ockham" if shutil.which("ockham") or not script.exists() else os.path.relpath(script)
    # Without --runs on the command line, the shell has the variable.
    has_option = any(word.partition("=")[0] == "--runs" for word in sys.argv)
    if runs == DEFAULT_RUNS or (os.environ.get(RUNS_VARIABLE) and not has_option):
        return name
    return f"{name} --runs {shlex.quote(str(runs))}"
