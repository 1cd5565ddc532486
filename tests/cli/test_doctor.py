"""`ockham doctor` as people type it."""

from __future__ import annotations

import json
import os

import pytest

from ockham.errors import LogHaltedError
from ockham.record.checkpoints import find_resume_point
from ockham.record.run_folder import RunFolder
from ockham.run import Run
from tests.cli.test_commands import ockham
from tests.helpers.runs import made_run


@pytest.fixture
def key(tmp_path):
    """A key folder of the test's own."""
    return {"OCKHAM_KEY_DIR": str(tmp_path / "keys")}


def looked_at(runs, env):
    done = ockham(runs, "doctor", "-f", "json", env=env)
    return done, {(row["what"], row["state"]): row["message"] for row in json.loads(done.stdout)}


def test_a_healthy_folder(tmp_path, key, monkeypatch):
    """Every run on a line, and exit 0."""
    monkeypatch.setenv("OCKHAM_KEY_DIR", key["OCKHAM_KEY_DIR"])
    made_run(tmp_path / "runs", "a", batches=5)
    done, rows = looked_at(tmp_path / "runs", key)
    assert done.returncode == 0, done.stderr
    assert rows["a", "ok"].startswith("ended with a whole line")
    assert "not checked: `ockham verify a`" in rows["a", "ok"]
    assert rows["signing key", "ok"].startswith(key["OCKHAM_KEY_DIR"])
    assert ("ockham", "ok") in rows
    assert any(what == "guard" for what, _ in rows)


def test_what_is_wrong_is_named(tmp_path, key, monkeypatch):
    """A run without an end, a key that others can read: exit 1, and each has its row."""
    monkeypatch.setenv("OCKHAM_KEY_DIR", key["OCKHAM_KEY_DIR"])
    runs = tmp_path / "runs"
    made_run(runs, "a", batches=5)
    segment = RunFolder(runs, "a").segments(1, 0)[0]
    segment.write_bytes(segment.read_bytes()[:-40])  # the end and a bit of its line, as a kill leaves it
    (tmp_path / "keys" / "log.key").chmod(0o644)
    done, rows = looked_at(runs, key)
    assert done.returncode == 1
    assert done.stderr == "2 problems\n"
    assert "process is gone" in rows["a 1-0", "problem"]
    assert "unfinished line" in rows["a 1-0", "note"] or "not signed" in rows["a 1-0", "note"]
    assert "chmod 600" in rows["signing key", "problem"]


def test_no_runs_and_no_key_are_no_problem(tmp_path, key):
    """A newcomer's machine."""
    (tmp_path / "runs").mkdir()
    done, rows = looked_at(tmp_path / "runs", key)
    assert done.returncode == 0, done.stderr
    assert "`ockham train` makes one" in rows["runs", "ok"]
    assert "the first run makes" in rows["signing key", "note"]


def test_a_full_disk_is_a_problem_until_the_run_goes_on(tmp_path, key, monkeypatch):
    """The newest attempt stopped: free the cause. A later one went on: no more than a note."""
    monkeypatch.setenv("OCKHAM_KEY_DIR", key["OCKHAM_KEY_DIR"])
    runs, real = tmp_path / "runs", os.write

    def full(descriptor, data):
        if descriptor == run.attempt.log._segment._file and (run.folder.log_dir(1, 0) / "reserve").exists():
            raise OSError(28, "No space left on device")
        return real(descriptor, data)

    with pytest.raises(LogHaltedError), Run("observe", runs=runs, run_id="a") as run:
        run.flush()
        with monkeypatch.context() as disk:
            disk.setattr(os, "write", full)
            run.end_batch(run.start_batch(0, 2.0))
            run.flush()
    done, rows = looked_at(runs, key)
    assert done.returncode == 1
    assert "free the cause" in rows["a 1-0", "problem"]
    with Run(runs=runs, run_id="a", resumed=find_resume_point(runs, "a")):
        pass
    done, rows = looked_at(runs, key)
    assert done.returncode == 0, rows
    assert "a later attempt went on" in rows["a 1-0", "note"]
