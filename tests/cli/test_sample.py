"""`ockham sample` and `ockham weights` on a run that `ockham train` made."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from ockham.cli import build_app
from ockham.errors import BadInputError, CheckpointError
from ockham.record.run_folder import RunFolder
from tests.helpers.events import events
from tests.helpers.tiny_trainer import TINY, text


def run(folder, *words):
    return CliRunner().invoke(build_app(), ["--runs", str(folder / "runs"), *map(str, words)])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Forty iterations under a memory that accepts, and keeps resumable checkpoints too."""
    folder = tmp_path_factory.mktemp("trained")
    sets = [w for s in (*TINY, "device=cpu", "memory.quality_fraction=2.0") for w in ("--set", s)]
    done = run(folder, "train", "--data", text(folder), "--run", "a", *sets)
    assert done.exit_code == 0, done.output
    return folder


def accepted(folder):
    saved = [
        e["data"]
        for e in events(RunFolder(folder / "runs", "a"))
        if e["type"] == "ockham.checkpoint.saved.v1"
    ]
    return [data for data in saved if data["kind"] == "accepted"]


def test_the_newest_accepted_one_is_taken(trained):
    """Text on stdout, and on stderr which checkpoint, the decision that accepted it, and its loss."""
    newest = accepted(trained)[-1]
    done = run(trained, "sample", "a", "--tokens", 30, "--prompt", "word", "--device", "cpu")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("word")
    assert len(done.stdout.encode("utf-8", "replace")) >= 30
    for told in (
        newest["snapshot_id"],
        newest["decision_id"],
        "ACCEPTED_",
        "validation loss",
        newest["weights_sha256"][:16],
    ):
        assert told in done.stderr
    again = run(trained, "sample", "a", "--tokens", 30, "--prompt", "word", "--device", "cpu")
    assert again.stdout == done.stdout


def test_another_checkpoint_by_its_beginning(trained):
    """Also one that nobody accepted; an unclear or unknown ID is refused."""
    done = run(trained, "sample", "a", "--checkpoint", "resume-00000039", "--tokens", 3)
    assert "no decision accepted it" in done.stderr
    assert "more than one checkpoint" in str(run(trained, "sample", "a", "--checkpoint", "re").exception)
    assert "has no checkpoint" in str(run(trained, "sample", "a", "--checkpoint", "x").exception)
    pruned = run(trained, "sample", "a", "--checkpoint", "resume-00000007").exception
    assert isinstance(pruned, CheckpointError)
    assert "deleted" in str(pruned)
    assert isinstance(run(trained, "sample", "a", "--prompt", "").exception, BadInputError)


def test_weights_that_are_not_the_logged_ones_are_refused(trained):
    """One byte of the file, and no text is written."""
    newest = accepted(trained)[0]["snapshot_id"]
    path = trained / "runs" / "a" / "checkpoints" / newest / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    done = run(trained, "sample", "a", "--checkpoint", newest)
    path.write_bytes(whole)
    assert isinstance(done.exception, CheckpointError)
    assert "not what the log names" in str(done.exception)
    assert done.stdout == ""


def test_weights_for_others(trained):
    """A new folder of Hugging Face's kind with the accepted weights; an old one is not written into."""
    done = run(trained, "weights", "a", "--to", trained / "hf")
    assert done.exit_code == 0, done.output
    newest = accepted(trained)[-1]["snapshot_id"]
    ours = load_file(trained / "runs" / "a" / "checkpoints" / newest / "model.safetensors")
    theirs = load_file(trained / "hf" / "model.safetensors")
    assert torch.equal(theirs["transformer.wte.weight"], ours["wte.weight"])
    assert torch.equal(theirs["transformer.h.0.mlp.c_fc.weight"], ours["h.0.mlp.c_fc.weight"].t())
    assert isinstance(run(trained, "weights", "a", "--to", trained / "hf").exception, BadInputError)
