"""train.py from existing weights: they are recorded with their digest, and a resume needs their folder no more."""

from __future__ import annotations

import shutil
from dataclasses import asdict

import pytest
from safetensors.torch import load_file

from ockham.nano import GPT
from ockham.nano.hf_config import read_hf_config
from ockham.nano.pretrained import export_hf_files, load_pretrained
from ockham.record.run_folder import RunFolder
from tests.helpers.events import events
from tests.helpers.tiny_trainer import settings, weights
from tests.test_train import of, train


@pytest.fixture
def folder(tmp_path):
    """Weights as Hugging Face keeps them, of a model of the shape that the tests train."""
    chosen = settings("bias=true", "gelu=tanh")
    model = GPT(vocab_size=256, block_size=8, n_layer=1, n_head=2, n_embd=16, bias=True)
    (tmp_path / "gpt2").mkdir()
    for name, data in export_hf_files(weights(model), asdict(chosen), 256).items():
        (tmp_path / "gpt2" / name).write_bytes(data)
    return tmp_path


def test_a_run_from_existing_weights(folder):
    """The chain is around it from the first batch; the digest is in the record, and goes on into the next attempt."""
    model = GPT(**read_hf_config(folder / "gpt2"))
    digest = load_pretrained(model, folder / "gpt2")
    words = ("--run", "tuned", "--set", "max_iters=6", "--set", "checkpoint_every=2")
    done = train(folder, *words, "--init-from", str(folder / "gpt2"))
    assert done.returncode == 0, done.stderr
    run = RunFolder(folder / "runs", "tuned")
    told = of("run.started", events(run))[0]["settings"]
    assert (told["init_from"], told["init_sha256"]) == (str(folder / "gpt2"), digest)
    early = load_file(run.checkpoints / "resume-00000003" / "model.safetensors")["wte.weight"]
    assert 0 < (early - model.wte.weight).abs().max() < 0.01  # four small steps away
    shutil.rmtree(folder / "gpt2")
    more = train(folder, "--run", "tuned", "--resume", "--set", "max_iters=8")
    assert more.returncode == 0, more.stderr
    assert of("run.resumed", events(run, 2))[0]["settings"]["init_sha256"] == digest


def test_a_folder_that_cannot_be_used(folder):
    """One line, status 2, and no run folder."""
    (folder / "gpt2" / "model.safetensors").rename(folder / "gpt2" / "pytorch_model.bin")
    done = train(folder, "--run", "none", "--init-from", str(folder / "gpt2"))
    assert done.returncode == 2
    assert "is a pickle and is not read" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (folder / "runs" / "none").exists()
