"""Lookup of a checkpoint in the signed lines of a run."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from ockham.cli import build_app
from ockham.cli.checkpoint_lookup import find_checkpoint
from ockham.errors import CheckpointError
from ockham.record.checkpoints import CheckpointFiles
from tests.helpers.log_edits import change_event, sign_log
from tests.helpers.runs import make_run

OTHER_ID = "00000000-0000-7000-8000-000000000000"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run with an accepted checkpoint."""
    monkeypatch.setattr("tests.helpers.runs.pack", lambda *_: CheckpointFiles({"w.bin": b"w"}, "ab" * 32))
    return make_run(tmp_path)


def test_accepted_checkpoint_has_the_reason_of_its_decision(run, tmp_path):
    """The decision is a signed line too."""
    found = find_checkpoint(tmp_path, "a")
    assert found.kind == "accepted"
    assert f"accepted by decision {found.decision_id} because ACCEPTED_" in found.describe()


def test_checkpoint_of_a_decision_that_is_not_signed_is_an_error(run, tmp_path):
    """A key holder signs a checkpoint that names a decision that the log does not have."""
    found = find_checkpoint(tmp_path, "a")
    count = run.folder.segments(1, 0)[0].read_bytes().count(b"ockham.checkpoint.saved.v1")
    for nth in range(count):
        change_event(run.folder, "checkpoint.saved", lambda data: data.update(decision_id=OTHER_ID), nth)
    sign_log(run.folder)
    message = f"no signed decision has the ID {OTHER_ID}, which the checkpoint names"
    with pytest.raises(CheckpointError, match=f"^{message}$"):
        find_checkpoint(tmp_path, "a", found.snapshot_id)
    result = CliRunner().invoke(build_app(), ["--runs", str(tmp_path), "sample", "a", "--device", "cpu"])
    assert result.exit_code
    assert message in f"{result.stderr}{result.exception}"
