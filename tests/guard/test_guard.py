"""Guard process: query results, limits, and no access to files or settings without the allow-list."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ockham.catalog import Catalog
from ockham.errors import QueryError, UnverifiableError
from ockham.guard import Guard
from ockham.record.run_folder import PARQUET_TABLES
from tests.helpers.runs import make_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("guard")
    make_run(folder, "a")
    return folder


@pytest.fixture(scope="module")
def guard(runs):
    with Guard(runs, timeout=60) as warm:
        yield warm


def test_guard_returns_same_rows_as_catalog(runs, guard):
    """The guard returns the same rows as the catalog."""
    sql = "select plugin, action, reason_code, count(*) as n from decisions group by all order by all"
    assert guard.query(sql).table.to_pylist() == Catalog(runs).rows(sql)


def test_guard_accepts_parameters_and_trailing_semicolon(guard):
    """A parameter `$name` is a value, never SQL. A trailing semicolon is accepted."""
    result = guard.query(
        "select $x as x, count(*) as n from decisions where plugin = $p;", {"x": "'; drop", "p": "gate"}
    )
    assert result.table.to_pylist() == [{"x": "'; drop", "n": 120}]


def test_result_above_row_limit_is_truncated(runs):
    """A longer result is cut at the limit, and marked as truncated."""
    with Guard(runs, limit=7) as guard:
        result = guard.query("select * from contexts order by sequence")
        assert result.table.num_rows == 7
        assert result.truncated
        assert not guard.query("select * from contexts limit 7").truncated


def test_query_above_timeout_is_stopped(runs):
    """The query is stopped at the timeout, and the next query uses a new process."""
    with Guard(runs, timeout=60) as guard:
        guard.query("select 1 as one")
        guard.timeout = 1.0
        with pytest.raises(QueryError, match=r"longer than 1 s"):
            guard.query("select count(*) from range(100000000000) a, range(1000) b")
        guard.timeout = 60
        assert guard.query("select 1 as one").table.to_pylist() == [{"one": 1}]


def test_query_above_memory_limit_fails(runs):
    """The query fails, and the next query succeeds."""
    with Guard(runs, timeout=60, memory_mb=200) as guard:
        with pytest.raises(QueryError):
            guard.query("select list(a.range || '-' || b.range) from range(100000) a, range(100000) b")
        assert guard.query("select 1 as one").table.num_rows == 1


HOSTILE = [
    "copy (select 1) to '{out}'",
    "copy decisions to '{out}'",
    "attach '{out}'",
    "export database '{out}'",
    "select * from read_text('/etc/passwd')",
    "select * from read_csv('/etc/hostname')",
    "select * from '/etc/passwd'",
    "select * from glob('/*')",
    "install httpfs",
    "load httpfs",
    "set enable_external_access = true",
    "set lock_configuration = false",
    "set allowed_directories = ['/']",
    "set memory_limit = '100GB'",
    "select repeat('x', 4000000000)",
    "select len(list_resize([1], 4000000000))",
    "select lpad('x', 4000000000, 'y')",
    "select printf('%2000000000d', 1)",
    "select * from duckdb_secrets()",
    "create persistent secret s (type s3)",
    "copy (select 1 as x) to '{evidence}'",
    "copy (select 1 as x) to '{evidence}' (format parquet)",
    "copy (select 1 as x) to '{segment}'",
    "copy (select 1 as x) to '{runs}/a/decisions/new.parquet'",
    "copy (select 1 as x) to '{runs}/x' (format parquet, partition_by (x))",
    "with x as (copy (select 1 as x) to '{evidence}') select * from x",
    "attach '{runs}/new.db' as e",
    "attach '{runs}/a/new.db' as e (read_only false)",
    "export database '{runs}/exported'",
    "set allowed_paths = ['{out}']",
    "set temp_directory = '{runs}'",
    "set log_query_path = '{runs}/queries'",
    "pragma enable_profiling = 'json'",
    "pragma profiling_output = '{evidence}'",
    "set profiling_output = '{evidence}'",
    "select * from read_csv('http://127.0.0.1:9/x')",
    "select * from read_text('{runs}/../../../../../../etc/passwd')",
    "attach 'http://127.0.0.1:9/x.db'",
    "select rpad('x', 4000000000, 'y')",
    "select count(*) from range(3000000000000) a, range(1000)",
    "with recursive t(n) as (select 1 union all select n + 1 from t) select count(*) from t",
]


@pytest.fixture(scope="module", params=["duckdb", "arrow"])
def unchecked_guard(request, runs):
    """Return a guard without the allow-list, so that only the process limits queries."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ockham.guard.guard.rewrite_inspection", lambda text, views: text)
        with Guard(runs, timeout=60, memory_mb=300, reader=request.param) as guard:
            yield guard


@pytest.mark.parametrize("sql", HOSTILE)
def test_process_without_allow_list_has_no_access(runs, unchecked_guard, tmp_path, sql):
    """Without the allow-list the process still cannot access files, settings or extensions."""
    out = tmp_path / "out"
    evidence, segment = next(runs.rglob("decisions/**/*.parquet")), next(runs.rglob("*.jsonl"))
    before = list_files(runs)
    unchecked_guard.query("select 1 as one")
    unchecked_guard.timeout = 2
    with pytest.raises(QueryError):
        run_unwrapped(unchecked_guard, sql.format(out=out, runs=runs, evidence=evidence, segment=segment))
    unchecked_guard.timeout = 60
    assert not out.exists()
    assert list_files(runs) == before
    assert unchecked_guard.query("select count(*) as n from runs").table.to_pylist() == [{"n": 1}]


FORBIDDEN_ACTIONS = """
import os, socket, sys
from ockham.guard.landlock import forbid_writing

folder = sys.argv[1]
is_forbidden = forbid_writing()
results = []
for action in (
    lambda: open(f"{folder}/x", "w"),
    lambda: os.truncate(f"{folder}/file", 0),
    lambda: os.remove(f"{folder}/file"),
    lambda: os.rename(f"{folder}/file", f"{folder}/y"),
    lambda: os.mkdir(f"{folder}/d"),
    lambda: os.symlink("a", f"{folder}/l"),
    lambda: os.execv("/bin/true", ["true"]),
    lambda: socket.create_connection(("127.0.0.1", 9)),
):
    try:
        action()
        results.append("allowed")
    except ConnectionRefusedError:
        results.append("refused by the other side")
    except OSError:
        results.append("denied")
print(is_forbidden, results, open(f"{folder}/file").read())
"""
KERNEL = tuple(int(part) for part in os.uname().release.split(".")[:2])


def test_attached_file_below_runs_is_not_written(runs):
    """DuckDB may open files below the runs folder, but an attached file is not written."""
    evidence = next(runs.rglob("decisions/**/*.parquet"))
    before = list_files(runs)
    with Guard(runs, timeout=60) as guard:
        guard.query("select 1 as one")
        for sql in (f"attach '{evidence}' as e", "create table e.x as select 1 as x", "checkpoint e"):
            with contextlib.suppress(QueryError):
                run_unwrapped(guard, sql)
    assert list_files(runs) == before


@pytest.mark.skipif(KERNEL < (6, 2), reason="no Landlock that forbids truncation")
def test_forbid_writing_denies_writes_programs_and_connections(runs, tmp_path):
    """After `forbid_writing` the process cannot write files, start programs or open connections."""
    (tmp_path / "file").write_text("content")
    command = [sys.executable, "-c", FORBIDDEN_ACTIONS, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout == f"True {['denied'] * 8} content\n"


def test_forbid_writing_with_other_threads_returns_false():
    """With other threads `forbid_writing` returns False, because Landlock would not cover them."""
    code = (
        "import threading, time; threading.Thread(target=time.sleep, args=(1,), daemon=True).start(); "
        "from ockham.guard.landlock import forbid_writing; print(forbid_writing())"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"


def test_guard_process_does_not_load_pandas(runs):
    """The process does not load pandas, which Arrow would import."""
    pytest.importorskip("pandas")
    with Guard(runs) as guard:
        guard.query("select 1 as one")
        mapped_files = Path(f"/proc/{guard._child.pid}/maps").read_text()
    assert "pyarrow" in mapped_files
    assert "pandas" not in mapped_files


@pytest.mark.parametrize("reader", ["duckdb", "arrow"])
def test_both_readers_return_same_rows(runs, reader):
    """Both readers return the rows of the catalog."""
    sql = (
        "select plugin, action, count(*) as n, max(map_keys(numbers)) as k "
        "from decisions group by all order by all"
    )
    with Guard(runs, reader=reader) as guard:
        assert guard.query(sql).table.to_pylist() == Catalog(runs).rows(sql)


def run_unwrapped(guard, sql):
    """Run SQL without the outer SELECT that limits the rows."""
    request = {"sql": sql, "parameters": None, "limit": 10, "wrap": False}
    head, _ = guard._exchange(json.dumps(request).encode() + b"\n", guard.timeout)
    if "error" in head:
        raise QueryError(head["error"])


def list_files(folder):
    return sorted((str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file())


def test_guard_process_has_no_secrets_in_environment(runs, monkeypatch):
    """The process gets only a few environment variables."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    with Guard(runs) as guard:
        guard.query("select 1")
        environ = Path(f"/proc/{guard._child.pid}/environ").read_bytes()
    assert b"canary" not in environ


def test_guard_with_unreadable_log_raises_unverifiable_error(tmp_path):
    """The guard raises the error of the catalog."""
    run = make_run(tmp_path, batches=5)
    for kind in PARQUET_TABLES:
        shutil.rmtree(run.folder.path / kind)
    segment = run.folder.segments(1, 0)[0]
    segment.write_bytes(b"garbage" + segment.read_bytes()[7:])
    with Guard(tmp_path) as guard, pytest.raises(UnverifiableError, match="not an event"):
        guard.query("select 1")


def test_guard_uses_same_process_for_all_queries(runs, guard):
    """All queries use the same process."""
    guard.query("select 1")
    pid = guard._child.pid
    guard.query("select 2")
    assert guard._child.pid == pid
    assert pid != os.getpid()
