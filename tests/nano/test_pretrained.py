"""GPT-2's weights from a Hugging Face folder, compared with transformers, and the export."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict

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


def make_hf_model(**kwargs):
    """Return a tiny GPT-2 with random weights. Biases and gains are random too."""
    torch.manual_seed(3)
    sizes = {"vocab_size": 256, "n_positions": 16, "n_embd": 16, "n_layer": 2, "n_head": 2, **kwargs}
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return model


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gpt2")
    model = make_hf_model()
    model.save_pretrained(folder)
    return folder, model


@pytest.fixture
def folder(saved_model, tmp_path):
    """A copy of the model's folder that a test may change."""
    return shutil.copytree(saved_model[0], tmp_path / "gpt2")


def make_gpt(folder, **changes):
    """Return the local model of a folder's architecture."""
    return GPT(**{**read_hf_config(folder), **changes}).eval()


def change_config(folder, **values):
    """Change values of config.json."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **values}))


def change_tensors(folder, change):
    """Apply a function to the tensors of the folder."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


@torch.no_grad()
@pytest.mark.parametrize("activation", ["gelu_new", "gelu"])
def test_loaded_weights_give_the_logits_of_transformers(tmp_path, activation):
    """This holds for both forms of GELU. The wrong form gives other logits."""
    model = make_hf_model(activation_function=activation)
    model.save_pretrained(tmp_path)
    mine = make_gpt(tmp_path)
    load_pretrained(mine, tmp_path)
    expected = model(TOKENS).logits
    torch.testing.assert_close(mine(TOKENS), expected, rtol=1e-5, atol=1e-5)
    other = GPT(
        **{**read_hf_config(tmp_path), "gelu": "exact" if activation == "gelu_new" else "tanh"}
    ).eval()
    load_pretrained(other, tmp_path)
    assert (other(TOKENS) - expected).abs().max() > 1e-4


@torch.no_grad()
def test_sharded_and_old_files_give_equal_weights(saved_model, tmp_path):
    """Old files have names without a prefix and contain the causal mask."""
    folder, model = saved_model
    model.save_pretrained(tmp_path / "shards", max_shard_size="10KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    old = shutil.copytree(folder, tmp_path / "old")
    plain = {name.removeprefix("transformer."): t for name, t in load_file(old / "model.safetensors").items()}
    masks = {f"h.{i}.attn.bias": torch.ones(16, 16).tril().view(1, 1, 16, 16) for i in range(2)}
    save_file({**plain, **masks}, old / "model.safetensors")
    digests = {load_pretrained(make_gpt(f), f) for f in (folder, tmp_path / "shards", old)}
    assert len(digests) == 1


@torch.no_grad()
def test_shorter_context_uses_the_first_positions(saved_model):
    """The logits of a text that fits are equal."""
    folder, model = saved_model
    short = make_gpt(folder, block_size=8)
    load_pretrained(short, folder)
    torch.testing.assert_close(short(TOKENS[:, :8]), model(TOKENS[:, :8]).logits, rtol=1e-5, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("kind", [(), ("bias=true", "gelu=tanh")], ids=["own", "as GPT-2"])
def test_transformers_loads_exported_files(tmp_path, kind):
    """The logits are equal, also for a model without biases."""
    trainer_settings = settings("n_layer=2", *kind)
    corpus = load_corpus(text(tmp_path))
    trainer = Trainer(trainer_settings, corpus)
    for parameter in trainer.model.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.2)
    model = trainer.model.eval()
    (tmp_path / "out").mkdir()
    for name, data in export_hf_files(weights(model), asdict(trainer_settings), 256).items():
        (tmp_path / "out" / name).write_bytes(data)
    back = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "out").eval()
    tokens = TOKENS[:, : trainer_settings.block_size]
    torch.testing.assert_close(back(tokens).logits, model(tokens), rtol=1e-5, atol=1e-5)


def test_trainer_starts_from_pretrained_weights_and_checks_their_digest(saved_model, tmp_path):
    """The folder defines the architecture. The settings contain the digest. A block may be shorter."""
    folder, _ = saved_model
    trainer_settings = build_settings(
        "nano", [f"init_from={folder}", "block_size=8", "batch_size=4", "device=cpu", "threads=1"]
    )
    assert trainer_settings.n_layer == 2
    assert trainer_settings.bias is True
    assert trainer_settings.gelu == "tanh"
    assert trainer_settings.vocab_size == 256
    assert trainer_settings.learning_rate < 1e-4
    trainer = Trainer(trainer_settings, load_corpus(text(tmp_path)))
    init_from_pretrained(trainer)
    assert trainer.settings.init_sha256 == weights_digest(weights(trainer.model))
    again = Trainer(trainer.settings, load_corpus(text(tmp_path)))
    # The settings now contain the digest, which is checked.
    init_from_pretrained(again)
    rewritten = shutil.copytree(folder, tmp_path / "changed")
    change_tensors(rewritten, lambda t: t["transformer.wte.weight"].add_(1))
    changed = build_settings(
        "nano", [f"init_from={rewritten}", f"init_sha256={trainer.settings.init_sha256}", "block_size=8"]
    )
    with pytest.raises(CheckpointError, match="; expected "):
        init_from_pretrained(Trainer(changed, load_corpus(text(tmp_path))))


def test_pretrained_weights_reject_data_of_bytes(tmp_path):
    """Training GPT-2's weights on bytes would run, but with wrong tokens."""
    make_hf_model(vocab_size=300).save_pretrained(tmp_path / "gpt2")
    trainer_settings = build_settings("nano", [f"init_from={tmp_path / 'gpt2'}", "device=cpu", "threads=1"])
    with pytest.raises(DataError, match="ockham tokenize"):
        init_from_pretrained(Trainer(trainer_settings, load_corpus(text(tmp_path))))


@pytest.mark.parametrize(
    "override",
    ["n_layer=3", "vocab_size=50304", "bias=false", "block_size=17", "block_size=0", "vocab_multiple=64"],
)
def test_override_that_contradicts_pretrained_weights_is_rejected(saved_model, override):
    """The message contains the setting."""
    with pytest.raises(BadInputError, match=override.split("=")[0]):
        build_settings("nano", [f"init_from={saved_model[0]}", override])
    # Size gpt2 pads the vocabulary otherwise.
    assert build_settings("gpt2", [f"init_from={saved_model[0]}"]).vocab_multiple == 1


def test_resumed_run_rejects_other_pretrained_weights(saved_model):
    """A resumed run has its weights in the checkpoint."""
    with pytest.raises(BadInputError, match="a resumed run has its weights"):
        build_settings("nano", [f"init_from={saved_model[0]}"], {"n_layer": 2})
    assert build_settings("nano", [], {"init_from": "gone", "init_sha256": "ab"}).init_sha256 == "ab"


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"model_type": "llama"}, "model_type"),
        ({"n_layer": "2"}, "n_layer"),
        ({"n_embd": True}, "n_embd"),
        ({"vocab_size": 0}, "vocab_size"),
        ({"activation_function": "relu"}, "activation_function"),
        ({"layer_norm_epsilon": 1e-6}, "layer_norm_epsilon"),
        ({"n_inner": 7}, "n_inner"),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn"),
        ({"tie_word_embeddings": False}, "tie_word"),
    ],
)
def test_hf_config_of_another_architecture_is_rejected(folder, values, named):
    """The message contains the name of the different value."""
    change_config(folder, **values)
    with pytest.raises(CheckpointError, match=named):
        read_hf_config(folder)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"[" * 100_000, b"\xff"])
def test_invalid_hf_config_file_is_rejected(folder, content):
    """The message contains the file."""
    (folder / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        read_hf_config(folder)


def untie_head(tensors):
    tensors["lm_head.weight"] = tensors["transformer.wte.weight"] + 1


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda t: t.pop("transformer.h.1.mlp.c_fc.weight"), "h.1.mlp.c_fc.weight"),
        (lambda t: t.update({"transformer.h.0.attn.c_attn.weight": torch.zeros(16, 16)}), "c_attn.weight"),
        (lambda t: t.update({"transformer.h.0.attn.c_attn.weight": torch.zeros(3)}), "c_attn.weight"),
        (lambda t: t.update({"transformer.h.7.ln_1.weight": torch.ones(16)}), "does not belong to the model"),
        (lambda t: t["transformer.ln_f.weight"].fill_(float("nan")), "not finite"),
        (untie_head, "lm_head"),
    ],
)
def test_tensors_that_do_not_fit_are_rejected_by_name(folder, change, named):
    """Missing, of another shape, of another model, not finite, or not tied."""
    change_tensors(folder, change)
    with pytest.raises(CheckpointError, match=named):
        load_pretrained(make_gpt(folder), folder)


def test_pickled_weights_are_rejected_without_reading(folder):
    """The message contains the file and the accepted format."""
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin is a pickle"):
        load_pretrained(make_gpt(folder), folder)


@pytest.mark.parametrize(
    ("index", "named"),
    [
        ({"weight_map": {"transformer.wte.weight": "../outside.safetensors"}}, "not a file name"),
        ({"weight_map": {"transformer.wte.weight": "gone.safetensors"}}, "gone"),
        ({"weight_map": {"nothing": "shard.safetensors"}}, "missing from the shards"),
        ({"weight_map": 3}, "weight_map"),
    ],
)
def test_invalid_shard_index_is_rejected(folder, index, named):
    """An index cannot name files outside of the folder."""
    (folder / "model.safetensors").rename(folder / "shard.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=named):
        load_pretrained(make_gpt(folder), folder)
