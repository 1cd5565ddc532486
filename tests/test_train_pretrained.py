"""train.py from pretrained weights: their digest is recorded, and a resume does not need their folder."""

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
from tests.helpers.train_command import run_train, select_data


@pytest.fixture
def folder(tmp_path):
    """Folder with weights in the format of Hugging Face, for the model that the tests train."""
    trainer_settings = settings("bias=true", "gelu=tanh")
    model = GPT(vocab_size=256, block_size=8, n_layer=1, n_head=2, n_embd=16, bias=True)
    (tmp_path / "gpt2").mkdir()
    for name, data in export_hf_files(weights(model), asdict(trainer_settings), 256).items():
        (tmp_path / "gpt2" / name).write_bytes(data)
    return tmp_path


def test_train_records_and_resumes_pretrained_weights(folder):
    """The digest is recorded in both attempts."""
    model = GPT(**read_hf_config(folder / "gpt2"))
    digest = load_pretrained(model, folder / "gpt2")
    options = ("--run", "tuned", "--set", "max_iters=6", "--set", "checkpoint_every=2")
    process = run_train(folder, *options, "--init-from", str(folder / "gpt2"))
    assert process.returncode == 0, process.stderr
    run = RunFolder(folder / "runs", "tuned")
    recorded = select_data("run.started", events(run))[0]["settings"]
    assert recorded["init_from"] == str(folder / "gpt2")
    assert recorded["init_sha256"] == digest
    early = load_file(run.checkpoints / "resume-00000003" / "model.safetensors")["wte.weight"]
    # These are four small steps.
    assert 0 < (early - model.wte.weight).abs().max() < 0.01
    shutil.rmtree(folder / "gpt2")
    resumed = run_train(folder, "--run", "tuned", "--resume", "--set", "max_iters=8")
    assert resumed.returncode == 0, resumed.stderr
    assert select_data("run.resumed", events(run, 2))[0]["settings"]["init_sha256"] == digest


def test_unusable_weights_folder_exits_2_without_a_run(folder):
    """The error is one line."""
    (folder / "gpt2" / "model.safetensors").rename(folder / "gpt2" / "pytorch_model.bin")
    process = run_train(folder, "--run", "none", "--init-from", str(folder / "gpt2"))
    assert process.returncode == 2
    assert "is a pickle and is not read" in process.stderr
    assert process.stderr.count("\n") == 1
    assert not (folder / "runs" / "none").exists()
