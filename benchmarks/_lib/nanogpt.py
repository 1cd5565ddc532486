"""Run an unmodified nanoGPT checkout in a separate process. This project contains none of its code."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from ockham.nano import load_corpus

# The settings of size nano, with the names that nanoGPT uses.
NANO: dict[str, Any] = {
    "block_size": 64,
    "batch_size": 12,
    "n_layer": 4,
    "n_head": 4,
    "n_embd": 128,
    "dropout": 0.0,
    "learning_rate": 1e-3,
    "min_lr": 1e-4,
    "beta2": 0.99,
    "gradient_accumulation_steps": 1,
    "device": "cpu",
    "compile": False,
    "dtype": "float32",
    "wandb_log": False,
    "always_save_checkpoint": False,
}


def make_data(folder: Path) -> None:
    """Write the embedded corpus as token files of nanoGPT."""
    corpus = load_corpus(None)
    for name, tokens in (("train", corpus.train), ("val", corpus.val)):
        np.asarray(tokens).astype("<u2").tofile(folder / f"{name}.bin")
    (folder / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": 256}))


def training_script(
    checkout: Path, words: dict[str, Any], seed: int, *, before: str = "", names: str = "{}"
) -> str:
    """Return Python code that runs nanoGPT's train.py in its folder with these settings.

    The seed is a constant in train.py, so the code replaces `torch.manual_seed`. The file is not changed.

    Args:
        checkout: Folder of the nanoGPT checkout.
        words: Settings of nanoGPT.
        seed: Seed of weights and batches.
        before: Code that runs first.
        names: Expression for a dictionary of globals that train.py uses, such as another `print`.

    """
    source = (checkout / "train.py").read_text(encoding="utf-8")
    if "1337 + seed_offset" not in source:
        raise SystemExit("train.py: seed not found; use a supported nanoGPT version")
    settings = [f"--{key}={value}" for key, value in words.items()]
    return f"""
import sys, torch
{before}
real = torch.manual_seed
torch.manual_seed = lambda _: real({seed})
sys.argv = ["train.py", *{settings!r}]
exec(compile(open("train.py").read(), "train.py", "exec"), {{"__name__": "__main__", **{names}}})
"""
