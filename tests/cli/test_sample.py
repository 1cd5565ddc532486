"""`ockham sample` and `ockham weights` on a run of `ockham train`."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from ockham.cli import build_app
from ockham.errors import BadInputError, CheckpointError, OckhamError
from ockham.record.run_folder import RunFolder
from tests.helpers.events import events
from tests.helpers.tiny_trainer import TINY, text


def run(folder, *words):
    return CliRunner().invoke(build_app(), ["--runs", str(folder / "runs"), *map(str, words)])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Forty iterations with a memory that accepts, and with resumable checkpoints."""
    folder = tmp_path_factory.mktemp("trained")
    sets = [w for s in (*TINY, "device=cpu", "memory.quality_fraction=2.0") for w in ("--set", s)]
    done = run(folder, "train", "--data", text(folder), "--run", "a", *sets)
    assert done.exit_code == 0, done.output
    return folder


def accepted(folder):
    checkpoints = [
        e["data"]
        for e in events(RunFolder(folder / "runs", "a"))
        if e["type"] == "ockham.checkpoint.saved.v1"
    ]
    return [data for data in checkpoints if data["kind"] == "accepted"]


def test_sample_uses_the_newest_accepted_checkpoint(trained):
    """Text on stdout; checkpoint, accepting decision and loss on stderr."""
    newest = accepted(trained)[-1]
    done = run(trained, "sample", "a", "--tokens", 30, "--prompt", "word", "--device", "cpu")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("word")
    assert len(done.stdout.encode("utf-8", "replace")) >= 30
    for text_part in (
        newest["snapshot_id"],
        newest["decision_id"],
        "ACCEPTED_",
        "validation loss",
        newest["weights_sha256"][:16],
    ):
        assert text_part in done.stderr
    again = run(trained, "sample", "a", "--tokens", 30, "--prompt", "word", "--device", "cpu")
    assert again.stdout == done.stdout


def test_sample_accepts_a_unique_checkpoint_prefix(trained):
    """A checkpoint that was not accepted works too; an ambiguous or unknown ID raises."""
    done = run(trained, "sample", "a", "--checkpoint", "resume-00000039", "--tokens", 3)
    assert "not accepted by a decision" in done.stderr
    assert "more than one checkpoint" in str(run(trained, "sample", "a", "--checkpoint", "re").exception)
    assert "has no signed checkpoint" in str(run(trained, "sample", "a", "--checkpoint", "x").exception)
    pruned = run(trained, "sample", "a", "--checkpoint", "resume-00000007").exception
    assert isinstance(pruned, CheckpointError)
    assert "deleted" in str(pruned)
    assert isinstance(run(trained, "sample", "a", "--prompt", "").exception, BadInputError)


def test_sample_refuses_weights_that_differ_from_the_log(trained):
    """One changed byte raises, and no text is written."""
    newest = accepted(trained)[0]["snapshot_id"]
    path = trained / "runs" / "a" / "checkpoints" / newest / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    done = run(trained, "sample", "a", "--checkpoint", newest)
    path.write_bytes(whole)
    assert isinstance(done.exception, CheckpointError)
    assert "differs from the log" in str(done.exception)
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read"),
        (b"[]", "holds no JSON object"),
        (None, "differs from the signed digest"),
    ],
)
def test_sample_refuses_a_run_json_that_differs_from_the_log(trained, content, message):
    """It names the tokenizer, so that another file could give the text another meaning."""
    path = trained / "runs" / "a" / "run.json"
    before = path.read_bytes()
    path.write_bytes(before.replace(b'"seed": ', b'"seed": 1') if content is None else content)
    try:
        error = run(trained, "sample", "a", "--tokens", 3).exception
    finally:
        path.write_bytes(before)
    assert isinstance(error, OckhamError)
    assert message in str(error)


def test_sample_writes_the_text_of_character_data(tmp_path):
    """stoi and itos of nanoGPT's meta.pkl encode the prompt and decode the tokens."""
    source = text(tmp_path).read_text()
    characters = sorted({*source, "\n"})
    stoi = {character: number for number, character in enumerate(characters)}
    meta = {"vocab_size": len(stoi), "itos": dict(enumerate(characters)), "stoi": stoi}
    (tmp_path / "chars").mkdir()
    (tmp_path / "chars" / "meta.pkl").write_bytes(pickle.dumps(meta))
    for name in ("train.bin", "val.bin"):
        np.array([stoi[character] for character in source], "<u2").tofile(tmp_path / "chars" / name)
    sets = [w for s in (*TINY, "device=cpu", "max_iters=5") for w in ("--set", s)]
    trained = run(tmp_path, "train", "--data", tmp_path / "chars", "--run", "c", *sets)
    assert trained.exit_code == 0, trained.output
    asked = ["sample", "c", "--checkpoint", "resume-00000004", "--tokens", 30]
    done = run(tmp_path, *asked, "--prompt", "word7")
    assert done.exit_code == 0, done.output
    assert len(done.stdout) == len("word7") + 30 + 1
    assert set(done.stdout) <= set(characters)
    assert "no token in" in str(run(tmp_path, *asked, "--prompt", "WORD").exception)


def test_weights_writes_a_new_hugging_face_folder(trained):
    """The folder contains the accepted weights; an existing folder raises."""
    done = run(trained, "weights", "a", "-o", trained / "hf")
    assert done.exit_code == 0, done.output
    newest = accepted(trained)[-1]["snapshot_id"]
    ours = load_file(trained / "runs" / "a" / "checkpoints" / newest / "model.safetensors")
    theirs = load_file(trained / "hf" / "model.safetensors")
    assert torch.equal(theirs["transformer.wte.weight"], ours["wte.weight"])
    assert torch.equal(theirs["transformer.h.0.mlp.c_fc.weight"], ours["h.0.mlp.c_fc.weight"].t())
    assert isinstance(run(trained, "weights", "a", "-o", trained / "hf").exception, BadInputError)


def test_lineage_confirms_an_export_of_weights(trained):
    """The file keeps the run's metadata, and equals a new export of the signed checkpoint."""
    folder = trained / "exported"
    assert run(trained, "weights", "a", "-o", folder).exit_code == 0
    done = run(trained, "lineage", folder / "model.safetensors")
    assert done.exit_code == 0, done.output
    assert accepted(trained)[-1]["snapshot_id"] in done.stdout
    assert "is an export of it" in done.stdout
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(data)
    changed = run(trained, "lineage", folder / "model.safetensors")
    assert changed.exit_code == 1
    assert "differs from an export of its checkpoint" in changed.stdout


def test_lineage_of_a_foreign_file_says_so(trained, tmp_path):
    """Weights of another program have no run."""
    save_file({"w": torch.zeros(1)}, tmp_path / "foreign.safetensors", metadata={"format": "pt"})
    done = run(trained, "lineage", tmp_path / "foreign.safetensors")
    assert isinstance(done.exception, BadInputError)
    assert "foreign file, not written by a run of Ockham" in str(done.exception)
