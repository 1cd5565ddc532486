"""Checkpoints: a saved state is restored exactly, and unsuitable files are rejected by name."""

from __future__ import annotations

import json

import pytest
import safetensors.numpy
import torch

from ockham.errors import CheckpointError
from ockham.nano.checkpoint_io import read_metadata, serialize_model, weights_digest
from ockham.record.checkpoints import write_checkpoint
from tests.helpers.tiny_trainer import train_step, trainer, weights, weights_equal


def save(t, folder):
    """Write a checkpoint of kind resume. Return its files and its state."""
    packed = t.make_checkpoint_files({"run_id": "a", "log_size": 7}, {"iter_num": 3})
    write_checkpoint(folder, packed.files)
    return packed, json.loads((folder / "state.json").read_bytes())


def test_restored_trainer_continues_bit_for_bit(tmp_path):
    """Weights, moments, anchor, generator of dropout and step counter: the next steps are equal."""
    trainer_a = trainer(tmp_path, "dropout=0.2", pull="decoupled", required_measurements={"kl_to_anchor": 1})
    for i in range(3):
        train_step(trainer_a, i)
    trainer_a.move_anchor(2)
    train_step(trainer_a, 3)
    _, state = save(trainer_a, tmp_path / "c")
    later = [train_step(trainer_a, i, lambda_ockham=1.0)[1] for i in range(4, 8)]
    trainer_b = trainer(tmp_path, "dropout=0.2", pull="decoupled", required_measurements={"kl_to_anchor": 1})
    trainer_b.restore(tmp_path / "c", state)
    assert [train_step(trainer_b, i, lambda_ockham=1.0)[1] for i in range(4, 8)] == later
    assert weights_equal(weights(trainer_a.model), weights(trainer_b.model))


def test_checkpoint_metadata_contains_the_log_size(tmp_path):
    """The file contains the position in the log, so the decisions that led to the weights can be found."""
    t = trainer(tmp_path)
    save(t, tmp_path / "c")
    assert read_metadata(tmp_path / "c" / "model.safetensors")["log_size"] == 7


def test_weights_digest_depends_only_on_the_weights(tmp_path):
    """Other metadata give an equal digest. A change of one weight gives another."""
    t = trainer(tmp_path)
    first, digest = serialize_model(t.model, {"a": 1})
    second, again = serialize_model(t.model, {"a": 2})
    assert digest == again
    assert first != second
    arrays = safetensors.numpy.load(first)
    assert weights_digest({k: torch.from_numpy(v.copy()) for k, v in arrays.items()}) == digest
    with torch.no_grad():
        next(t.model.parameters())[0, 0] += 1e-7
    assert serialize_model(t.model, {})[1] != digest


def test_restore_rejects_weights_of_another_shape_by_name(tmp_path):
    """The message contains file, tensor and both shapes. The model does not change."""
    _, state = save(trainer(tmp_path), tmp_path / "c")
    wide = trainer(tmp_path, "n_embd=32")
    before = weights(wide.model)
    with pytest.raises(
        CheckpointError, match=r"tensor 'wte\.weight' has shape \(256, 16\); the model expects \(256, 32\)"
    ):
        wide.restore(tmp_path / "c", state)
    assert weights_equal(before, weights(wide.model))


def test_restore_rejects_a_truncated_file(tmp_path):
    """Half of a safetensors file gives one clear error."""
    t = trainer(tmp_path)
    _, state = save(t, tmp_path / "c")
    path = tmp_path / "c" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="not a readable safetensors file"):
        t.restore(tmp_path / "c", state)
