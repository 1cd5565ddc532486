"""Each command on runs with one damaged file: one error or a result, never a traceback, and no blocking."""

from __future__ import annotations

import os
import shlex
import shutil

import pytest
from typer.testing import CliRunner

from ockham.cli import build_app
from ockham.errors import OckhamError
from ockham.record.checkpoints import find_resume_point
from ockham.run import Run
from tests.helpers.example_counts import stride
from tests.helpers.runs import make_run

# `make fault-injection` tries all cases, `make test` a part of them.
STEP = stride(263)
pytestmark = pytest.mark.filterwarnings("ignore")
DAMAGES = ("delete", "empty", "half", "flip", "folder", "pipe", "list", "link")
COMMANDS = (
    "runs",
    "show a",
    "show nice",
    "why a 3",
    "why a 25",
    "verify a",
    "verify _ledger",
    "replay a",
    "replay a -f json",
    "replay a --iter 9",
    "whatif a --set gate.target=0.5",
    "query 'select count(*) from decisions'",
    "query --verified 'select count(*) from policies'",
    "ask savings",
    "doctor",
    "tail a -n 3",
    "compare a b",
    "roi a",
    "pin a",
    "sample a --tokens 1",
    "weights a -o weights",
    "export --evidence --run a -o evidence.zip",
    "export -o views.duckdb",
    "repair a",
    "tag a z",
    "archive a --reason x",
    "rm b --reason x",
)


# Cases that were tracebacks or blocked.
KNOWN = (
    ("a/log/1-0/*.jsonl", "half", "replay a"),
    ("a/log/1-0/*.jsonl", "half", "replay a -f json"),
    ("a/policies/*", "pipe", "query --verified 'select count(*) from policies'"),
)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """Two runs, one of them resumed, with a checkpoint and a ledger."""
    folder = tmp_path_factory.mktemp("original")
    make_run(folder, "a", batches=30, data={})
    make_run(folder, "b", batches=20)
    point = find_resume_point(folder, "a")
    with Run(runs=folder, run_id="a", resumed=point) as run:
        for i in range(10):
            run.end_batch(run.start_batch(i, 3.0 + i % 3))
    for words in (["tag", "a", "x"], ["rename", "a", "nice"]):
        assert CliRunner().invoke(build_app(), ["--runs", str(folder), *words]).exit_code == 0
    return folder


def damage(path, kind):
    """Replace a file by something else."""
    content = path.read_bytes()
    path.unlink()
    if kind in ("empty", "half"):
        path.write_bytes(content[: len(content) // 2 if kind == "half" else 0])
    elif kind == "flip":
        changed = bytearray(content)
        changed[len(content) // 2 : len(content) // 2 + 1] = b"~" * bool(content)
        path.write_bytes(changed)
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "list":
        path.write_bytes(b"[]\n")
    elif kind == "link":
        path.symlink_to("/etc/hostname")


def list_cases(folder):
    """Return each file with each damage and each command, or a part of them in a fixed order."""
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    cases = [(file, kind, command) for file in files for kind in DAMAGES for command in COMMANDS]
    known = [(next(folder.glob(file)).relative_to(folder), *rest) for file, *rest in KNOWN]
    return [*known, *cases[::STEP]]


def test_command_on_a_damaged_file_ends_without_a_traceback(original, tmp_path, monkeypatch):
    """An error is one of Ockham's own, which are printed as one line. Nothing waits for a pipe."""
    app = build_app()
    failures = []
    for number, (file, kind, command) in enumerate(list_cases(original)):
        work = tmp_path / str(number)
        shutil.copytree(original, work / "runs")
        monkeypatch.chdir(work)
        damage(work / "runs" / file, kind)
        done = CliRunner().invoke(app, ["--runs", str(work / "runs"), *shlex.split(command)])
        if not isinstance(done.exception, (SystemExit, OckhamError, type(None))):
            failures.append((str(file), kind, command, repr(done.exception)))
        shutil.rmtree(work)
    assert failures == []
