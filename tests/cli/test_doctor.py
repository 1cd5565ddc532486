"""`ockham doctor`: environment and log checks."""

from __future__ import annotations

import json
import os

import pytest

from ockham.errors import LogHaltedError
from ockham.record.checkpoints import find_resume_point
from ockham.record.run_folder import RunFolder
from ockham.run import Run
from tests.helpers.forked_cli import ockham
from tests.helpers.runs import make_run


@pytest.fixture
def key(tmp_path):
    """Environment with a key folder for this test."""
    return {"OCKHAM_KEY_DIR": str(tmp_path / "keys")}


def run_doctor(runs, env):
    done = ockham(runs, "doctor", "-f", "json", env=env)
    return done, {(row["what"], row["state"]): row["message"] for row in json.loads(done.stdout)}


def test_doctor_of_a_healthy_folder_exits_with_0(tmp_path, key, monkeypatch):
    """Each run has a row."""
    monkeypatch.setenv("OCKHAM_KEY_DIR", key["OCKHAM_KEY_DIR"])
    make_run(tmp_path / "runs", "a", batches=5)
    done, rows = run_doctor(tmp_path / "runs", key)
    assert done.returncode == 0, done.stderr
    assert rows["a", "ok"].startswith("complete and signed")
    assert "check with `ockham verify a`" in rows["a", "ok"]
    assert rows["signing key", "ok"].startswith(key["OCKHAM_KEY_DIR"])
    assert ("ockham", "ok") in rows
    assert any(what == "guard" for what, _ in rows)


def test_doctor_reports_an_unfinished_run_and_a_readable_key(tmp_path, key, monkeypatch):
    """Exit status 1, and each problem has a row."""
    monkeypatch.setenv("OCKHAM_KEY_DIR", key["OCKHAM_KEY_DIR"])
    runs = tmp_path / "runs"
    make_run(runs, "a", batches=5)
    segment = RunFolder(runs, "a").segments(1, 0)[0]
    # The cut leaves an unfinished line, as a kill does.
    segment.write_bytes(segment.read_bytes()[:-40])
    (tmp_path / "keys" / "log.key").chmod(0o644)
    done, rows = run_doctor(runs, key)
    assert done.returncode == 1
    assert done.stderr == "2 problems\n"
    assert "ended without run.finished" in rows["a 1-0", "problem"]
    assert "unfinished line" in rows["a 1-0", "note"] or "not signed" in rows["a 1-0", "note"]
    assert "chmod 600" in rows["signing key", "problem"]


def test_doctor_without_runs_and_key_exits_with_0(tmp_path, key):
    """The state of a new machine."""
    (tmp_path / "runs").mkdir()
    done, rows = run_doctor(tmp_path / "runs", key)
    assert done.returncode == 0, done.stderr
    assert "start one with `ockham train`" in rows["runs", "ok"]
    assert "the first run creates" in rows["signing key", "note"]


def test_doctor_reports_a_halted_log_until_the_run_is_resumed(tmp_path, key, monkeypatch):
    """A problem in the newest attempt, a note in an earlier one."""
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
    done, rows = run_doctor(runs, key)
    assert done.returncode == 1
    assert "remove the cause" in rows["a 1-0", "problem"]
    with Run(runs=runs, run_id="a", resumed=find_resume_point(runs, "a")):
        pass
    done, rows = run_doctor(runs, key)
    assert done.returncode == 0, rows
    assert "a later attempt continued" in rows["a 1-0", "note"]
