"""Results of the GPU command: one JSON line per result, and a Markdown table of them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from benchmarks.gpu.plan import STEPS

# Row with the status of a whole step.
STATUS = "status"
DONE = "done"
ERROR_CHARACTERS = 300


class ResultFile:
    """The file `results.jsonl` of a folder.

    Args:
        folder: Folder of the results.
        stamp: Values of every line: command, device, versions and whether it is a dry run.

    """

    def __init__(self, folder: Path, stamp: dict[str, Any]) -> None:
        self.path = folder / "results.jsonl"
        self.stamp = stamp

    def append(self, step: str, row: str, **values: Any) -> None:
        """Append one result. A line that was cut off by a kill is ended first."""
        date = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line = json.dumps({"step": step, "row": row, **values, "date": date, **self.stamp})
        with self.path.open("ab+") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - 1))
            start = b"" if file.read(1) in (b"", b"\n") else b"\n"
            file.write(start + line.encode() + b"\n")

    def read(self) -> list[dict[str, Any]]:
        """Return the newest line of each step and row, in order of appearance."""
        newest: dict[tuple[str, str], dict[str, Any]] = {}
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
        for line in lines:
            try:
                result = json.loads(line)
            except ValueError:
                # A kill can cut off a line.
                continue
            newest[result["step"], result["row"]] = result
        return list(newest.values())

    def find(self, step: str, row: str) -> dict[str, Any] | None:
        """Return the newest line of a row, or None."""
        return next((each for each in self.read() if (each["step"], each["row"]) == (step, row)), None)

    def status(self, step: str) -> str:
        """Return the newest status of a step: `done`, `failed`, `timeout`, or empty."""
        result = self.find(step, STATUS)
        return "" if result is None else str(result["status"])


def write_table(results: ResultFile) -> Path:
    """Write the results as `table.md`. Steps without a result are listed too."""
    rows = results.read()
    newest = rows[-1] if rows else results.stamp
    head = (
        f"torch {newest.get('torch')}, driver {newest.get('driver')}, device {newest.get('device')}. "
        f"Command: `{newest.get('command')}`."
    )
    if newest.get("dry_run"):
        head = f"**Dry run on a CPU with tiny sizes. No figure of this table describes a GPU.**\n\n{head}"
    lines = [head, "", "| step | row | result | date |", "|---|---|---|---|"]
    hidden = {"step", "row", "date", *results.stamp}
    for step in STEPS:
        own = [row for row in rows if row["step"] == step.name]
        own.sort(key=lambda row: row["row"] == STATUS)
        is_due = not step.after_failure_of and (step.in_dry_run or not newest.get("dry_run"))
        if not own and is_due:
            lines.append(f"| {step.letter} {step.name} | {STATUS} | not run | - |")
        for row in own:
            values = ", ".join(
                f"{key} {_format(value)}"
                for key, value in row.items()
                if key not in hidden and value is not None
            )
            lines.append(f"| {step.letter} {step.name} | {row['row']} | {values} | {row['date'][:10]} |")
    path = results.path.with_name("table.md")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _format(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"
    text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    return " ".join(text.replace("|", "/").split())[-ERROR_CHARACTERS:]
