"""Trained weights: the parameters that require a gradient, without a frozen base."""

from __future__ import annotations

import json
import warnings

import pytest
import torch
from safetensors.torch import load

from ockham.integrations.trained_weights import TrainedWeights, make_checkpoint_files
from ockham.nano.anchor import AnchorWeights


class Partly(torch.nn.Module):
    """A frozen matrix of bytes, and a trained one."""

    def __init__(self) -> None:
        super().__init__()
        self.base = torch.nn.Parameter(torch.zeros(1000, 4, dtype=torch.uint8), requires_grad=False)
        self.adapter = torch.nn.Parameter(torch.ones(2, 2))


def test_frozen_weights_are_neither_copied_nor_saved():
    """Drift is relative to the trained weights, and a checkpoint contains their names in the model."""
    model = Partly()
    weights = TrainedWeights(model)
    assert weights.has_matrix
    anchor = AnchorWeights(weights, 0)
    with torch.no_grad():
        model.adapter.mul_(1.5)
    assert abs(anchor.measure().after - 0.5) < 1e-6
    files = make_checkpoint_files(model, weights, {"iter_num": 3}).files
    assert list(files) == ["model.safetensors"]
    assert list(load(files["model.safetensors"])) == ["adapter"]


def test_drift_needs_a_trained_matrix():
    """Vectors, such as biases and gains, are not compared, and neither is a frozen matrix."""
    model = torch.nn.Linear(3, 2)
    assert TrainedWeights(model).has_matrix
    model.weight.requires_grad_(requires_grad=False)
    assert not TrainedWeights(model).has_matrix


def test_saved_adapter_is_one_for_inference():
    """The configuration of an adapter in training has the other value. PEFT freezes an adapter by it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peft = pytest.importorskip("peft", reason="peft is not installed")
        plain = torch.nn.Sequential(torch.nn.Linear(4, 4))
        model = peft.get_peft_model(plain, peft.LoraConfig(r=2, target_modules=["0"]))
    assert model.peft_config["default"].inference_mode is False
    files = make_checkpoint_files(model, TrainedWeights(model), {"iter_num": 3}).files
    config = json.loads(files["adapter_config.json"])
    assert (config["inference_mode"], config["r"], config["target_modules"]) == (True, 2, ["0"])
