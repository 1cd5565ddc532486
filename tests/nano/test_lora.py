"""The adapter: what it adds, what it leaves alone, and the way back."""

from __future__ import annotations

import pytest
import torch

from ockham.errors import BadInputError
from ockham.nano.lora import LoRAAdapter
from ockham.nano.model import GPT
from ockham.nano.optimizer import make_optimizer
from tests.helpers.tiny_trainer import same, weights


def model():
    torch.manual_seed(3)
    return GPT(vocab_size=32, block_size=8, n_layer=2, n_head=2, n_embd=16)


TOKENS = torch.arange(16).view(2, 8)


def trained(made, adapter_model):
    """Some steps, so that B is no longer 0."""
    optimizer = make_optimizer(adapter_model, learning_rate=0.05, weight_decay=0.0, betas=(0.9, 0.99))
    for _ in range(5):
        adapter_model.loss(TOKENS, TOKENS.flip(0)).backward()
        optimizer.step()
        optimizer.zero_grad()
    return made


def test_it_starts_by_changing_nothing_and_then_learns():
    """B is 0; and only the thin matrices get a gradient."""
    plain, adapted = model(), model()
    adapter = LoRAAdapter(adapted, ["h.1.*"], 2, seed=1)
    assert torch.equal(plain(TOKENS), adapted(TOKENS))
    assert adapter.layers == ["h.1.attn.c_attn", "h.1.attn.c_proj", "h.1.mlp.c_fc", "h.1.mlp.c_proj"]
    before = adapted.loss(TOKENS, TOKENS.flip(0)).item()
    trained(adapter, adapted)
    assert adapted.loss(TOKENS, TOKENS.flip(0)).item() < before
    learned = {name for name, p in adapted.named_parameters() if p.requires_grad}
    assert {name.rpartition(".")[2] for name in learned} == {"a", "b"}
    assert adapter.added_params == sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert adapter.model_params == plain.num_params()


def test_taking_it_off_gives_the_model_from_before_to_the_last_bit():
    """And putting it on again gives what it had learned."""
    plain, adapted = model(), model()
    adapter = trained(LoRAAdapter(adapted, ["h.*"], 2, seed=1), adapted)
    learned = adapted(TOKENS)
    assert adapter.disable() >= 0
    assert same(weights(plain), weights(adapted))
    assert torch.equal(plain(TOKENS), adapted(TOKENS))
    adapter.enable()
    assert torch.equal(learned, adapted(TOKENS))


def test_merged_it_is_a_plain_model_that_computes_the_same():
    """A checkpoint of it loads into a GPT that knows no adapter; afterwards nothing has changed."""
    plain, adapted = model(), model()
    adapter = trained(LoRAAdapter(adapted, ["h.*.mlp.*"], 2, seed=1), adapted)
    before = weights(adapted)
    with adapter.merged():
        plain.load_state_dict(adapted.state_dict())
    torch.testing.assert_close(plain(TOKENS), adapted(TOKENS))
    assert same(before, weights(adapted))
    adapter.disable()
    assert same(weights(model()), weights(adapted))


@pytest.mark.parametrize(
    ("patterns", "rank", "told"),
    [(["h.1.attn.c_atn"], 2, "did you mean 'h.1.attn.c_attn'"), (["h.7.*"], 2, "no linear layer is called"),
     (["wte"], 2, "no linear layer"), (["h.*"], 0, "--rank lies in 1..16"), (["h.*"], 17, "--rank lies in 1..16")],
)  # fmt: skip
def test_layers_that_are_not_there_are_refused(patterns, rank, told):
    """With the nearest name, before anything of the model has changed."""
    untouched = model()
    with pytest.raises(BadInputError, match=told.replace(".", r"\.")):
        LoRAAdapter(untouched, patterns, rank, seed=1)
    assert all(p.requires_grad for p in untouched.parameters())
