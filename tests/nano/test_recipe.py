"""Recipes: each switch does what it says, and the trainer's promises hold under all of them together."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import pytest
import torch

from ockham import Run
from ockham.context import OccamContext
from ockham.errors import BadInputError
from ockham.nano import GPT, ProgressLine, Settings, Trainer, build_settings, load_corpus
from ockham.nano.model import apply_rope, rope_table
from ockham.nano.pretrained import export_hf_files
from ockham.nano.recipe import RECIPES, ArchitectureOptions, architecture_options
from tests.helpers.tiny_trainer import TINY, same, text, train_py, weights

FAST = [f"{name}={str(value).lower()}" for name, value in RECIPES["fast"].items()]


def trainer(folder, *overrides, **kwargs):
    chosen = build_settings("nano", [*TINY, "device=cpu", *overrides], recipe="fast")
    return Trainer(chosen, load_corpus(text(folder)), **kwargs)


def step(t, iter_num, **knobs):
    loss = t.forward(iter_num)
    t.backward(OccamContext(iter_num, loss, **{**t.context_fields(iter_num), **knobs}))
    return t.step()


def model(**switches):
    torch.manual_seed(0)
    sizes = {"vocab_size": 50, "block_size": 16, "n_layer": 2, "n_head": 2, "n_embd": 32}
    return GPT(**sizes, switches=ArchitectureOptions(**switches))


def test_a_recipe_is_settings_and_each_can_be_taken_back():
    """`--recipe fast --set qk_norm=false` leaves one out; without a recipe the model is GPT-2's."""
    fast = build_settings("nano", recipe="fast")
    assert {name: getattr(fast, name) for name in RECIPES["fast"]} == RECIPES["fast"]
    assert build_settings("nano", ["qk_norm=false"], recipe="fast") == replace(fast, qk_norm=False)
    assert build_settings("nano", FAST) == replace(
        fast, learning_rate=1e-3, min_lr=1e-4
    )  # no recipe, no other rate
    assert (fast.learning_rate, build_settings("gpt2", recipe="fast").learning_rate) == (4e-3, 2.4e-3)
    assert architecture_options(Settings()) == ArchitectureOptions()
    assert build_settings("nano", recipe="nanogpt") == Settings()  # it spells out what is the default
    assert RECIPES["nanogpt"].keys() == RECIPES["fast"].keys()
    with pytest.raises(BadInputError, match="no recipe 'fats'; did you mean 'fast'"):
        build_settings("nano", recipe="fats")


def test_every_switch_changes_the_model():
    """One by one: another function of the same tokens, or another start."""
    tokens = torch.randint(50, (2, 16))
    fast = architecture_options(RECIPES["fast"])
    plain = model()(tokens)
    for field in fields(ArchitectureOptions):
        other = model(**{field.name: getattr(fast, field.name)})(tokens)
        assert not torch.equal(plain, other), field.name


def test_a_token_sees_only_what_is_before_it():
    """Under the whole recipe, after a step has left the zero projections."""
    fast = model(**vars(architecture_options(RECIPES["fast"]))).eval()
    for parameter in fast.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    one = torch.randint(50, (1, 16))
    other = one.clone()
    other[0, 10:] = (other[0, 10:] + 1) % 50
    a, b = fast(one), fast(other)
    assert torch.allclose(a[0, :10], b[0, :10], atol=1e-5)
    assert not torch.allclose(a[0, 10:], b[0, 10:], atol=1e-3)
    assert torch.allclose(fast(one[:, :5]), a[:, :5], atol=1e-5)  # a shorter context, as sampling has it


def test_rotary_positions_tell_distances_alone():
    """The product of a turned query and key depends on how far apart they are, and turning keeps lengths."""
    q, k = torch.randn(2, 1, 1, 1, 8)
    turn = rope_table(32, 8)
    turned_q, turned_k = apply_rope(q.expand(1, 1, 32, 8), turn), apply_rope(k.expand(1, 1, 32, 8), turn)
    scores = (turned_q @ turned_k.transpose(-2, -1))[0, 0]
    for distance in (0, 3, 17):
        along = torch.diagonal(scores, -distance)
        assert torch.allclose(along, along[0].expand_as(along), atol=1e-4)
    assert float(scores[3, 0]) != pytest.approx(float(scores[0, 0]), abs=1e-3)
    assert torch.allclose(turned_q.norm(dim=-1), q.norm().expand(1, 1, 32), atol=1e-5)


def test_a_model_with_zero_projections_starts_as_its_embeddings():
    """Every block adds nothing at first; the loss is that of an untrained model."""
    zero = model(zero_init=True, positions="rotary")
    tokens = torch.randint(50, (4, 16))
    alone = torch.nn.functional.linear(zero.ln_f(zero.wte(tokens)), zero.wte.weight)
    assert torch.equal(zero(tokens), alone)
    assert zero.loss(tokens, torch.randint(50, (4, 16))).item() == pytest.approx(math.log(50), abs=0.2)


def test_logits_stay_under_their_cap():
    """However large the weights."""
    capped = model(logit_softcap=15.0)
    torch.nn.init.normal_(capped.wte.weight, std=50.0)
    logits = capped(torch.randint(50, (2, 16)))
    assert 14.0 < logits.abs().max().item() <= 15.0


def test_flops_and_memory_count_what_is_there():
    """Rotary positions and RMS norm have no parameters; positions never multiplied."""
    plain, fast = model(), model(positions="rotary", norm="rms")
    assert fast.num_params() == plain.num_params() - 16 * 32 - 5 * 32
    assert fast.inference_flops(16) == 16 * (2 * fast.num_params() + 4 * 2 * 16 * 32)
    assert fast.megabytes() == pytest.approx(fast.num_params() * 4 / 1e6)
    assert not any("turn" in name for name in fast.state_dict())


def test_muon_takes_the_hidden_matrices_alone(tmp_path):
    """Embeddings, which are the head too, go on with AdamW; one learning rate reaches both."""
    t = trainer(tmp_path)
    before = weights(t.model)
    step(t, 0, learning_rate=1e-3)
    kinds = {name: set(t.optimizer.state[p]) for name, p in t.model.named_parameters()}
    assert all((keys == {"momentum_buffer"}) == name.startswith("h.") for name, keys in kinds.items())
    assert kinds["wte.weight"] == {"step", "exp_avg", "exp_avg_sq"}
    assert {group["lr"] for group in t.optimizer.param_groups} == {1e-3}
    assert not any(torch.equal(before[name], p) for name, p in t.model.named_parameters() if "c_fc" in name)


def test_a_refused_gradient_and_a_rollback_reach_both(tmp_path):
    """Weights and moments stay, of Muon too; a rollback forgets all moments."""
    t = trainer(tmp_path)
    step(t, 0)
    before = weights(t.model)
    momentum = [v["momentum_buffer"].clone() for v in t.optimizer.state.values() if "momentum_buffer" in v]
    stepped, _ = step(t, 1, grad_noise_std=1e39)
    assert not stepped
    assert same(before, weights(t.model))
    kept = [v["momentum_buffer"] for v in t.optimizer.state.values() if "momentum_buffer" in v]
    assert all(torch.equal(a, b) for a, b in zip(momentum, kept, strict=True))
    t.move_anchor(1)
    step(t, 2)
    t.roll_back()
    assert same(before, weights(t.model))
    assert not any(part.state for part in t.optimizer.parts)


def test_a_checkpoint_carries_both_optimizers(tmp_path):
    """What goes on from it equals what never stopped, bit for bit."""
    t = trainer(tmp_path)
    for i in range(6):
        if i == 3:
            t.move_anchor(2)
            for name, data in t.make_checkpoint_files({}, {}).files.items():
                (tmp_path / name).write_bytes(data)
        step(t, i, lambda_ockham=0.1)
    import orjson

    other = trainer(tmp_path)
    other.restore(tmp_path, orjson.loads((tmp_path / "state.json").read_bytes()))
    for i in range(3, 6):
        step(other, i, lambda_ockham=0.1)
    assert same(weights(t.model), weights(other.model))
    assert other.anchor.measure() == t.anchor.measure()


def test_observe_leaves_the_recipe_untouched(tmp_path):
    """The chain in shadow and a plain loop give the same weights, bit for bit."""
    t = trainer(tmp_path, "max_iters=20")
    with Run("observe", runs=tmp_path, run_id="o", facts=t.facts()) as run:
        pull = run.policy.hyperparameters["pull"]
        t.configure(pull=pull, required_measurements=run.chain.required_measurements())
        with ProgressLine(0, 20, 32) as line:
            train_py().train(run, t, 0, line, lambda: False)
    plain = trainer(tmp_path, "max_iters=20")
    for i in range(20):
        for group in plain.optimizer.param_groups:
            group["lr"] = plain.settings.learning_rate_at(i)
        plain.model.loss(*plain.batches.sample_batch(i)).backward()
        torch.nn.utils.clip_grad_norm_(plain.model.parameters(), 1.0)
        plain.optimizer.step()
        plain.optimizer.zero_grad()
    assert same(weights(t.model), weights(plain.model))


def test_a_torch_without_muon_is_one_clear_line(tmp_path, monkeypatch):
    """It names what is missing and what to say instead."""
    monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(BadInputError, match=r"has no Muon, 2\.9 and newer have; or say optimizer=adamw"):
        trainer(tmp_path)
    assert trainer(tmp_path, "optimizer=adamw").optimizer.defaults["fused"]


def test_what_is_not_gpt2_is_not_taken_for_it(tmp_path):
    """Neither weights of GPT-2 into a recipe, nor a recipe's weights out as GPT-2."""
    with pytest.raises(BadInputError, match="GPT-2 has norm=layer, and the settings say norm=rms"):
        Settings(init_from="gpt2", norm="rms")
    fast = model(qk_norm=True)
    with pytest.raises(BadInputError, match="GPT-2 has qk_norm=False"):
        export_hf_files(dict(fast.named_parameters()), {"qk_norm": True}, 50)
    with pytest.raises(BadInputError, match="n_embd/n_head=5 must be even"):
        Settings(n_embd=20, n_head=4, positions="rotary")
