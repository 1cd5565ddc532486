"""Untrusted text in runs, records and errors: no escape sequences and no extra lines on a terminal."""

from __future__ import annotations

import json
import shlex
import shutil
import sys

import pytest
from typer.testing import CliRunner

from ockham.cli import _run_with_exit_codes, build_app
from ockham.cli.output import write_bytes
from ockham.errors import QueryError
from ockham.record.parquet.builder import update_parquet
from ockham.record.run_folder import PARQUET_TABLES, RunFolder
from tests.helpers.log_edits import replace_data, rewrite_lines
from tests.helpers.runs import make_run
from tests.odr.record_samples import judgement, put

EVIL = "\x1b[31mEVIL\x1b]0;t\x07\x9b31m\u202e\r\niter 1 gate SKIP"
LINES = (
    "why a 3",
    "tail a",
    "tail a --where true",
    "show a",
    "query 'select * from decisions' -f tsv",
    "query 'select * from decisions' -f json",
    "query 'select * from decisions' -f jsonl",
    "ask decisions_by_reason --run a",
)


def control_characters(text):
    return sorted(
        {character for character in text if not character.isprintable() and character not in "\n\t"}
    )


def invoke(runs, line):
    return CliRunner().invoke(build_app(), ["--runs", str(runs), *shlex.split(line)], color=True)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run whose decisions have hostile plugin, action, reason code and field names."""
    folder = tmp_path_factory.mktemp("hostile")
    make_run(folder, batches=20)
    run = RunFolder(folder, "a")
    changed = [{"field": EVIL, "before": 1, "after": 2}]

    def change(lines):
        fields = {"plugin": EVIL, "action": EVIL, "reason_code": EVIL, "changes": changed}
        return [
            replace_data(line, **fields) if b'"ockham.decision.made.v1"' in line else line for line in lines
        ]

    rewrite_lines(run, change)
    for kind in PARQUET_TABLES:
        shutil.rmtree(run.path / kind)
    update_parquet(run, 1, 0, last=True)
    return folder


@pytest.mark.parametrize("line", LINES)
def test_readers_escape_control_characters_of_a_run(runs, line):
    """No output line imitates a line of `tail`. JSON keeps the text."""
    done = invoke(runs, line)
    assert done.exit_code == 0, done.output
    assert control_characters(done.output) == []
    assert "iter 1 gate SKIP" not in {row.strip() for row in done.output.splitlines()}
    if line.endswith("json"):
        assert json.loads(done.stdout)[0]["plugin"] == EVIL


def test_errors_escape_control_characters(capsys):
    """Errors may contain messages of DuckDB or of a server."""

    def failing():
        raise QueryError(f"error {EVIL}")

    with pytest.raises(SystemExit):
        _run_with_exit_codes(failing)
    assert control_characters(capsys.readouterr().err) == []


@pytest.mark.parametrize(
    "words", ["check", "check -f json", "lint -f sarif", "list", "show 1", "graph", "graph -f dot"]
)
def test_odr_commands_escape_control_characters_of_records(tmp_path, words):
    """A YAML title has escapes of its own, and the text may contain raw characters."""
    text = judgement(1, "draft").replace("title: Keep it", f"title: {json.dumps(EVIL)}").replace("P.", EVIL)
    put(tmp_path / "odr", text)
    done = invoke(tmp_path, f"odr {words} --odr-dir {tmp_path / 'odr'}")
    assert "EVIL" in done.output or words.startswith("lint")
    assert control_characters(done.output) == []


def test_write_bytes_escapes_control_characters_on_a_terminal_only(tmp_path, capsysbinary, monkeypatch):
    """A tree head is untrusted until it is checked; a pipe gets the exact bytes."""
    make_run(tmp_path, batches=3)
    head = RunFolder(tmp_path, "a").log_dir(1, 0) / "checkpoint"
    head.write_bytes(head.read_bytes() + EVIL.encode() + b"\xff")
    write_bytes(head.read_bytes())
    assert capsysbinary.readouterr().out == head.read_bytes()
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    write_bytes(head.read_bytes())
    assert control_characters(capsysbinary.readouterr().out.decode()) == []
