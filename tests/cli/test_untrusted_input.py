"""What a stranger wrote into a run or a record reaches a terminal as text: no escape sequence, no line of its own."""

from __future__ import annotations

import json
import shutil
import sys

import pytest
from typer.testing import CliRunner

from ockham.cli import _run_with_exit_codes, build_app
from ockham.cli.output import write_bytes
from ockham.errors import QueryError
from ockham.record.parquet.builder import update_parquet
from ockham.record.run_folder import PARQUET_TABLES, RunFolder
from tests.helpers.runs import made_run
from tests.odr.record_samples import judgement, put
from tests.record.verify.test_run import edited, rewrite

EVIL = "\x1b[31mEVIL\x1b]0;t\x07\x9b31m\u202e\r\niter 1 gate SKIP"
TOLD = ("why a 3", "tail a", "tail a --where true", "show a", "query 'select * from decisions' -f tsv",
        "query 'select * from decisions' -f json", "query 'select * from decisions' -f jsonl", "ask decisions_by_reason --run a")  # fmt: skip


def unseen(text):
    return sorted({c for c in text if not c.isprintable() and c not in "\n\t"})


def typed(runs, line):
    import shlex

    return CliRunner().invoke(build_app(), ["--runs", str(runs), *shlex.split(line)], color=True)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Each decision has a hostile plugin, action, reason code and field."""
    folder = tmp_path_factory.mktemp("hostile")
    made_run(folder, batches=20)
    run = RunFolder(folder, "a")
    changed = [{"field": EVIL, "before": 1, "after": 2}]

    def change(found):
        odd = {"plugin": EVIL, "action": EVIL, "reason_code": EVIL, "changes": changed}
        return [edited(line, **odd) if b'"ockham.decision.made.v1"' in line else line for line in found]

    rewrite(run, change)
    for kind in PARQUET_TABLES:
        shutil.rmtree(run.path / kind)
    update_parquet(run, 1, 0, last=True)
    return folder


@pytest.mark.parametrize("line", TOLD)
def test_nothing_of_a_run_moves_the_cursor(runs, line):
    """Nor does it begin a line that looks like ours; JSON still holds what was written."""
    done = typed(runs, line)
    assert done.exit_code == 0, done.output
    assert unseen(done.output) == []
    assert "iter 1 gate SKIP" not in {row.strip() for row in done.output.splitlines()}
    if line.endswith("json"):
        assert json.loads(done.stdout)[0]["plugin"] == EVIL


def test_nothing_of_an_error_does(capsys):
    """Errors hold what DuckDB, a server or a line said."""

    def failing():
        raise QueryError(f"told {EVIL}")

    with pytest.raises(SystemExit):
        _run_with_exit_codes(failing)
    assert unseen(capsys.readouterr().err) == []


@pytest.mark.parametrize(
    "words", ["check", "check -f json", "lint -f sarif", "list", "show 1", "graph", "graph -f dot"]
)
def test_nothing_of_a_record_does(tmp_path, words):
    """Its title comes from YAML, which has escapes of its own; its text may hold the characters themselves."""
    text = judgement(1, "draft").replace("title: Keep it", f"title: {json.dumps(EVIL)}").replace("P.", EVIL)
    put(tmp_path / "odr", text)
    done = typed(tmp_path, f"odr {words} --dir {tmp_path / 'odr'}")
    assert "EVIL" in done.output or words.startswith("lint")
    assert unseen(done.output) == []


def test_nothing_of_a_tree_head_does(tmp_path, capsysbinary, monkeypatch):
    """A pin is whatever lies there, until somebody checks it; in a pipe it is the very bytes."""
    made_run(tmp_path, batches=3)
    head = RunFolder(tmp_path, "a").log_dir(1, 0) / "checkpoint"
    head.write_bytes(head.read_bytes() + EVIL.encode() + b"\xff")
    write_bytes(head.read_bytes())
    assert capsysbinary.readouterr().out == head.read_bytes()
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    write_bytes(head.read_bytes())
    assert unseen(capsysbinary.readouterr().out.decode()) == []
