"""GPT: shapes, causality, tying, initialisation, and what it says of its cost."""

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


def test_gpt2_has_the_published_size():
    """124M with tied weights: 124,439,808 with biases and GPT-2's vocabulary (Radford et al. 2019)."""
    with torch.device("meta"):
        gpt2 = GPT(vocab_size=50_257, block_size=1024, n_layer=12, n_head=12, n_embd=768, bias=True)
    assert gpt2.num_params() == 124_439_808


def test_a_token_sees_only_what_is_before_it(model):
    """Changing a later token changes no earlier logits."""
    model.eval()
    one = torch.randint(50, (1, 16))
    other = one.clone()
    other[0, 10:] = (other[0, 10:] + 1) % 50
    a, b = model(one), model(other)
    assert torch.allclose(a[0, :10], b[0, :10], atol=1e-6)
    assert not torch.allclose(a[0, 10:], b[0, 10:], atol=1e-3)


def test_an_untrained_model_knows_nothing(model):
    """Its loss is ln V within a tenth."""
    x, y = torch.randint(50, (8, 16)), torch.randint(50, (8, 16))
    assert model.loss(x, y).item() == pytest.approx(math.log(50), abs=0.1)
    assert model.example_losses(x, y).mean().item() == pytest.approx(model.loss(x, y).item(), rel=1e-5)


def test_residual_projections_start_smaller(model):
    """0.02 everywhere, 0.02/sqrt(2 n_layer) at the projections into the residual."""
    assert float(model.h[0].mlp.c_fc.weight.detach().std()) == pytest.approx(0.02, rel=0.1)
    assert float(model.h[0].mlp.c_proj.weight.detach().std()) == pytest.approx(0.01, rel=0.1)


def test_weight_decay_is_on_matrices_alone(model):
    """As nanoGPT groups them: two dimensions and more decay, gains and biases do not."""
    optimizer = make_optimizer(model, learning_rate=1e-3, weight_decay=0.1, betas=(0.9, 0.95))
    decayed, kept = optimizer.param_groups
    assert decayed["weight_decay"] == 0.1
    assert kept["weight_decay"] == 0.0
    assert all(p.dim() >= 2 for p in decayed["params"])
    assert all(p.dim() < 2 for p in kept["params"])
    assert sum(p.numel() for g in optimizer.param_groups for p in g["params"]) == model.num_params()


def test_flops_follow_the_formula(model):
    """2 for each parameter that multiplies and token, and 4 T n_layer n_embd for attention's two products."""
    matrices = model.num_params() - 16 * 32
    assert model.inference_flops(16) == 16 * (2 * matrices + 4 * 2 * 16 * 32)
    assert model.megabytes() == pytest.approx(model.num_params() * 4 / 1e6)


def test_training_flops_are_counted_as_nanogpt_does():
    """854.8 MFLOP for each token of GPT-2 124M with 50,304 tokens: 6N + 12 L H Q T, N without positions."""
    with torch.device("meta"):
        gpt2 = GPT(vocab_size=50_304, block_size=1024, n_layer=12, n_head=12, n_embd=768)
    assert gpt2.training_flops(1) == pytest.approx(854.8e6, rel=2e-3)


def test_full_use_is_of_this_device():
    """An H200 computes 989.4 TFLOP/s: 1.16 million tokens of GPT-2 124M a second; what is not in the table claims nothing."""
    assert peak_tokens_per_second("NVIDIA H200", 854.8e6) == pytest.approx(1_157_000, rel=1e-3)
    assert peak_tokens_per_second("NVIDIA H200", 854.8e6, 2) == 2 * peak_tokens_per_second(
        "NVIDIA H200", 854.8e6
    )
    assert peak_tokens_per_second("AMD EPYC", 1.0) is None
