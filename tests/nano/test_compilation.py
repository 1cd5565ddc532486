"""Compilation of model and loss: one graph without breaks, and no graph more than training and evaluation."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch._dynamo.utils import counters

from ockham.nano import Trainer, build_settings, load_corpus
from tests.helpers.tiny_trainer import TINY, text, train_step


@pytest.fixture
def compiling(monkeypatch):
    """Capture graphs as torch.compile does, and run them without generating code."""
    torch.compiler.reset()
    counters.clear()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    yield
    torch.compiler.reset()


@pytest.mark.parametrize("recipe", ["nanogpt", "fast"])
def test_training_compiles_one_graph_for_training_and_one_for_evaluation(tmp_path, compiling, recipe):
    """Learning rate, evaluations, a moved anchor and a rollback compile nothing again."""
    settings = build_settings("nano", [*TINY, "device=cpu", "compile=yes", "dropout=0.1"], recipe=recipe)
    tiny = Trainer(settings, load_corpus(text(tmp_path)))
    tiny.configure(pull="decoupled", required_measurements={"kl_to_anchor": 1})
    tiny.move_anchor(-1)
    for iter_num in range(4):
        train_step(tiny, iter_num, learning_rate=1e-3 / (iter_num + 1), lambda_ockham=0.1 * iter_num)
        tiny.evaluate()
    tiny.roll_back(3)
    train_step(tiny, 4)
    assert counters["graph_break"] == {}
    assert counters["stats"]["unique_graphs"] == 2
