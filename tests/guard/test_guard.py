"""The child: answers, is killed when it takes too long, and can reach nothing even where the rules are gone."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ockham.errors import QueryError, UnverifiableError
from ockham.guard import Guard
from tests.helpers.runs import made_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("guard")
    made_run(folder, "a")
    return folder


@pytest.fixture(scope="module")
def guard(runs):
    with Guard(runs, timeout=10) as warm:
        yield warm


def test_the_answer_is_the_catalogs(runs, guard):
    """The same rows as without a guard."""
    from ockham.catalog import Catalog

    sql = "select plugin, action, reason_code, count(*) as n from decisions group by all order by all"
    assert guard.query(sql).table.to_pylist() == Catalog(runs).rows(sql)


def test_parameters_and_a_trailing_semicolon(guard):
    """$name is a value, never SQL."""
    found = guard.query(
        "select $x as x, count(*) as n from decisions where plugin = $p;", {"x": "'; drop", "p": "gate"}
    )
    assert found.table.to_pylist() == [{"x": "'; drop", "n": 120}]


def test_rows_are_capped_and_it_says_so(runs):
    """limit + 1 is never shown, and truncated is true."""
    with Guard(runs, limit=7) as few:
        answer = few.query("select * from contexts order by sequence")
        assert (answer.table.num_rows, answer.truncated) == (7, True)
        assert not few.query("select * from contexts limit 7").truncated


def test_a_query_that_takes_too_long_is_ended(runs):
    """Killed on time, and the next query is answered by a new child."""
    with Guard(runs, timeout=1.0) as short:
        short.query("select 1 as one")
        began = time.monotonic()
        with pytest.raises(QueryError, match=r"longer than 1 s"):
            short.query("select count(*) from range(100000000000) a, range(1000) b")
        assert time.monotonic() - began < 5
        assert short.query("select 1 as one").table.to_pylist() == [{"one": 1}]


def test_a_query_that_wants_all_memory_is_ended(runs):
    """An error, not a dead machine; and the next query is answered."""
    with Guard(runs, timeout=30, memory_mb=200) as small:
        with pytest.raises(QueryError):
            small.query("select list(a.range || '-' || b.range) from range(100000) a, range(100000) b")
        assert small.query("select 1 as one").table.num_rows == 1


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
def bare(request, runs):
    """A guard whose rules are gone: what holds now is the process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ockham.guard.guard.check_query", lambda text, views: None)
        with Guard(runs, timeout=2, memory_mb=300, reader=request.param) as made:
            yield made


@pytest.mark.parametrize("sql", HOSTILE)
def test_the_second_layer_holds_alone(runs, bare, tmp_path, sql):
    """With the rules taken away, the process itself reaches no file, setting or extension, and leaves nothing behind."""
    out = tmp_path / "out"
    evidence, segment = next(runs.rglob("decisions/**/*.parquet")), next(runs.rglob("*.jsonl"))
    before = _listing(runs)
    bare.query("select 1 as one")
    with pytest.raises(QueryError):
        _raw(bare, sql.format(out=out, runs=runs, evidence=evidence, segment=segment))
    assert not out.exists()
    assert _listing(runs) == before
    assert bare.query("select count(*) as n from runs").table.to_pylist() == [{"n": 1}]


KERNEL = tuple(int(part) for part in os.uname().release.split(".")[:2])


def test_what_may_be_read_can_only_be_read(runs):
    """Below the runs DuckDB may open a file, as the evidence that it answers from; even attached it is not written."""
    evidence = next(runs.rglob("decisions/**/*.parquet"))
    before = _listing(runs)
    with Guard(runs, timeout=5) as own:
        own.query("select 1 as one")
        for sql in (f"attach '{evidence}' as e", "create table e.x as select 1 as x", "checkpoint e"):
            with contextlib.suppress(QueryError):
                _raw(own, sql)
    assert _listing(runs) == before


@pytest.mark.skipif(KERNEL < (6, 2), reason="no Landlock that forbids truncation")
def test_where_the_kernel_can_the_child_cannot_write(runs, tmp_path):
    """DuckDB reads by itself only in a process that has given up writing, starting programs and connecting."""
    code = (
        "from ockham.guard.landlock import forbid_writing; import os, socket, subprocess; "
        f"held = forbid_writing(); told = []\n"
        f"for act in (lambda: open(r'{tmp_path}/x', 'w'), lambda: os.truncate(r'{tmp_path}/there', 0), "
        f"lambda: os.remove(r'{tmp_path}/there'), lambda: os.rename(r'{tmp_path}/there', r'{tmp_path}/y'), "
        f"lambda: os.mkdir(r'{tmp_path}/d'), lambda: os.symlink('a', r'{tmp_path}/l'), lambda: os.execv('/bin/true', ['true']), "
        "lambda: socket.create_connection(('127.0.0.1', 9))):\n"
        "    try: act(); told.append('did')\n"
        "    except ConnectionRefusedError: told.append('tried')\n"
        "    except OSError: told.append('no')\n"
        f"print(held, told, open(r'{tmp_path}/there').read())"
    )
    (tmp_path / "there").write_text("kept")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"True {['no'] * 8} kept\n"


def test_with_threads_it_says_so():
    """Threads that run already would not be held, so the answer is no."""
    code = (
        "import threading, time; threading.Thread(target=time.sleep, args=(1,), daemon=True).start(); "
        "from ockham.guard.landlock import forbid_writing; print(forbid_writing())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_the_child_is_light(runs):
    """It has not loaded pandas, for which Arrow asks at its first array."""
    pytest.importorskip("pandas")
    with Guard(runs) as own:
        own.query("select 1 as one")
        loaded = Path(f"/proc/{own._child.pid}/maps").read_text()
    assert "pyarrow" in loaded
    assert "pandas" not in loaded


@pytest.mark.parametrize("reader", ["duckdb", "arrow"])
def test_both_readers_answer_alike(runs, reader):
    """Whoever opens the files, the rows are the same; a run that appears is seen."""
    from ockham.catalog import Catalog

    sql = "select plugin, action, count(*) as n, max(map_keys(numbers)) as k from decisions group by all order by all"
    with Guard(runs, reader=reader) as own:
        assert own.query(sql).table.to_pylist() == Catalog(runs).rows(sql)


def _raw(guard, sql):
    """Past the wrapping in SELECT too."""
    import json

    request = {"sql": sql, "parameters": None, "limit": 10, "wrap": False}
    head, _ = guard._exchange(json.dumps(request).encode() + b"\n", guard.timeout)
    if "error" in head:
        raise QueryError(head["error"])


def _listing(folder):
    return sorted((str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file())


def test_the_child_sees_no_secret_of_the_environment(runs, monkeypatch):
    """Its environment is a short list."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    with Guard(runs) as own:
        own.query("select 1")
        environ = Path(f"/proc/{own._child.pid}/environ").read_bytes()
    assert b"canary" not in environ


def test_an_unreadable_log_is_said_at_the_start(tmp_path):
    """The catalog's own error comes through."""
    run = made_run(tmp_path, batches=5)
    with run.folder.segments(1, 0)[0].open("ab") as file:
        file.write(b"garbage\n")
    with Guard(tmp_path) as broken, pytest.raises(UnverifiableError, match="not an event"):
        broken.query("select 1")


def test_a_warm_guard_costs_little(runs, guard):
    """The child stays the same process from query to query."""
    guard.query("select 1")
    pid = guard._child.pid
    guard.query("select 2")
    assert guard._child.pid == pid != os.getpid()
