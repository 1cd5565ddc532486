"""Lines of the logs of a run as plain rows: signed or not, superseded or not. Nothing of Ockham is used."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

NONFINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
KNOB_DEFAULTS = {"updated": True, "accepted": False, "rollback": False, "halt": False, "consolidating": False}


class Row(NamedTuple):
    """One event."""

    run_id: str
    attempt: int
    rank: int
    sequence: int
    id: str
    kind: str
    data: dict[str, Any]
    signed: bool
    superseded: bool

    @property
    def iter_num(self) -> Any:
        return self.data.get("iter_num")

    @property
    def counted(self) -> bool:
        """True if figures of the run count this event."""
        return self.signed and not self.superseded and self.rank == 0


def to_number(value: Any) -> Any:
    """Return a number of the log. Three texts stand for numbers that JSON cannot express."""
    return NONFINITE.get(value, value) if isinstance(value, str) else value


def read_run(folder: Path) -> list[Row]:
    """Return all events of a run in the order of attempt, rank and position."""
    logs = {}
    for log in (folder / "log").iterdir():
        attempt, rank = (int(part) for part in log.name.split("-"))
        lines = []
        for segment in sorted(log.glob("*.jsonl")):
            # The text after the last line break is a line whose writer was killed.
            lines += [json.loads(line) for line in segment.read_bytes().split(b"\n")[:-1]]
        logs[attempt, rank] = lines, _signed_size(log)
    cuts = _resumes(logs)
    rows = []
    for (attempt, rank), (lines, signed) in sorted(logs.items()):
        cut = min((at for later, at in cuts if later > attempt), default=math.inf)
        for position, event in enumerate(lines):
            data = event["data"]
            iter_num = data.get("iter_num")
            rows.append(
                Row(
                    folder.name,
                    attempt,
                    rank,
                    position,
                    event["id"],
                    event["type"].removeprefix("ockham.").removesuffix(".v1"),
                    data,
                    position < signed,
                    iter_num is not None and event["subject"].startswith("iter/") and iter_num >= cut,
                )
            )
    return rows


def read_settings(folder: Path) -> dict[tuple[str, str], str]:
    """Return the settings of the plugins in the newest policy of a run, as the JSON of each that is set."""
    loaded = [row for row in read_run(folder) if row.kind == "policy.loaded" and row.signed]
    revision = max(loaded, key=lambda row: row.attempt).data["policy_revision"]
    policy = json.loads((folder / "policies" / f"{revision.removeprefix('sha256:')}.json").read_bytes())
    settings = {}
    for plugin in policy["plugins"]:
        for name, value in {**plugin["settings"], "shadow": plugin["shadow"]}.items():
            if value is not None:
                settings[plugin["name"], name] = value if isinstance(value, str) else json.dumps(value)
    return settings


def _signed_size(log: Path) -> int:
    """Return the largest size in a tree head: its second line."""
    heads = [(log / "checkpoint").read_text()] if (log / "checkpoint").exists() else []
    return max((int(head.splitlines()[1]) for head in heads), default=0)


def _resumes(logs: dict[tuple[int, int], tuple[list[dict[str, Any]], int]]) -> list[tuple[int, int]]:
    """Return attempt and first iteration of each resume."""
    return [
        (attempt, event["data"]["iter_num"])
        for (attempt, _), (lines, signed) in logs.items()
        for event in lines[:signed]
        if event["type"] == "ockham.run.resumed.v1"
    ]


class Batch(NamedTuple):
    """One micro-batch that the figures count."""

    row: Row
    iter_num: int
    micro_step: int
    micro_steps: int
    loss: float
    updated: bool
    stepped: bool | None
    measured: dict[str, Any]
    seconds: dict[str, float]

    @property
    def finite(self) -> bool:
        return math.isfinite(self.loss)


def counted(rows: list[Row], kind: str) -> list[Row]:
    """Return the events of one kind that figures count."""
    return [row for row in rows if row.kind == kind and row.counted]


def contexts(rows: list[Row], hook: str = "batch") -> list[Batch]:
    """Return the counted contexts of one hook."""
    found = []
    for row in counted(rows, "context.recorded"):
        if row.data["hook"] == hook:
            given, left = row.data["given"], row.data["left"]
            found.append(
                Batch(
                    row,
                    row.data["iter_num"],
                    row.data["micro_step"],
                    given.get("micro_steps", 1),
                    to_number(given["task_loss"]),
                    left.get("updated", given.get("updated", True)),
                    row.data["applied"]["updated"],
                    row.data["measured"],
                    row.data["seconds"],
                )
            )
    return found


def decisions(rows: list[Row], *, acting: bool = True) -> list[Row]:
    """Return the counted decisions; with *acting* without those in shadow."""
    return [row for row in counted(rows, "decision.made") if not (acting and row.data["shadow"])]


def plugin_names(rows: list[Row], use: str) -> set[str]:
    """Return the names of the plugins of one class, from the loaded policies."""
    return {
        plugin["plugin"]
        for row in rows
        if row.kind == "policy.loaded"
        for plugin in row.data["plugins"]
        if plugin["use"] == use
    }
