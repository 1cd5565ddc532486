"""`ockham tail`: the newest decisions, and each new one once."""

from __future__ import annotations

import json
import threading
import time

import pytest
from typer.testing import CliRunner

from ockham.cli import build_app, tail
from ockham.run import Run
from tests.helpers.forked_cli import ockham
from tests.helpers.runs import make_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tail")
    make_run(folder, "night-1")
    make_run(folder, "night-2", batches=20)
    return folder


def test_tail_shows_the_newest_decisions_and_ends_with_the_run(runs):
    """-F ends by itself when the run has ended."""
    done = ockham(runs, "tail", "night-2", "-n", "3", "-F")
    assert len(done.stdout.splitlines()) == 3
    assert "iter 19" in done.stdout


def test_tail_where_filters_decisions_through_the_guard(runs):
    """The condition is user SQL, so the guard checks it."""
    done = ockham(
        runs, "tail", "night-1", "-n", "5", "-F", "--where", "plugin = 'memory' and action = 'ACCEPT'"
    )
    assert done.returncode == 0
    assert {line.split()[3] for line in done.stdout.splitlines()} == {"ACCEPT"}
    refused = ockham(runs, "tail", "night-1", "--where", "exists (select 1 from read_text('/etc/passwd'))")
    assert refused.returncode == 2
    assert refused.stdout == ""
    assert "'read_text' is refused" in refused.stderr


def test_tail_where_with_invalid_sql_prints_an_example(runs):
    """The message contains the condition and a valid one."""
    done = ockham(runs, "tail", "night-1", "--where", "drop table")
    assert done.returncode == 2
    example = "a condition is such as \"action = 'SKIP'\""
    assert done.stderr == f"ockham: --where 'drop table': this SQL is not understood; {example}\n"


def test_tail_writes_rows_with_format_and_output(runs, tmp_path):
    """-f jsonl writes one object for each decision."""
    done = ockham(runs, "tail", "night-2", "-n", "2", "-f", "jsonl", "-o", str(tmp_path / "tail.jsonl"))
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "tail.jsonl").read_text().splitlines()]
    assert [row["iter_num"] for row in rows] == [19, 19]


def test_tail_with_zero_lines_of_an_ended_run_prints_nothing(runs):
    """-n 0 -F of an ended run is empty."""
    done = ockham(runs, "tail", "night-2", "-n", "0", "-F")
    assert (done.returncode, done.stdout) == (0, "")


def test_tail_follow_prints_each_decision_of_two_ranks_once(tmp_path, monkeypatch):
    """The ranks write independently; no decision is skipped or repeated."""
    monkeypatch.setattr(tail, "POLL_SECONDS", 0.01)
    lines = []
    monkeypatch.setattr(tail.typer, "echo", lambda text: lines.extend(text.splitlines()))
    ranks = [
        Run("balanced", runs=tmp_path, run_id="a", rank=rank, world_size=2, all_gather=None)
        for rank in (0, 1)
    ]
    for run in ranks:
        run.__enter__()
        run.end_batch(run.start_batch(loss=5.0))
        run.flush()
    words = ["--runs", str(tmp_path), "tail", "a", "-F", "-n", "0"]
    thread = threading.Thread(target=CliRunner().invoke, args=(build_app(), words))
    thread.start()
    wait_until(lambda: has_output_after_a_batch(lines, ranks[0]))
    last = ranks[0].last_iter
    while ranks[1].last_iter < last:
        ranks[1].end_batch(ranks[1].start_batch(loss=5.0))
    # The slower rank writes last.
    for end, run in ((31, ranks[1]), (11, ranks[0])):
        for _ in range(1, end):
            run.end_batch(run.start_batch(loss=5.0))
        run.flush()
        time.sleep(0.3)
    for run in ranks:
        run.finish()
    thread.join(60)
    iterations = [int(line.split()[1]) for line in lines if " gate " in line]
    expected = [*range(last + 1, last + 31), *range(last + 1, last + 11)]
    assert sorted(i for i in iterations if i > last) == sorted(expected)


def has_output_after_a_batch(lines, run):
    run.end_batch(run.start_batch(loss=5.0))
    run.flush()
    return bool(lines)


def wait_until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
