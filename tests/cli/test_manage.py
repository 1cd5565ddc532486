"""`ockham tag`, `archive`, `rename` and `rm`, and the filters of `runs`."""

from __future__ import annotations

import json
import subprocess

import pytest
from typer.testing import CliRunner

from ockham.cli import build_app
from ockham.errors import BadInputError
from ockham.record.ledger import append_entry
from ockham.record.run_folder import RunFolder, list_runs
from tests.helpers.runs import make_run


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for run_id, policy in (("a", "balanced"), ("b", "tight"), ("night-1", "balanced")):
        make_run(tmp_path / "runs", run_id, batches=3, policy=policy)
    return tmp_path / "runs"


def call(runs, *words):
    return CliRunner().invoke(build_app(), ["--runs", str(runs), *words])


def listed(runs, *words):
    done = call(runs, "runs", "-f", "json", *words)
    assert done.exit_code == 0, done.output
    return [row["run_id"] for row in json.loads(done.stdout)]


def test_filters_select_runs_that_meet_all_of_them(runs):
    """Tags, state, policy, pattern, date and archive."""
    assert call(runs, "tag", "a", "x", "y").exit_code == 0
    assert call(runs, "tag", "b", "x").exit_code == 0
    assert call(runs, "rename", "night-1", "best").exit_code == 0
    assert listed(runs) == ["a", "b", "night-1"]
    assert listed(runs, "--tag", "x") == ["a", "b"]
    assert listed(runs, "--tag", "x", "--tag", "y") == ["a"]
    assert listed(runs, "--policy", "balanced") == ["a", "night-1"]
    assert listed(runs, "--policy", "balanced", "--tag", "x") == ["a"]
    assert listed(runs, "--state", "completed") == ["a", "b", "night-1"]
    assert listed(runs, "--state", "UNFINISHED") == []
    assert listed(runs, "--match", "n*") == listed(runs, "--match", "be?t") == ["night-1"]
    assert listed(runs, "--since", "2000-01-01") == ["a", "b", "night-1"]
    assert listed(runs, "--since", "2999-01-01") == []
    assert call(runs, "archive", "a").exit_code == 0
    assert listed(runs) == ["b", "night-1"]
    assert listed(runs, "--archived") == ["a", "b", "night-1"]
    assert call(runs, "archive", "a", "--undo").exit_code == 0
    assert listed(runs) == ["a", "b", "night-1"]
    assert isinstance(call(runs, "runs", "--since", "yesterday").exception, BadInputError)


def test_hidden_runs_are_counted_in_a_note(runs):
    """A filter that is too strict is seen at once."""
    done = call(runs, "runs", "--tag", "none")
    assert "3 runs left out by filters" in done.stderr


def test_name_of_a_run_is_accepted_by_other_commands(runs):
    """The ID stays. The name can be removed."""
    assert call(runs, "rename", "a", "best").exit_code == 0
    for words in (("show", "best"), ("verify", "best"), ("why", "best", "1"), ("tag", "best", "x")):
        done = call(runs, *words)
        assert done.exit_code == 0, (words, done.output, done.exception)
    assert "x" in call(runs, "runs", "--match", "best").stdout
    assert call(runs, "rename", "a", "").exit_code == 0
    assert call(runs, "verify", "best").exit_code != 0


def test_removed_run_is_gone_and_its_tombstone_is_in_the_ledger(runs):
    """A name or a prefix is not accepted, so that no other run is removed by mistake."""
    assert isinstance(call(runs, "rm", "night").exception, BadInputError)
    done = call(runs, "rm", "night-1", "--reason", "wrong data", "--by", "alice")
    assert done.exit_code == 0, done.output
    assert "tombstone" in done.stderr
    assert list_runs(runs) == ["a", "b"]
    assert call(runs, "verify", "_ledger").exit_code == 0


def test_run_with_references_is_removed_only_by_force(runs, tmp_path):
    """A record, a git tag, an attestation and another run are named in the refusal."""
    (tmp_path / "odr").mkdir()
    record = (
        "---\nodr: 1\nid: ODR-0001\nstatus: draft\nevidence:\n  candidate: {run: a}\n---\n# ODR-0001: x\n"
    )
    (tmp_path / "odr" / "0001-x.md").write_text(record)
    append_entry(
        runs,
        "replay.attested",
        {"run_id": "a", "attempt_size": [], "decisions": 1, "identical": 1, "code_sha256": {}},
    )
    git = ["git", "-c", "user.name=n", "-c", "user.email=e@example.org"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-qm", "x", "--allow-empty"], check=True)
    subprocess.run([*git, "tag", "-a", "p1", "-m", "ockham/runs/a/1-0\n3\nroot"], check=True)
    adapted = RunFolder(runs, "b")
    metadata = json.loads(adapted.run_json.read_bytes())
    adapted.run_json.write_text(json.dumps({**metadata, "settings": {"from_run": "a"}}))
    message = str(call(runs, "rm", "a").exception)
    for part in ("ODR-0001 cites it", "git tag p1", "replay.attested", "run b continues", "--force"):
        assert part in message
    assert list_runs(runs) == ["a", "b", "night-1"]
    assert call(runs, "rm", "night-1").exit_code == 0
    assert call(runs, "rm", "a", "--force").exit_code == 0
    assert list_runs(runs) == ["b"]
