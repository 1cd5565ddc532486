"""A trainer small enough for tests: one layer, 16 wide, and a text of its own."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import torch

from ockham import resources
from ockham.nano import Settings, Trainer, build_settings, load_corpus

TINY = (
    "n_layer=1",
    "n_head=2",
    "n_embd=16",
    "block_size=8",
    "batch_size=4",
    "eval_batches=2",
    "threads=1",
    "max_iters=40",
)


def text(folder: Path, size: int = 6_000) -> Path:
    path = folder / "text.txt"
    words = [f"word{(i * i) % 97} " for i in range(size // 7)]
    path.write_text("".join(words), encoding="utf-8")
    return path


def settings(*overrides: str) -> Settings:
    return build_settings("nano", [*TINY, "device=cpu", *overrides])


def trainer(folder: Path, *overrides: str, **kwargs: object) -> Trainer:
    return Trainer(settings(*overrides), load_corpus(text(folder)), **kwargs)


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def train_py() -> ModuleType:
    """train.py as a module."""
    spec = importlib.util.spec_from_file_location("train_py", resources.data_root() / "train.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
