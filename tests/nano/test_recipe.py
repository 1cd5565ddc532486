"""Recipes: the effect of each option, and the trainer with all of them."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import orjson
import pytest
import torch

from ockham import Run
from ockham.errors import BadInputError
from ockham.nano import GPT, ProgressLine, Settings, Trainer, build_settings, load_corpus
from ockham.nano.model import apply_rope, rope_table
from ockham.nano.pretrained import export_hf_files
from ockham.nano.recipe import RECIPES, ArchitectureOptions, architecture_options
from tests.helpers.tiny_trainer import TINY, load_train_module, text, train_step, weights, weights_equal

FAST = [f"{name}={str(value).lower()}" for name, value in RECIPES["fast"].items()]


def make_trainer(folder, *overrides, **kwargs):
    settings = build_settings("nano", [*TINY, "device=cpu", *overrides], recipe="fast")
    return Trainer(settings, load_corpus(text(folder)), **kwargs)


def make_model(**options):
    torch.manual_seed(0)
    sizes = {"vocab_size": 50, "block_size": 16, "n_layer": 2, "n_head": 2, "n_embd": 32}
    return GPT(**sizes, options=ArchitectureOptions(**options))


def test_recipe_is_a_set_of_settings_that_can_be_overridden():
    """`--recipe fast --set qk_norm=false` leaves one out. Without a recipe the model is GPT-2's."""
    fast = build_settings("nano", recipe="fast")
    assert {name: getattr(fast, name) for name in RECIPES["fast"]} == RECIPES["fast"]
    assert build_settings("nano", ["qk_norm=false"], recipe="fast") == replace(fast, qk_norm=False)
    # Without the recipe's name the learning rate is not scaled.
    assert build_settings("nano", FAST) == replace(fast, learning_rate=1e-3, min_lr=1e-4)
    assert fast.learning_rate == 4e-3
    assert build_settings("gpt2", recipe="fast").learning_rate == 2.4e-3
    assert architecture_options(Settings()) == ArchitectureOptions()
    # The recipe contains the defaults.
    assert build_settings("nano", recipe="nanogpt") == Settings()
    assert RECIPES["nanogpt"].keys() == RECIPES["fast"].keys()
    with pytest.raises(BadInputError, match="no recipe 'fats'; did you mean 'fast'"):
        build_settings("nano", recipe="fats")


def test_every_architecture_option_changes_the_model():
    """Each option changes the function or the initial weights."""
    tokens = torch.randint(50, (2, 16))
    fast = architecture_options(RECIPES["fast"])
    plain = make_model()(tokens)
    for field in fields(ArchitectureOptions):
        other = make_model(**{field.name: getattr(fast, field.name)})(tokens)
        assert not torch.equal(plain, other), field.name


def test_fast_recipe_logits_do_not_depend_on_later_tokens():
    """This holds with all options and random weights."""
    fast = make_model(**vars(architecture_options(RECIPES["fast"]))).eval()
    for parameter in fast.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    tokens = torch.randint(50, (1, 16))
    changed = tokens.clone()
    changed[0, 10:] = (changed[0, 10:] + 1) % 50
    a, b = fast(tokens), fast(changed)
    assert torch.allclose(a[0, :10], b[0, :10], atol=1e-5)
    assert not torch.allclose(a[0, 10:], b[0, 10:], atol=1e-3)
    # A shorter context, as in sampling.
    assert torch.allclose(fast(tokens[:, :5]), a[:, :5], atol=1e-5)


def test_rotary_scores_depend_only_on_distance():
    """The product of a rotated query and key depends on their distance. Rotation keeps lengths."""
    q, k = torch.randn(2, 1, 1, 1, 8)
    rope = rope_table(32, 8)
    rotated_q, rotated_k = apply_rope(q.expand(1, 1, 32, 8), rope), apply_rope(k.expand(1, 1, 32, 8), rope)
    scores = (rotated_q @ rotated_k.transpose(-2, -1))[0, 0]
    for distance in (0, 3, 17):
        along = torch.diagonal(scores, -distance)
        assert torch.allclose(along, along[0].expand_as(along), atol=1e-4)
    assert float(scores[3, 0]) != pytest.approx(float(scores[0, 0]), abs=1e-3)
    assert torch.allclose(rotated_q.norm(dim=-1), q.norm().expand(1, 1, 32), atol=1e-5)


def test_model_with_zero_projections_starts_as_its_embeddings():
    """Every block adds zero at first. The loss is that of an untrained model."""
    zero = make_model(zero_init=True, positions="rotary")
    tokens = torch.randint(50, (4, 16))
    expected = torch.nn.functional.linear(zero.ln_f(zero.wte(tokens)), zero.wte.weight)
    assert torch.equal(zero(tokens), expected)
    assert zero.loss(tokens, torch.randint(50, (4, 16))).item() == pytest.approx(math.log(50), abs=0.2)


def test_logits_stay_below_the_softcap():
    """This holds for very large weights."""
    capped = make_model(logit_softcap=15.0)
    torch.nn.init.normal_(capped.wte.weight, std=50.0)
    logits = capped(torch.randint(50, (2, 16)))
    assert 14.0 < logits.abs().max().item() <= 15.0


def test_flops_and_memory_count_only_existing_parameters():
    """Rotary positions and RMS norm have no parameters."""
    plain, fast = make_model(), make_model(positions="rotary", norm="rms")
    assert fast.num_params() == plain.num_params() - 16 * 32 - 5 * 32
    assert fast.inference_flops(16) == 16 * (2 * fast.num_params() + 4 * 2 * 16 * 32)
    assert fast.megabytes() == pytest.approx(fast.num_params() * 4 / 1e6)
    assert not any("rope" in name for name in fast.state_dict())


def test_muon_is_used_only_for_hidden_matrices(tmp_path):
    """The embedding, which is also the head, uses AdamW. Both get the same learning rate."""
    t = make_trainer(tmp_path)
    before = weights(t.model)
    train_step(t, 0, learning_rate=1e-3)
    kinds = {name: set(t.optimizer.state[p]) for name, p in t.model.named_parameters()}
    assert all((keys == {"momentum_buffer"}) == name.startswith("h.") for name, keys in kinds.items())
    assert kinds["wte.weight"] == {"step", "exp_avg", "exp_avg_sq"}
    assert {group["lr"] for group in t.optimizer.param_groups} == {1e-3}
    assert not any(torch.equal(before[name], p) for name, p in t.model.named_parameters() if "c_fc" in name)


def test_refused_gradient_and_rollback_apply_to_both_optimizers(tmp_path):
    """Weights and moments do not change after a refused gradient. A rollback clears all moments."""
    t = make_trainer(tmp_path)
    train_step(t, 0)
    before = weights(t.model)
    momentum = [v["momentum_buffer"].clone() for v in t.optimizer.state.values() if "momentum_buffer" in v]
    applied, _ = train_step(t, 1, grad_noise_std=1e39)
    assert applied.stepped is False
    assert weights_equal(before, weights(t.model))
    momentum_after = [v["momentum_buffer"] for v in t.optimizer.state.values() if "momentum_buffer" in v]
    assert all(torch.equal(a, b) for a, b in zip(momentum, momentum_after, strict=True))
    t.move_anchor(1)
    train_step(t, 2)
    t.roll_back(2)
    assert weights_equal(before, weights(t.model))
    assert not any(part.state for part in t.optimizer.parts)


def test_checkpoint_restores_both_optimizers(tmp_path):
    """A restored training equals the uninterrupted one bit for bit."""
    t = make_trainer(tmp_path)
    for i in range(6):
        if i == 3:
            t.move_anchor(2)
            for name, data in t.make_checkpoint_files({}, {"iter_num": 2}).files.items():
                (tmp_path / name).write_bytes(data)
        train_step(t, i, lambda_ockham=0.1)
    other = make_trainer(tmp_path)
    other.restore(tmp_path, orjson.loads((tmp_path / "state.json").read_bytes()))
    for i in range(3, 6):
        train_step(other, i, lambda_ockham=0.1)
    assert weights_equal(weights(t.model), weights(other.model))
    assert other.anchor.measure() == t.anchor.measure()


def test_observe_policy_gives_the_weights_of_a_plain_loop(tmp_path):
    """With the chain in shadow the weights are equal bit for bit."""
    t = make_trainer(tmp_path, "max_iters=20")
    with Run("observe", runs=tmp_path, run_id="o", facts=t.facts()) as run:
        pull = run.policy.hyperparameters["pull"]
        t.configure(pull=pull, required_measurements=run.chain.required_measurements())
        with ProgressLine(0, 20, 32) as line:
            load_train_module().train(run, t, 0, line, lambda: False)
    plain = make_trainer(tmp_path, "max_iters=20")
    for i in range(20):
        for group in plain.optimizer.param_groups:
            group["lr"] = plain.settings.learning_rate_at(i)
        plain.model.loss(*plain.batches.sample_batch(i)).backward()
        torch.nn.utils.clip_grad_norm_(plain.model.parameters(), 1.0)
        plain.optimizer.step()
        plain.optimizer.zero_grad()
    assert weights_equal(weights(t.model), weights(plain.model))


def test_torch_without_muon_gives_a_clear_error(tmp_path, monkeypatch):
    """The message contains the alternatives."""
    monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(BadInputError, match=r"has no Muon; use torch 2\.9 or newer, or optimizer=adamw"):
        make_trainer(tmp_path)
    assert make_trainer(tmp_path, "optimizer=adamw").optimizer.defaults["fused"]


def test_gpt2_weights_and_export_reject_other_architectures(tmp_path):
    """GPT-2's weights do not fit a recipe, and a recipe's weights cannot be exported."""
    with pytest.raises(BadInputError, match="the settings have norm=rms; GPT-2 has norm=layer"):
        Settings(init_from="gpt2", norm="rms")
    fast = make_model(qk_norm=True)
    with pytest.raises(BadInputError, match="GPT-2 has qk_norm=False"):
        export_hf_files(dict(fast.named_parameters()), {"qk_norm": True}, 50)
    with pytest.raises(BadInputError, match="requires an even n_embd/n_head, got 5"):
        Settings(n_embd=20, n_head=4, positions="rotary")
