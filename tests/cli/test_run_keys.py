"""Commands on a run of another machine: which key they trust, their note or error, and their exit status."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ockham.record.tlog.note import load_or_create_signer
from ockham.run import Run
from tests.fault_injection.checkpoint_writer import FACTS, pack
from tests.helpers import forked_cli
from tests.helpers.runs import make_run

NOTE = "only the run itself names the key that signs it: {key}; check it with `ockham verify a --key KEY`"
REFUSED = (
    "ockham: no known key has signed run a; it names the key '{key}'; if you trust it, pass it with --key"
)
PAGE = Path(__file__).parents[2] / "docs/verification.md"


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """Folder with the run `a`, its key, and a variable that selects another key."""
    folder = tmp_path_factory.mktemp("foreign")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OCKHAM_KEY_DIR", str(folder / "theirs"))
        with Run("balanced", runs=folder / "runs", run_id="a", facts=FACTS) as run:
            ctx = run.end_batch(run.start_batch(0, 3.0, learning_rate=1e-3), grad_norm=0.5)
            run.save_checkpoint(ctx, "resume", pack)
        key = str(load_or_create_signer().verifier)
    load_or_create_signer(folder / "mine")
    (folder / "new.txt").write_text("text")
    return folder, key, {**os.environ, "OCKHAM_KEY_DIR": str(folder / "mine")}


def stderr_lines(foreign, *words, status):
    folder, _, env = foreign
    done = forked_cli.ockham(folder / "runs", *words, cwd=folder, env=env)
    assert done.returncode == status, done.stderr
    return done.stderr.splitlines()


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["replay", "a"], 0),
        # The files are not those of a trainer. The note is the first line.
        (["sample", "a"], 2),
        (["weights", "a", "-o", "out"], 2),
        (["adapt", "--from", "a", "--data", "new.txt"], 2),
    ],
    ids=str,
)
def test_command_without_a_key_option_notes_the_key_of_the_run_first(foreign, words, status):
    """The sentence is the same, and does not change the exit status."""
    pytest.importorskip("torch")
    assert stderr_lines(foreign, *words, status=status)[0] == NOTE.format(key=foreign[1])


@pytest.mark.parametrize("command", ["train", "adapt"])
def test_resume_refuses_a_run_that_no_known_key_has_signed(foreign, command):
    """The message names the option that accepts it, and the status is 3."""
    pytest.importorskip("torch")
    lines = stderr_lines(foreign, command, "--resume", "--run", "a", status=3)
    assert lines[0] == REFUSED.format(key=foreign[1])


def test_verified_query_notes_the_keys_of_the_runs(foreign):
    """With a trusted key there is no note."""
    words = ["query", "select 1", "--verified"]
    note = "only each run itself names the key that signs it; pass a trusted key with --key"
    assert stderr_lines(foreign, *words, status=0) == [note]
    assert stderr_lines(foreign, *words, "--key", foreign[1], status=0) == []


def test_own_run_has_no_note(tmp_path):
    """Its key is the one of this machine."""
    make_run(tmp_path / "runs", "a", batches=2)
    assert forked_cli.ockham(tmp_path / "runs", "replay", "a", cwd=tmp_path).stderr == ""


def test_sentences_are_documented():
    """The page has the words of each note and error, without their values."""
    page = " ".join(PAGE.read_text(encoding="utf-8").split())
    for text in (
        NOTE.partition(":")[0],
        "no known key has signed run",
        "checked with the key of this machine",
    ):
        assert text in page
