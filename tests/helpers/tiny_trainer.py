"""A trainer for tests: one layer with width 16, and a text to train on."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import torch

from ockham import resources
from ockham.context import OccamContext
from ockham.nano import Settings, Trainer, build_settings, load_corpus
from ockham.nano.step_metrics import StepResult

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
    """Write a text file. Return its path."""
    path = folder / "text.txt"
    words = [f"word{(i * i) % 97} " for i in range(size // 7)]
    path.write_text("".join(words), encoding="utf-8")
    return path


def settings(*overrides: str) -> Settings:
    """Return the settings of the tiny trainer."""
    return build_settings("nano", [*TINY, "device=cpu", *overrides])


def trainer(folder: Path, *overrides: str, **kwargs: object) -> Trainer:
    """Return a tiny trainer on a text in *folder*."""
    return Trainer(settings(*overrides), load_corpus(text(folder)), **kwargs)


def train_step(trainer: Trainer, iter_num: int, **knobs: object) -> StepResult:
    """Take one step under the given knobs."""
    loss = trainer.forward(iter_num)
    ctx = OccamContext(iter_num, loss, **{**trainer.context_fields(iter_num), **knobs})
    trainer.backward(ctx)
    return trainer.step()


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return a copy of all parameters by name."""
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def weights_equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    """Return True if two sets of weights are equal to the last bit."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def load_train_module() -> ModuleType:
    """Return train.py as a module."""
    spec = importlib.util.spec_from_file_location("train_py", resources.data_root() / "train.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
