"""GPT-2's weights from a Hugging Face folder: what transformers computes is what comes out here, and the way back."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from ockham.errors import BadInputError, CheckpointError, DataError
from ockham.nano import GPT, Trainer, build_settings, init_from_pretrained, load_corpus
from ockham.nano.checkpoint_io import weights_digest
from ockham.nano.hf_config import read_hf_config
from ockham.nano.pretrained import export_hf_files, load_pretrained
from tests.helpers.tiny_trainer import settings, text, weights

transformers = pytest.importorskip("transformers", reason="transformers is not installed")
TOKENS = torch.arange(2 * 12).view(2, 12) * 7 % 256


def theirs(**kwargs):
    """A tiny GPT-2 with random weights of every kind: biases and gains too, which transformers begins at 0 and 1."""
    torch.manual_seed(3)
    sizes = {"vocab_size": 256, "n_positions": 16, "n_embd": 16, "n_layer": 2, "n_head": 2, **kwargs}
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return model


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gpt2")
    model = theirs()
    model.save_pretrained(folder)
    return folder, model


@pytest.fixture
def folder(saved, tmp_path):
    """A copy that may be spoilt."""
    return shutil.copytree(saved[0], tmp_path / "gpt2")


def ours(folder, **changes):
    found = {**read_hf_config(folder), **changes}
    return GPT(**found).eval()


def change(folder, **values):
    told = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**told, **values}))


def rewrite(folder, spoil):
    tensors = load_file(folder / "model.safetensors")
    spoil(tensors)
    save_file(tensors, folder / "model.safetensors")


@torch.no_grad()
@pytest.mark.parametrize("activation", ["gelu_new", "gelu"])
def test_logits_are_those_of_transformers(tmp_path, activation):
    """At both forms of GELU; that the two differ shows that the test can fail."""
    model = theirs(activation_function=activation)
    model.save_pretrained(tmp_path)
    mine = ours(tmp_path)
    load_pretrained(mine, tmp_path)
    wanted = model(TOKENS).logits
    torch.testing.assert_close(mine(TOKENS), wanted, rtol=1e-5, atol=1e-5)
    other = GPT(
        **{**read_hf_config(tmp_path), "gelu": "exact" if activation == "gelu_new" else "tanh"}
    ).eval()
    load_pretrained(other, tmp_path)
    assert (other(TOKENS) - wanted).abs().max() > 1e-4


@torch.no_grad()
def test_shards_and_old_names_are_the_same_weights(saved, tmp_path):
    """Several files with an index; and, as on the hub, names without a prefix, with the causal mask as a buffer."""
    whole, model = saved
    model.save_pretrained(tmp_path / "shards", max_shard_size="10KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    old = shutil.copytree(whole, tmp_path / "old")
    plain = {name.removeprefix("transformer."): t for name, t in load_file(old / "model.safetensors").items()}
    masks = {f"h.{i}.attn.bias": torch.ones(16, 16).tril().view(1, 1, 16, 16) for i in range(2)}
    save_file({**plain, **masks}, old / "model.safetensors")
    digests = {load_pretrained(ours(f), f) for f in (whole, tmp_path / "shards", old)}
    assert len(digests) == 1


@torch.no_grad()
def test_a_shorter_context_takes_the_first_positions(saved):
    """The logits of what fits are the same."""
    folder, model = saved
    short = ours(folder, block_size=8)
    load_pretrained(short, folder)
    torch.testing.assert_close(short(TOKENS[:, :8]), model(TOKENS[:, :8]).logits, rtol=1e-5, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("kind", [(), ("bias=true", "gelu=tanh")], ids=["own", "as GPT-2"])
def test_transformers_reads_what_is_written(tmp_path, kind):
    """The way back, also of a model without biases."""
    chosen = settings("n_layer=2", *kind)
    corpus = load_corpus(text(tmp_path))
    trainer = Trainer(chosen, corpus)
    for parameter in trainer.model.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.2)
    model = trainer.model.eval()
    from dataclasses import asdict

    (tmp_path / "out").mkdir()
    for name, data in export_hf_files(weights(model), asdict(chosen), 256).items():
        (tmp_path / "out" / name).write_bytes(data)
    back = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "out").eval()
    tokens = TOKENS[:, : chosen.block_size]
    torch.testing.assert_close(back(tokens).logits, model(tokens), rtol=1e-5, atol=1e-5)


def test_the_trainer_starts_from_them(saved, tmp_path):
    """The folder says the architecture, its digest is in the settings, and a block may be shorter."""
    folder, _ = saved
    chosen = build_settings(
        "nano", [f"init_from={folder}", "block_size=8", "batch_size=4", "device=cpu", "threads=1"]
    )
    assert (chosen.n_layer, chosen.bias, chosen.gelu, chosen.vocab_size) == (2, True, "tanh", 256)
    assert chosen.learning_rate < 1e-4
    trainer = Trainer(chosen, load_corpus(text(tmp_path)))
    init_from_pretrained(trainer)
    assert trainer.settings.init_sha256 == weights_digest(weights(trainer.model))
    again = Trainer(trainer.settings, load_corpus(text(tmp_path)))
    init_from_pretrained(again)  # the digest is now asked for, and holds
    rewritten = shutil.copytree(folder, tmp_path / "changed")
    rewrite(rewritten, lambda t: t["transformer.wte.weight"].add_(1))
    changed = build_settings(
        "nano", [f"init_from={rewritten}", f"init_sha256={trainer.settings.init_sha256}", "block_size=8"]
    )
    with pytest.raises(CheckpointError, match="was expected"):
        init_from_pretrained(Trainer(changed, load_corpus(text(tmp_path))))


def test_bytes_are_not_tokens_of_gpt2(tmp_path):
    """Training GPT-2's weights on bytes would run, and mean nothing."""
    theirs(vocab_size=300).save_pretrained(tmp_path / "gpt2")
    chosen = build_settings("nano", [f"init_from={tmp_path / 'gpt2'}", "device=cpu", "threads=1"])
    with pytest.raises(DataError, match="ockham tokenize"):
        init_from_pretrained(Trainer(chosen, load_corpus(text(tmp_path))))


@pytest.mark.parametrize("override", ["n_layer=3", "vocab_size=50304", "bias=false", "block_size=17", "block_size=0", "vocab_multiple=64"])  # fmt: skip
def test_the_architecture_is_the_folders(saved, override):
    """Another one is refused, with the value that the weights have."""
    with pytest.raises(BadInputError, match=override.split("=")[0]):
        build_settings("nano", [f"init_from={saved[0]}", override])
    assert build_settings("gpt2", [f"init_from={saved[0]}"]).vocab_multiple == 1  # which size gpt2 would pad


def test_a_run_that_goes_on_takes_no_other_weights(saved):
    """Its checkpoint has them."""
    with pytest.raises(BadInputError, match="goes on"):
        build_settings("nano", [f"init_from={saved[0]}"], {"n_layer": 2})
    assert build_settings("nano", [], {"init_from": "gone", "init_sha256": "ab"}).init_sha256 == "ab"


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"model_type": "llama"}, "model_type"), ({"n_layer": "2"}, "n_layer"), ({"n_embd": True}, "n_embd"),
        ({"vocab_size": 0}, "vocab_size"), ({"activation_function": "relu"}, "activation_function"),
        ({"layer_norm_epsilon": 1e-6}, "layer_norm_epsilon"), ({"n_inner": 7}, "n_inner"),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn"), ({"tie_word_embeddings": False}, "tie_word"),
    ],
)  # fmt: skip
def test_another_architecture_is_refused(folder, values, named):
    """By the name of what differs."""
    change(folder, **values)
    with pytest.raises(CheckpointError, match=named):
        read_hf_config(folder)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"[" * 100_000, b"\xff"])
def test_a_config_that_is_none_is_refused(folder, content):
    """In one line."""
    (folder / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        read_hf_config(folder)


def _untie(tensors):
    tensors["lm_head.weight"] = tensors["transformer.wte.weight"] + 1


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda t: t.pop("transformer.h.1.mlp.c_fc.weight"), "h.1.mlp.c_fc.weight"),
        (lambda t: t.update({"transformer.h.0.attn.c_attn.weight": torch.zeros(16, 16)}), "c_attn.weight"),
        (lambda t: t.update({"transformer.h.0.attn.c_attn.weight": torch.zeros(3)}), "c_attn.weight"),
        (lambda t: t.update({"transformer.h.7.ln_1.weight": torch.ones(16)}), "no place"),
        (lambda t: t["transformer.ln_f.weight"].fill_(float("nan")), "not finite"),
        (_untie, "lm_head"),
    ],
)  # fmt: skip
def test_tensors_that_do_not_fit_are_named(folder, spoil, named):
    """Missing, of another shape, of another model, not finite, untied."""
    rewrite(folder, spoil)
    with pytest.raises(CheckpointError, match=named):
        load_pretrained(ours(folder), folder)


def test_a_pickle_is_not_read(folder):
    """It is named, and what would be read."""
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin is a pickle"):
        load_pretrained(ours(folder), folder)


@pytest.mark.parametrize(
    ("index", "named"),
    [
        ({"weight_map": {"transformer.wte.weight": "../outside.safetensors"}}, "plain name"),
        ({"weight_map": {"transformer.wte.weight": "gone.safetensors"}}, "gone"),
        ({"weight_map": {"nothing": "shard.safetensors"}}, "none of the shards"),
        ({"weight_map": 3}, "weight_map"),
    ],
)
def test_an_odd_index_is_refused(folder, index, named):
    """It leads nowhere else."""
    (folder / "model.safetensors").rename(folder / "shard.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=named):
        load_pretrained(ours(folder), folder)
