"""LoRA adapter: its effect, its training, and the restored model."""

from __future__ import annotations

import pytest
import torch

from ockham.errors import BadInputError
from ockham.nano.lora import LoRAAdapter
from ockham.nano.model import GPT
from ockham.nano.optimizer import make_optimizer
from tests.helpers.tiny_trainer import weights, weights_equal


def make_model():
    """Return a small GPT. Its weights are always the same."""
    torch.manual_seed(3)
    return GPT(vocab_size=32, block_size=8, n_layer=2, n_head=2, n_embd=16)


TOKENS = torch.arange(16).view(2, 8)


def train(adapter, adapter_model):
    """Take some steps, so that B is not 0."""
    optimizer = make_optimizer(adapter_model, learning_rate=0.05, weight_decay=0.0, betas=(0.9, 0.99))
    for _ in range(5):
        adapter_model.loss(TOKENS, TOKENS.flip(0)).backward()
        optimizer.step()
        optimizer.zero_grad()
    return adapter


def test_new_adapter_changes_nothing_until_it_is_trained():
    """B is 0 at first. Only the low-rank matrices get a gradient."""
    plain, adapted = make_model(), make_model()
    adapter = LoRAAdapter(adapted, ["h.1.*"], 2, seed=1)
    assert torch.equal(plain(TOKENS), adapted(TOKENS))
    assert adapter.layers == ["h.1.attn.c_attn", "h.1.attn.c_proj", "h.1.mlp.c_fc", "h.1.mlp.c_proj"]
    before = adapted.loss(TOKENS, TOKENS.flip(0)).item()
    train(adapter, adapted)
    assert adapted.loss(TOKENS, TOKENS.flip(0)).item() < before
    learned = {name for name, p in adapted.named_parameters() if p.requires_grad}
    assert {name.rpartition(".")[2] for name in learned} == {"a", "b"}
    assert adapter.added_params == sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert adapter.model_params == plain.num_params()


def test_first_matrix_is_uniform_within_the_bound_of_its_inputs():
    """The bound is 1 / sqrt(inputs), and values come close to it."""
    adapted = make_model()
    adapter = LoRAAdapter(adapted, ["h.*"], 2, seed=1)
    for name in adapter.layers:
        layer = adapted.get_submodule(name)
        inputs = layer.inner.weight.shape[1]
        assert 0.8 < float(layer.a.detach().abs().max()) * inputs**0.5 <= 1


def test_disabled_adapter_restores_the_model_bit_for_bit():
    """Enabling it again restores what it has learned."""
    plain, adapted = make_model(), make_model()
    adapter = train(LoRAAdapter(adapted, ["h.*"], 2, seed=1), adapted)
    learned = adapted(TOKENS)
    assert adapter.disable() >= 0
    assert weights_equal(weights(plain), weights(adapted))
    assert torch.equal(plain(TOKENS), adapted(TOKENS))
    adapter.enable()
    assert torch.equal(learned, adapted(TOKENS))


def test_merged_adapter_is_a_plain_model_with_equal_output():
    """The merged weights load into a GPT without an adapter. Afterwards the adapted model is unchanged."""
    plain, adapted = make_model(), make_model()
    adapter = train(LoRAAdapter(adapted, ["h.*.mlp.*"], 2, seed=1), adapted)
    before = weights(adapted)
    with adapter.merged():
        plain.load_state_dict(adapted.state_dict())
    torch.testing.assert_close(plain(TOKENS), adapted(TOKENS))
    assert weights_equal(before, weights(adapted))
    adapter.disable()
    assert weights_equal(weights(make_model()), weights(adapted))


@pytest.mark.parametrize(
    ("patterns", "rank", "message"),
    [
        (["h.1.attn.c_atn"], 2, "did you mean 'h.1.attn.c_attn'"),
        (["h.7.*"], 2, "no linear layer of that name"),
        (["wte"], 2, "no linear layer"),
        (["h.*"], 0, "--rank 0: out of range; accepted: 1 to 16"),
        (["h.*"], 17, "--rank 17: out of range; accepted: 1 to 16"),
    ],
)
def test_adapter_rejects_unknown_layers_and_invalid_ranks(patterns, rank, message):
    """The message contains the nearest name. The model is unchanged."""
    model = make_model()
    with pytest.raises(BadInputError, match=message.replace(".", r"\.")):
        LoRAAdapter(model, patterns, rank, seed=1)
    assert all(p.requires_grad for p in model.parameters())
