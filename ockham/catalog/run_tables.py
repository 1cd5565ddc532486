"""What lies in the run folders, as Arrow tables: run.json, policies, and the lines that no Parquet holds yet."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pyarrow as pa

from ockham.catalog.schemas import ATTEMPTS, PLUGIN_USES, POLICIES, REASON_CODES, RUNS
from ockham.errors import UnverifiableError
from ockham.plugins import BUILT_IN, load_built_in
from ockham.record.parquet.tables import SCHEMAS, tables_from_lines
from ockham.record.run_folder import RunFolder, open_regular_file, read_regular_file


class SegmentTail(NamedTuple):
    """Lines of one segment that have been read: up to which byte, and the tables they gave."""

    size: int
    tables: Mapping[str, pa.Table]


def read_tail(segment: Path, before: SegmentTail | None) -> SegmentTail:
    """Tables of a segment's whole lines; what was read before is not read again.

    Raises:
        UnverifiableError: naming the place, if a whole line is no event.

    """
    start = before.size if before is not None else 0
    with open_regular_file(segment) as file:
        file.seek(start)
        data = file.read()
    end = data.rfind(b"\n") + 1
    if end == 0:
        return before or SegmentTail(0, {kind: schema.empty_table() for kind, schema in SCHEMAS.items()})
    try:
        fresh = tables_from_lines(data[:end].split(b"\n")[:-1])
    except ValueError as error:
        raise UnverifiableError(
            f"{segment}: a line from byte {start} on is no event of ours ({error}); `ockham verify` says more"
        ) from None
    if before is None:
        return SegmentTail(end, fresh)
    joined = {kind: pa.concat_tables([before.tables[kind], table]) for kind, table in fresh.items()}
    return SegmentTail(start + end, joined)


def runs_table(folders: Iterable[RunFolder]) -> pa.Table:
    """One row for each run.json; one that is unreadable gives a row with its ID alone."""
    rows = [_run(folder) for folder in folders]
    try:
        return pa.Table.from_pylist(rows, schema=RUNS)
    except (
        pa.ArrowException,
        TypeError,
        ValueError,
        OverflowError,
    ):  # somebody else's file: which one is it?
        return pa.concat_tables([RUNS.empty_table(), *map(_row, rows)])


def policies_tables(folders: Iterable[RunFolder]) -> tuple[pa.Table, pa.Table]:
    """The policies of all runs, and which plugin of them uses which class."""
    policies, plugin_uses = [], []
    for folder in folders:
        for path in sorted((folder.path / "policies").glob("*.json")):
            content = _json(path)
            revision = f"sha256:{path.stem}"
            row = {"run_id": folder.run_id, "policy_revision": revision}
            policies.append({**row, "policy": _text(content.get("name")), "content": json.dumps(content)})
            plugins = content.get("plugins")
            plugin_uses += [
                {**row, "plugin": _text(plugin.get("name")), "use": _text(plugin.get("use"))}
                for plugin in (plugins if isinstance(plugins, list) else [])
                if isinstance(plugin, dict)
            ]
    return pa.Table.from_pylist(policies, schema=POLICIES), pa.Table.from_pylist(
        plugin_uses, schema=PLUGIN_USES
    )


def name_conflicts_table(plugin_uses: pa.Table) -> pa.Table:
    """The rows of `plugin_uses` whose plugin has a name that stands for different classes in different policies."""
    rows = plugin_uses.to_pylist()
    classes: dict[str, set[str]] = {}
    for row in rows:
        classes.setdefault(row["plugin"], set()).add(row["use"])
    return pa.Table.from_pylist([row for row in rows if len(classes[row["plugin"]]) > 1], schema=PLUGIN_USES)


def attempts_table(attempts: Iterable[tuple[str, int]]) -> pa.Table:
    """Which attempts each run has, by the folders of their logs."""
    rows = [{"run_id": run_id, "attempt": attempt} for run_id, attempt in sorted(set(attempts))]
    return pa.Table.from_pylist(rows, schema=ATTEMPTS)


def reason_codes_table() -> pa.Table:
    """The reason codes that the built-in plugins declare."""
    rows = [
        {"plugin": name, "reason_code": code, "meaning": meaning}
        for name in BUILT_IN
        for code, meaning in load_built_in(name).reasons.items()
    ]
    chain = {
        "plugin": "",
        "reason_code": "UNEXPLAINED",
        "meaning": "A plugin turned a knob and gave no reason.",
    }
    return pa.Table.from_pylist([*rows, chain], schema=REASON_CODES)


def _run(folder: RunFolder) -> dict[str, Any]:
    about = _json(folder.run_json)
    parts = (about.get(key) for key in ("facts", "data", "git"))
    facts, data, git = (part if isinstance(part, dict) else {} for part in parts)
    return {
        "run_id": folder.run_id, "created": _time(about.get("created")), "policy_revision": about.get("policy_revision"),
        "data": data.get("name"), "data_sha256": data.get("sha256"), "model_params": facts.get("model_params"),
        "max_iters": facts.get("max_iters"), "seed": facts.get("seed"), "settings": json.dumps(about.get("settings", {})),
        "user_name": about.get("user"), "host": about.get("host"), "python": about.get("python"),
        "platform": about.get("platform"), "git_commit": git.get("commit"), "git_changed": git.get("changed"),
        "verifier_key": about.get("verifier_key"),
    }  # fmt: skip


def _row(row: Mapping[str, Any]) -> pa.Table:
    """A table of one run; of its ID alone where run.json holds other kinds of values."""
    try:
        return pa.Table.from_pylist([row], schema=RUNS)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return pa.Table.from_pylist([{"run_id": row["run_id"]}], schema=RUNS)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _time(text: Any) -> dt.datetime | None:
    try:
        return dt.datetime.fromisoformat(text).replace(tzinfo=None)
    except (TypeError, ValueError):
        return None


def _json(path: Path) -> dict[str, Any]:
    try:
        value = orjson.loads(read_regular_file(path))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
