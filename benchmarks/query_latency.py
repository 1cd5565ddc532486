"""Cost of ten saved questions over a folder of `benchmarks._lib.synthetic_runs`, compared with raw DuckDB.

    python -m benchmarks._lib.synthetic_runs ../runs-1m 1000000
    python -m benchmarks.query_latency ../runs-1m [--jsonl] [--json FILE] [--method ockham]

Each question runs four times in a new process: cold is the first time, warm the minimum of the other three.
CPU seconds are reported in addition to wall seconds, because only CPU seconds are reproducible on a shared
machine. The raw SQL is written by hand for the same Parquet files. `--method spark` measures the same
questions, except one decision by its ID, under Spark with two cores; warm is the second time. --json also
contains the CPU milliseconds of the first time and the peak memory of each process.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb

from ockham.catalog import Catalog
from ockham.catalog.views import load_question
from ockham.guard import Guard
from ockham.spark_catalog import SparkCatalog

ONE_RUN = {"run": "run-0000", "iter": 5_000}
QUESTIONS = (
    "why_skipped",
    "refusals",
    "window",
    "near_misses",
    "stage_times",
    "thresholds",
    "limiter_storms",
    "trouble",
    "uncited",
    "savings",
)
SPARK_SETTINGS = {
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.memory": "8g",
}
# Not a saved question. It is the query that trackers are compared with.
WINDOW = """
select run_id, iter_num // 1000 * 1000 as from_iter, avg(updated::int) as update_rate, count(*) as n
from gate_decisions group by all order by all
"""
ID = "select * from decisions where decision_id = $id"
_MEMORY = "from {decisions} where plugin = 'memory' and hook = 'on_evaluate'"
_GATE = "from {decisions} where plugin = 'gate' and hook = 'on_batch_start'"
RAW = {
    "why_skipped": """
        select attempt, hook, plugin, action, reason_code, observed, threshold, observed - threshold, event_id
        from {decisions} where run_id = $run and iter_num = $iter order by attempt, "rank", sequence
    """,
    "refusals": f"""
        select run_id, reason_code, count(*) n, count(*) / sum(count(*)) over (partition by run_id)
        {_MEMORY} group by run_id, reason_code order by all
    """,
    "window": f"""
        select run_id, iter_num // 1000 * 1000 b, avg((action = 'UPDATE')::int), count(*)
        {_GATE} group by all order by all
    """,
    "near_misses": f"""
        select run_id, iter_num, numbers['oq'] / numbers['oq_baseline'] - 1 as gain, event_id
        {_MEMORY} and reason_code = 'REJECTED_OQ_INSUFFICIENT'
        order by numbers['efficiency_limit'] - gain limit 20
    """,
    "stage_times": """
        select run_id, e.key, count(*), median(e.value), quantile_cont(e.value, 0.99), sum(e.value)
        from (select run_id, unnest(map_entries(seconds)) e from {contexts} where hook = 'batch')
        group by all order by all
    """,
    "thresholds": f"""
        select run_id, t, avg((observed >= t)::int), count(*)
        from (select run_id, observed {_GATE} and isfinite(observed)),
            (select unnest(range(10, 51)) / 10.0 as t)
        group by all order by all
    """,
    "limiter_storms": """
        select run_id, reason_code, iter_num // 100 * 100 b, count(*) hits,
            max(observed / nullif(threshold, 0) - 1)
        from {decisions} where plugin = 'limiter' group by all having hits > 50 order by hits desc
    """,
    "trouble": """
        select run_id, count(*) filter (not isfinite(task_loss)) n, null
        from {contexts} where hook = 'batch' group by run_id
        union all select run_id, count(*), type from {events}
        where type in ('ockham.log.gap.v1', 'ockham.log.recovered.v1', 'ockham.log.halted.v1',
            'ockham.run.finished.v1', 'ockham.plugin.failed.v1')
        group by run_id, type
    """,
    "uncited": f"""
        select run_id, iter_num, event_id, numbers['loss'] {_MEMORY} and action = 'ACCEPT'
        order by run_id, iter_num
    """,
    "savings": f"""
        select * from (
            select run_id, avg(updated::int) u, count(*) n
            from {{contexts}} where hook = 'batch' group by run_id
        ) join (
            select run_id, avg((action = 'ACCEPT')::int),
                arg_max(numbers['oq'], iter_num) / arg_min(numbers['oq'], iter_num) - 1
            {_MEMORY} group by run_id
        ) using (run_id)
    """,
}
JSONL = """
select run, iter // 1000 b, avg((data ->> '$.action' = 'UPDATE')::int)
from (
    select data ->> '$.plugin' p, (data ->> '$.iter_num')::bigint iter, source run, data
    from read_json('{runs}/run-0000/log/*/*.jsonl', format = 'newline_delimited',
        columns = {{source: 'varchar', data: 'json'}})
)
where p = 'gate' group by all
"""


def clock(call: Callable[[], Any], cpu_seconds: Callable[[], float]) -> tuple[float, float]:
    """Return the wall and CPU milliseconds of a call."""
    wall, cpu = time.perf_counter(), cpu_seconds()
    call()
    return (time.perf_counter() - wall) * 1e3, (cpu_seconds() - cpu) * 1e3


def measure(
    call: Callable[[], Any], cpu_seconds: Callable[[], float] = time.process_time, calls: int = 4
) -> dict[str, float]:
    """Return the first time, and the minimum of the other calls."""
    times = [clock(call, cpu_seconds) for _ in range(calls)]
    return {
        "cold_ms": round(times[0][0], 1),
        "cold_cpu_ms": round(times[0][1], 1),
        "warm_ms": round(min(t[0] for t in times[1:]), 1),
        "warm_cpu_ms": round(min(t[1] for t in times[1:]), 1),
    }


def time_ockham(runs: Path, name: str) -> dict[str, float]:
    """Return the times with the views of the catalog. `open_ms` is the time to open the catalog."""
    start = time.perf_counter()
    catalog = Catalog(runs)
    open_ms = (time.perf_counter() - start) * 1e3
    if name == "id":
        offset = catalog.rows("select count(*) // 2 as n from decisions")[0]["n"]
        decision_id = catalog.rows(f"select decision_id from decisions limit 1 offset {offset}")[0][
            "decision_id"
        ]
        return {"open_ms": round(open_ms, 1), **measure(lambda: catalog.sql(ID, {"id": decision_id}))}
    sql = WINDOW if name == "window" else load_question(name).sql
    parameters = {key: value for key, value in ONE_RUN.items() if f"${key}" in sql} or None
    return {"open_ms": round(open_ms, 1), **measure(lambda: catalog.sql(sql, parameters))}


def time_raw_duckdb(runs: Path, name: str) -> dict[str, float]:
    """Return the times with SQL over the files."""
    connection = duckdb.connect()
    connection.execute("set parquet_metadata_cache = true")
    files = {
        kind: f"read_parquet('{runs}/*/{kind}/*/*.parquet')" for kind in ("contexts", "decisions", "events")
    }
    if name == "id":
        count = connection.execute(f"select count(*) // 2 from {files['decisions']}").fetchall()[0][0]
        sql = f"select event_id from {files['decisions']} limit 1 offset {count}"
        event_id = connection.execute(sql).fetchall()[0][0]
        lookup = f"select * from {files['decisions']} where event_id = ?"
        return measure(lambda: connection.sql(lookup, params=[event_id]).to_arrow_table())
    if name == "jsonl":
        return measure(lambda: connection.sql(JSONL.format(runs=runs)).to_arrow_table())
    sql = RAW[name].format(**files)
    parameters = {key: value for key, value in ONE_RUN.items() if f"${key}" in sql}
    return measure(lambda: connection.sql(sql, params=parameters).to_arrow_table())


def time_spark(runs: Path, name: str) -> dict[str, float]:
    """Return the times with the views under Spark in local mode, first and second call."""
    start = time.perf_counter()
    catalog = SparkCatalog(runs, master="local[2]", settings=SPARK_SETTINGS)
    open_ms = (time.perf_counter() - start) * 1e3
    sql = WINDOW if name == "window" else load_question(name).sql
    parameters = {key: value for key, value in ONE_RUN.items() if f"${key}" in sql}
    times = measure(lambda: catalog.sql(sql, parameters), lambda: _java_status()[0], calls=2)
    return {"open_ms": round(open_ms, 1), **times, "java_peak_mb": _java_status()[1]}


def _java_status() -> tuple[float, float]:
    """Return the CPU seconds and the peak memory in MB of the Java process of this process group."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        fields = stat.read_text(encoding="utf-8").rpartition(")")[2].split()
        if int(fields[2]) == os.getpgid(0) and "(java)" in stat.read_text(encoding="utf-8"):
            peak = next(line for line in stat.with_name("status").read_text().splitlines() if "VmHWM" in line)
            ticks = int(fields[11]) + int(fields[12])
            return ticks / os.sysconf("SC_CLK_TCK"), int(peak.split()[1]) // 1_000
    raise SystemExit("no Java process in this process group")


def time_guard(runs: Path, name: str) -> dict[str, float]:
    """Return the times with the guard. `warm_cpu_ms` includes only this process, not the child."""
    sql = WINDOW if name == "window" else load_question(name).sql
    parameters = {key: value for key, value in ONE_RUN.items() if f"${key}" in sql} or None
    with Guard(runs, timeout=300) as guard:
        guard.query("select 1 as one")
        return measure(lambda: guard.query(sql, parameters))


def require_counted_rows(runs: Path) -> None:
    """Refuse a folder whose rows no figure counts, because its questions would read nothing.

    Raises:
        SystemExit: If no decision is signed, or none exists.

    """
    if not Catalog(runs).rows("select decision_id from decisions where counted limit 1"):
        raise SystemExit(f"{runs}: no counted decision; write the folder with benchmarks._lib.synthetic_runs")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path)
    parser.add_argument("--jsonl", action="store_true", help="Also read the lines of the first run.")
    parser.add_argument("--method", choices=["ockham", "raw", "spark"], help="Measure only this method.")
    parser.add_argument("--json", type=Path, help="Also write the results to this file.")
    parser.add_argument(
        "--one", nargs=2, metavar=("METHOD", "NAME"), help="Measure one question in this process."
    )
    options = parser.parse_args()
    methods = {"ockham": time_ockham, "raw": time_raw_duckdb, "guarded": time_guard, "spark": time_spark}
    if options.one:
        times = methods[options.one[0]](options.runs, options.one[1])
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1_000
        print(json.dumps({**times, "peak_mb": peak_mb}))
        return
    require_counted_rows(options.runs)
    results: dict[str, dict[str, Any]] = {}
    for name in (*QUESTIONS, "id", *(["jsonl"] if options.jsonl else [])):
        names = {"jsonl": ["raw"], "id": ["ockham", "raw"]}.get(name, ["ockham", "raw", "guarded"])
        if options.method:
            names = [options.method]
        if (name, options.method) == ("id", "spark"):
            continue
        results[name] = {method: _time_in_new_process(options.runs, method, name) for method in names}
        print(_format_line(name, results[name]), flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def _time_in_new_process(runs: Path, way: str, name: str) -> dict[str, float]:
    """Return the times of a new process, so that the first query is cold.

    The kernel may still cache the files.
    """
    words = [sys.executable, "-m", "benchmarks.query_latency", str(runs), "--one", way, name]
    times: dict[str, float] = json.loads(subprocess.run(words, capture_output=True, check=True).stdout)
    return times


def _format_line(name: str, ways: dict[str, dict[str, float]]) -> str:
    parts = [
        f"{way} {t['cold_ms']:8.0f} cold {t['warm_ms']:8.0f} warm {t['warm_cpu_ms']:8.0f} cpu"
        for way, t in ways.items()
    ]
    if {"ockham", "raw"} <= set(ways):
        parts.append(f"{ways['ockham']['warm_cpu_ms'] / ways['raw']['warm_cpu_ms']:.2f} of raw")
    return f"{name:<15} " + " | ".join(parts)


if __name__ == "__main__":
    main()
