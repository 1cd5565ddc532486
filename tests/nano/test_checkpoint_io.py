"""Checkpoints: what is packed comes back, and what does not fit is refused by name."""

from __future__ import annotations

import json

import pytest
import safetensors.numpy
import torch

from ockham.errors import CheckpointError
from ockham.nano.checkpoint_io import read_metadata, serialize_model, weights_digest
from ockham.record.checkpoints import write_checkpoint
from tests.helpers.tiny_trainer import same, trainer, weights
from tests.nano.test_trainer import batch


def saved(t, folder):
    packed = t.make_checkpoint_files({"run_id": "a", "log_size": 7}, {"iter_num": 3})
    write_checkpoint(folder, packed.files)
    return packed, json.loads((folder / "state.json").read_bytes())


def test_a_restored_trainer_goes_on_bit_for_bit(tmp_path):
    """Weights, moments, anchor, dropout's generator and the step counter: the next steps are the same."""
    one = trainer(tmp_path, "dropout=0.2", pull="decoupled", required_measurements={"kl_to_anchor": 1})
    for i in range(3):
        batch(one, i)
    one.move_anchor(2)
    batch(one, 3)
    _, state = saved(one, tmp_path / "c")
    later = [batch(one, i, lambda_ockham=1.0)[1] for i in range(4, 8)]
    other = trainer(tmp_path, "dropout=0.2", pull="decoupled", required_measurements={"kl_to_anchor": 1})
    other.restore(tmp_path / "c", state)
    assert [batch(other, i, lambda_ockham=1.0)[1] for i in range(4, 8)] == later
    assert same(weights(one.model), weights(other.model))


def test_metadata_names_the_log(tmp_path):
    """Which decisions made these weights stands in the file, readable by anyone."""
    t = trainer(tmp_path)
    saved(t, tmp_path / "c")
    assert read_metadata(tmp_path / "c" / "model.safetensors")["log_size"] == 7


def test_the_weights_digest_is_of_the_weights_alone(tmp_path):
    """Other metadata, same digest; one bit of one weight, another digest."""
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


def test_another_shape_is_refused_by_name(tmp_path):
    """A checkpoint of another width names file, tensor and both shapes, and the model stays as it was."""
    _, state = saved(trainer(tmp_path), tmp_path / "c")
    wide = trainer(tmp_path, "n_embd=32")
    before = weights(wide.model)
    with pytest.raises(
        CheckpointError, match=r"model\.safetensors: 'wte\.weight' is \(256, 16\) .* and \(256, 32\)"
    ):
        wide.restore(tmp_path / "c", state)
    assert same(before, weights(wide.model))


def test_a_torn_file_is_refused(tmp_path):
    """Half a safetensors file is one clear line."""
    t = trainer(tmp_path)
    _, state = saved(t, tmp_path / "c")
    path = tmp_path / "c" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="no readable safetensors file"):
        t.restore(tmp_path / "c", state)
