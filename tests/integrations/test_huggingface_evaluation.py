"""Evaluations apart from a Trainer: it notices nothing, whatever its callbacks and metrics."""

from __future__ import annotations

import warnings

import pytest
import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    pytest.importorskip("accelerate", reason="accelerate is not installed")
    from ockham.integrations.huggingface_evaluation import NamedEvaluations, evaluate_apart, metric_name
    from tests.integrations import huggingface_models as models
    from tests.integrations.huggingface_cells import Case, make_trainer

pytestmark = pytest.mark.filterwarnings("ignore:::(transformers|accelerate|torch)")


class Recorder(transformers.TrainerCallback):
    """Counts all events of a Trainer."""

    def __init__(self) -> None:
        self.events = []

    def on_evaluate(self, *_, **__):
        self.events.append("evaluate")

    def on_log(self, *_, **__):
        self.events.append("log")

    def on_prediction_step(self, *_, **__):
        self.events.append("prediction")


def build(folder, recorder, sets):
    return make_trainer(folder, Case(keywords={"eval_dataset": sets}), [recorder])


@pytest.mark.parametrize("several", [False, True])
def test_evaluation_apart_is_not_noticed_by_the_trainer(tmp_path, several):
    """It has the loss of the Trainer's own evaluation, and changes neither state nor random numbers."""
    sets, metric = models.make_rows(8), None
    if several:
        sets, metric = {"one": models.make_rows(4), "two": sets}, "eval_two_loss"
    recorder = Recorder()
    trainer = build(tmp_path, recorder, sets)
    trainer._metrics = {"eval": {"entropy": [1.0]}}
    trainer.model.train()
    random = torch.get_rng_state()
    loss = evaluate_apart(trainer, NamedEvaluations(trainer, metric))
    assert torch.equal(torch.get_rng_state(), random)
    assert recorder.events == []
    assert trainer.model.training
    assert trainer.state.log_history == []
    assert trainer._metrics == {"eval": {"entropy": [1.0]}}
    assert loss == pytest.approx(trainer.evaluate()[metric or "eval_loss"], rel=1e-6)
    assert "evaluate" in recorder.events


@pytest.mark.parametrize(
    ("requested", "best", "expected"),
    [
        (None, None, "eval_loss"),
        (None, "loss", "eval_loss"),
        (None, "eval_hard_loss", "eval_hard_loss"),
        (None, "accuracy", "eval_loss"),
        ("easy_loss", "accuracy", "eval_easy_loss"),
    ],
)
def test_main_metric_is_the_requested_or_the_best_loss(tmp_path, requested, best, expected):
    """A metric that is not a loss is never the default."""
    trainer = build(tmp_path, Recorder(), models.make_rows(4))
    trainer.args.metric_for_best_model = best
    assert metric_name(trainer, requested) == expected
