"""Arrow tables of run.json and policies."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pyarrow as pa

from ockham.catalog.schemas import ATTEMPTS, LOG_SIZES, PLUGIN_USES, POLICIES, REASON_CODES, RUNS, UNSIGNED
from ockham.catalog.signed_sizes import read_if_readable
from ockham.catalog.tails import LogSize, unsigned_events
from ockham.plugins import BUILT_IN, load_built_in
from ockham.record.parquet.file_check import LogKey
from ockham.record.run_folder import RunFolder


class RunRows(NamedTuple):
    """Rows of one run in the tables of runs, policies and plugins. `created` is the text in run.json."""

    run: dict[str, Any]
    policies: list[dict[str, str | None]]
    uses: list[dict[str, str | None]]


def read_run_rows(folder: RunFolder) -> RunRows:
    """Return the rows of one run. If run.json is unreadable, its row contains only the run ID.

    Raises:
        OSError: If a file cannot be read now, and can be readable later.

    """
    policies: list[dict[str, str | None]] = []
    uses: list[dict[str, str | None]] = []
    for path in sorted((folder.path / "policies").glob("*.json")):
        content = _read_json(path)
        row: dict[str, str | None] = {"run_id": folder.run_id, "policy_revision": f"sha256:{path.stem}"}
        policies.append({**row, "policy": _text_or_none(content.get("name")), "content": json.dumps(content)})
        plugins = content.get("plugins")
        uses += [
            {**row, "plugin": _text_or_none(plugin.get("name")), "use": _text_or_none(plugin.get("use"))}
            for plugin in (plugins if isinstance(plugins, list) else [])
            if isinstance(plugin, dict)
        ]
    return RunRows(_run_row(folder), policies, uses)


def runs_table(runs: Iterable[RunRows]) -> pa.Table:
    """Return one row per run."""
    rows = [{**run.run, "created": _parse_time(run.run["created"])} for run in runs]
    try:
        return pa.Table.from_pylist(rows, schema=RUNS)
    # A run.json contains values of the wrong type: convert each row separately to find it.
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return pa.concat_tables([RUNS.empty_table(), *map(_to_run_table, rows)])


def policies_tables(runs: Sequence[RunRows]) -> tuple[pa.Table, pa.Table]:
    """Return the policies of all runs, and the class of each of their plugins."""
    policies = [row for run in runs for row in run.policies]
    uses = [row for run in runs for row in run.uses]
    return pa.Table.from_pylist(policies, schema=POLICIES), pa.Table.from_pylist(uses, schema=PLUGIN_USES)


def name_conflicts_table(plugin_uses: pa.Table) -> pa.Table:
    """Return the rows of `plugin_uses` whose plugin name refers to different classes."""
    rows = plugin_uses.to_pylist()
    classes: dict[str, set[str]] = {}
    for row in rows:
        classes.setdefault(row["plugin"], set()).add(row["use"])
    return pa.Table.from_pylist([row for row in rows if len(classes[row["plugin"]]) > 1], schema=PLUGIN_USES)


def load_run_tables(runs: Sequence[RunRows], sizes: Mapping[LogKey, LogSize]) -> dict[str, pa.Table]:
    """Return the tables that both catalogs need in addition to the logs, by name.

    Args:
        runs: Rows of the runs.
        sizes: Size of each log.

    """
    policies, uses = policies_tables(runs)
    unsigned = unsigned_events(sizes, [run.run["run_id"] for run in runs])
    logs = [
        {**dict(zip(LOG_SIZES.names, log, strict=False)), "size": size.signed} for log, size in sizes.items()
    ]
    return {
        "raw_runs": runs_table(runs),
        "raw_policies": policies,
        "plugin_uses": uses,
        "plugin_clashes": name_conflicts_table(uses),
        "raw_reason_codes": reason_codes_table(),
        "raw_attempts": attempts_table((run_id, attempt) for run_id, attempt, _ in sizes),
        "raw_unsigned": pa.Table.from_pylist(
            [{"run_id": run_id, "unsigned_events": count} for run_id, count in unsigned.items()],
            schema=UNSIGNED,
        ),
        "log_sizes": pa.Table.from_pylist(logs, schema=LOG_SIZES),
    }


def attempts_table(attempts: Iterable[tuple[str, int]]) -> pa.Table:
    """Return the attempts of each run, from the names of the log folders."""
    rows = [{"run_id": run_id, "attempt": attempt} for run_id, attempt in sorted(set(attempts))]
    return pa.Table.from_pylist(rows, schema=ATTEMPTS)


def reason_codes_table() -> pa.Table:
    """Return the reason codes of the built-in plugins."""
    rows = [
        {"plugin": name, "reason_code": code, "meaning": meaning}
        for name in BUILT_IN
        for code, meaning in load_built_in(name).reasons.items()
    ]
    chain = {
        "plugin": "",
        "reason_code": "UNEXPLAINED",
        "meaning": "A plugin changed a knob and gave no reason.",
    }
    return pa.Table.from_pylist([*rows, chain], schema=REASON_CODES)


def _run_row(folder: RunFolder) -> dict[str, Any]:
    metadata = _read_json(folder.run_json)
    sections = (metadata.get(key) for key in ("facts", "data", "git"))
    facts, data, git = (section if isinstance(section, dict) else {} for section in sections)
    return {
        "run_id": folder.run_id,
        "created": metadata.get("created"),
        "policy_revision": metadata.get("policy_revision"),
        "data": data.get("name"),
        "data_sha256": data.get("sha256"),
        "model_params": facts.get("model_params"),
        "max_iters": facts.get("max_iters"),
        "seed": facts.get("seed"),
        "settings": json.dumps(metadata.get("settings", {})),
        "user_name": metadata.get("user"),
        "host": metadata.get("host"),
        "python": metadata.get("python"),
        "platform": metadata.get("platform"),
        "git_commit": git.get("commit"),
        "git_changed": git.get("changed"),
        "verifier_key": metadata.get("verifier_key"),
    }


def _to_run_table(row: Mapping[str, Any]) -> pa.Table:
    """Return a table of one run. It contains only the run ID if values have the wrong type."""
    try:
        return pa.Table.from_pylist([row], schema=RUNS)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return pa.Table.from_pylist([{"run_id": row["run_id"]}], schema=RUNS)


def _text_or_none(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _parse_time(text: Any) -> dt.datetime | None:
    try:
        return dt.datetime.fromisoformat(text).replace(tzinfo=None)
    except (TypeError, ValueError):
        return None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = orjson.loads(read_if_readable(path))
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
