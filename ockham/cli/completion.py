"""Values that the shell completes: run IDs, saved questions, views, presets, records and codes.

The metavar of an argument or option selects its values, so every command that takes a RUN completes run IDs.
Everything here runs at each press of the Tab key. So an error results in no completions.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import typer

from ockham.cli.options import DEFAULT_ODR_DIR, DEFAULT_RUNS, ODR_DIR_VARIABLE, RUNS_VARIABLE
from ockham.errors import OckhamError

# Value and its meaning, which zsh and fish show next to it.
Completions = Iterable[tuple[str, str]]
_STATUSES = ("draft", "proposed", "accepted", "rejected", "retired")
# The completion scripts print meanings to the terminal, and rich reads markup in them.
_PLAIN_TEXT = re.compile(r"[^\w .,;:%()=-]+")


def find_completer(metavar: str | None) -> Callable[..., list[tuple[str, str]]] | None:
    """Return the function that completes the values of a metavar, or None."""
    values = _VALUES.get(metavar or "")
    if values is None:
        return None

    def complete(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        with contextlib.suppress(OckhamError, OSError, ValueError):
            found = [
                (value, _PLAIN_TEXT.sub(" ", meaning)[:120])
                for value, meaning in values(ctx, incomplete)
                if value.startswith(incomplete)
            ]
        return found

    return complete


def _runs_folder(ctx: Any) -> Path:
    """Return the folder of --runs, in front of the command or after it."""
    given: Path | None = ctx.params.get("runs")
    source = ctx.get_parameter_source("runs")
    if given is not None and getattr(source, "name", "") == "COMMANDLINE":
        return given
    root = ctx.find_root().params.get("runs")
    return Path(root or os.environ.get(RUNS_VARIABLE) or DEFAULT_RUNS)


def _complete_runs(ctx: Any, _incomplete: str) -> Completions:
    from ockham.record.run_folder import list_runs

    return [(run_id, "") for run_id in list_runs(_runs_folder(ctx))]


def _complete_ids(ctx: Any, incomplete: str) -> Completions:
    """Return the checkpoints of the run of the command, or the runs and records."""
    from ockham.record.run_folder import RunFolder

    run = ctx.params.get("run") or ctx.params.get("source")
    if "run" in ctx.params or "source" in ctx.params:
        if not run:
            return []
        folder = RunFolder(_runs_folder(ctx), run).path / "checkpoints"
        return [(path.name, "") for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    return [*_complete_runs(ctx, incomplete), *_complete_records(ctx, incomplete)]


def _complete_records(ctx: Any, incomplete: str) -> Completions:
    """Return the numbers of the records if a digit was typed, else their IDs."""
    from ockham.odr.record import NAME
    from ockham.odr.records_folder import record_files

    folder = ctx.params.get("odr_dir") or os.environ.get(ODR_DIR_VARIABLE) or DEFAULT_ODR_DIR
    found = [match for file in record_files(Path(folder)) if (match := NAME.fullmatch(file.name))]
    titles = [(match["number"], match["slug"].replace("-", " ")) for match in found]
    if incomplete[:1].isdecimal():
        return [(written, title) for number, title in titles for written in {number, str(int(number))}]
    return [(f"ODR-{number}", title) for number, title in titles]


def _complete_questions(_ctx: Any, _incomplete: str) -> Completions:
    from ockham.catalog.views import load_question, question_names

    return [(name, load_question(name).question) for name in question_names()]


def _complete_views(_ctx: Any, _incomplete: str) -> Completions:
    from ockham.catalog.schemas import ODR_TABLE_DESCRIPTIONS
    from ockham.catalog.views import load_views

    views = [(view.name, view.comment) for view in load_views() if not view.name.startswith("raw_")]
    others = [("data_dictionary", "All views and columns"), ("settings", "Settings of --set")]
    return [*views, *ODR_TABLE_DESCRIPTIONS.items(), *others]


def _complete_presets(_ctx: Any, _incomplete: str) -> Completions:
    from ockham.policy.yaml_loader import preset_names

    return [(name, "preset") for name in preset_names()]


def _complete_codes(_ctx: Any, _incomplete: str) -> Completions:
    from ockham.odr.codes import CODES

    return [(code, row.title) for code, row in CODES.items()]


def _complete_statuses(_ctx: Any, _incomplete: str) -> Completions:
    return [(status, "") for status in _STATUSES]


def _complete_engines(_ctx: Any, _incomplete: str) -> Completions:
    return [("duckdb", "default"), ("spark", "for many runs")]


_VALUES: Mapping[str, Callable[[Any, str], Completions]] = {
    "RUN": _complete_runs,
    "RUN_A": _complete_runs,
    "RUN_B": _complete_runs,
    "ID": _complete_ids,
    "QUESTION": _complete_questions,
    "VIEW": _complete_views,
    "NAME_OR_FILE": _complete_presets,
    "RECORD": _complete_records,
    "CODE": _complete_codes,
    "STATUS": _complete_statuses,
    "ENGINE": _complete_engines,
}
