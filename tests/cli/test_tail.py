"""`ockham tail`: the last decisions, and each that comes once, of every rank."""

from __future__ import annotations

import threading
import time

import pytest
from typer.testing import CliRunner

from ockham.cli import build_app, tail
from ockham.run import Run
from tests.cli.test_commands import ockham
from tests.helpers.runs import made_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tail")
    made_run(folder, "night-1")
    made_run(folder, "night-2", batches=20)
    return folder


def test_tail_shows_the_last_decisions(runs):
    """And -F ends by itself where the run has ended."""
    done = ockham(runs, "tail", "night-2", "-n", "3", "-F")
    assert len(done.stdout.splitlines()) == 3
    assert "iter 19" in done.stdout


def test_tail_where(runs):
    """Only what the condition holds for; it is a stranger's SQL like any other."""
    done = ockham(
        runs, "tail", "night-1", "-n", "5", "-F", "--where", "plugin = 'memory' and action = 'ACCEPT'"
    )
    assert done.returncode == 0
    assert {line.split()[3] for line in done.stdout.splitlines()} == {"ACCEPT"}
    bad = ockham(runs, "tail", "night-1", "--where", "exists (select 1 from read_text('/etc/passwd'))")
    assert (bad.returncode, bad.stdout) == (2, "")
    assert "'read_text' is refused" in bad.stderr
    bad = ockham(runs, "tail", "night-1", "--where", "drop table")
    told = "--where 'drop table': this SQL is not understood; a condition is such as \"action = 'SKIP'\""
    assert (bad.returncode, bad.stderr) == (2, f"ockham: {told}\n")


def test_none_to_begin_with_is_none(runs):
    """-n 0 -F of a run that has ended tells nothing."""
    done = ockham(runs, "tail", "night-2", "-n", "0", "-F")
    assert (done.returncode, done.stdout) == (0, "")


def test_each_decision_that_comes_is_told_once(tmp_path, monkeypatch):
    """Of two ranks that write at their own pace, from where the log stood when it began."""
    monkeypatch.setattr(tail, "POLL_SECONDS", 0.01)
    told = []
    monkeypatch.setattr(tail.typer, "echo", told.append)
    each = [Run("balanced", runs=tmp_path, run_id="a", rank=r, world_size=2, all_gather=None) for r in (0, 1)]
    for run in each:
        run.__enter__()
        run.end_batch(run.start_batch(0, 5.0))
        run.flush()
    following = threading.Thread(target=CliRunner().invoke, args=(build_app(), ["--runs", str(tmp_path), "tail", "a", "-F", "-n", "0"]))  # fmt: skip
    following.start()
    wait_for(lambda: tail_has_begun(told, each[0]))
    for upto, run in ((31, each[1]), (11, each[0])):  # the one that is behind comes second
        for i in range(1, upto):
            run.end_batch(run.start_batch(100 + i, 5.0))
        run.flush()
        time.sleep(0.3)
    for run in each:
        run.finish()
    following.join(30)
    gates = [int(line.split()[1]) for line in told if " gate " in line]
    assert sorted(i for i in gates if i > 100) == sorted([*range(101, 131), *range(101, 111)])


def tail_has_begun(told, run):
    run.end_batch(run.start_batch(1, 5.0))
    run.flush()
    return bool(told)


def wait_for(true):
    until = time.monotonic() + 20
    while not true():
        assert time.monotonic() < until
        time.sleep(0.1)
