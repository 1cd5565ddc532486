"""The child: answers, is killed when it takes too long, and can reach nothing even where the rules are gone."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from ockham.errors import QueryError
from ockham.guard import Guard
from tests.made import made_run


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
]


@pytest.mark.parametrize("sql", HOSTILE)
def test_the_second_layer_holds_alone(runs, tmp_path, monkeypatch, sql):
    """With the rules taken away, the process itself reaches no file, setting or extension, and leaves nothing behind."""
    monkeypatch.setattr("ockham.guard.guard.check", lambda text, views: None)
    out = tmp_path / "out"
    before = _listing(runs)
    with Guard(runs, timeout=10, memory_mb=300) as bare, pytest.raises(QueryError):
        bare.query("select 1")
        _raw(bare, sql.format(out=out))
    assert not out.exists()
    assert _listing(runs) == before


def _raw(guard, sql):
    """Past the wrapping in SELECT too."""
    import json

    request = {"sql": sql, "parameters": None, "limit": 10, "wrap": False}
    head, _ = guard._exchange(json.dumps(request).encode() + b"\n", 10)
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
    with Guard(tmp_path) as broken, pytest.raises(QueryError, match="is no event"):
        broken.query("select 1")


def test_a_warm_guard_costs_little(runs, guard):
    """The child stays the same process from query to query."""
    guard.query("select 1")
    pid = guard._child.pid
    guard.query("select 2")
    assert guard._child.pid == pid != os.getpid()
