"""GPT: shapes, causality, tied weights, initialisation and cost."""

from __future__ import annotations

import math

import pytest
import torch

from ockham.nano import GPT
from ockham.nano.device import peak_tokens_per_second
from ockham.nano.optimizer import make_optimizer


@pytest.fixture
def model():
    torch.manual_seed(0)
    return GPT(vocab_size=50, block_size=16, n_layer=2, n_head=2, n_embd=32)


def test_gpt2_has_the_published_number_of_parameters():
    """124,439,808 with tied weights, biases and GPT-2's vocabulary (Radford et al. 2019)."""
    with torch.device("meta"):
        gpt2 = GPT(vocab_size=50_257, block_size=1024, n_layer=12, n_head=12, n_embd=768, bias=True)
    assert gpt2.num_params() == 124_439_808


def test_logits_do_not_depend_on_later_tokens(model):
    """A change of a later token changes no earlier logits."""
    model.eval()
    tokens = torch.randint(50, (1, 16))
    changed = tokens.clone()
    changed[0, 10:] = (changed[0, 10:] + 1) % 50
    a, b = model(tokens), model(changed)
    assert torch.allclose(a[0, :10], b[0, :10], atol=1e-6)
    assert not torch.allclose(a[0, 10:], b[0, 10:], atol=1e-3)


def test_untrained_model_has_the_loss_of_guessing(model):
    """The loss is ln V within a tenth."""
    x, y = torch.randint(50, (8, 16)), torch.randint(50, (8, 16))
    assert model.loss(x, y).item() == pytest.approx(math.log(50), abs=0.1)
    assert model.example_losses(x, y).mean().item() == pytest.approx(model.loss(x, y).item(), rel=1e-5)


def test_residual_projections_have_smaller_initial_weights(model):
    """The standard deviation is 0.02, and 0.02/sqrt(2 n_layer) for projections into the residual."""
    assert float(model.h[0].mlp.c_fc.weight.detach().std()) == pytest.approx(0.02, rel=0.1)
    assert float(model.h[0].mlp.c_proj.weight.detach().std()) == pytest.approx(0.01, rel=0.1)


def test_weight_decay_applies_only_to_matrices(model):
    """As in nanoGPT, tensors with two or more dimensions decay. Gains and biases do not."""
    optimizer = make_optimizer(model, learning_rate=1e-3, weight_decay=0.1, betas=(0.9, 0.95))
    decayed, others = optimizer.param_groups
    assert decayed["weight_decay"] == 0.1
    assert others["weight_decay"] == 0.0
    assert all(p.dim() >= 2 for p in decayed["params"])
    assert all(p.dim() < 2 for p in others["params"])
    assert sum(p.numel() for g in optimizer.param_groups for p in g["params"]) == model.num_params()


def test_inference_flops_follow_the_formula(model):
    """2 per multiplying parameter and token, and 4 T n_layer n_embd for the two products of attention."""
    matrices = model.num_params() - 16 * 32
    assert model.inference_flops(16) == 16 * (2 * matrices + 4 * 2 * 16 * 32)
    assert model.megabytes() == pytest.approx(model.num_params() * 4 / 1e6)


def test_training_flops_equal_those_of_nanogpt():
    """854.8 MFLOP per token of GPT-2 124M with 50,304 tokens: 6N + 12 L H Q T, N without positions."""
    with torch.device("meta"):
        gpt2 = GPT(vocab_size=50_304, block_size=1024, n_layer=12, n_head=12, n_embd=768)
    assert gpt2.training_flops(1) == pytest.approx(854.8e6, rel=2e-3)


def test_peak_tokens_per_second_depend_on_the_device():
    """An H200 with 989.4 TFLOP/s reaches 1.16 million tokens of GPT-2 124M per second.

    A device that is not in the table has no peak.
    """
    assert peak_tokens_per_second("NVIDIA H200", 854.8e6) == pytest.approx(1_157_000, rel=1e-3)
    assert peak_tokens_per_second("NVIDIA H200", 854.8e6, 2) == 2 * peak_tokens_per_second(
        "NVIDIA H200", 854.8e6
    )
    assert peak_tokens_per_second("AMD EPYC", 1.0) is None
