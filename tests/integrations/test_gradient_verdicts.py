"""Verdicts on gradients in the trainers of other libraries, compared with what their optimizers did."""

from __future__ import annotations

import math
import warnings

import pytest
import torch

from ockham.integrations.step_controller import StepController
from ockham.policy import policy_from_plugins
from ockham.record.run_folder import RunFolder
from ockham.replay.runner import replay_run
from ockham.run import Run
from tests.helpers import tiny_model
from tests.helpers.plugins import OnGradients
from tests.helpers.step_truth import StepTruth, compare

STEPS = 16


def policy(*, skips):
    return policy_from_plugins([OnGradients(skips=skips)])


def assert_carried_out(folder, truth):
    """Assert that steps, rates and norms of the log are those of the optimizer."""
    # The truth contains the norms of refused steps too, which the comparison does not expect.
    truth.norms = []
    assert compare(folder, truth).problems == []
    contexts = tiny_model.read_batches(folder)
    steps = [data for data in contexts if "gradients" in data]
    assert len(steps) >= STEPS // 2
    for data in steps:
        turn, applied = data["iter_num"] % 4, data["applied"]
        assert bool(applied["updated"]) == (turn != 1)
        if turn == 3:
            knobs = {**data["given"], **data["left"]}
            assert knobs["grad_clip"] == data["measured"]["grad_norm"] / 2
    assert {data["iter_num"] % 4 for data in steps} == {0, 1, 2, 3}
    assert not tiny_model.read_events(folder, "verdict.not_applied")
    assert replay_run(RunFolder(folder / "runs", "a"), trust=True).identical


@pytest.mark.parametrize("skips", [False, True])
@pytest.mark.parametrize("micro_steps", [1, 3])
@pytest.mark.parametrize("has_scaler", [False, True])
def test_step_controller_carries_out_verdicts_on_gradients(tmp_path, skips, micro_steps, has_scaler):
    """In a loop with two learning rates, with and without a loss scaler."""
    model, truth = tiny_model.make_model(), StepTruth()
    parameters = list(model.parameters())
    groups = [{"params": parameters[::2]}, {"params": parameters[1::2], "lr": 0.03}]
    optimizer = torch.optim.AdamW(groups, lr=0.01)
    truth.watch(optimizer)
    scaler = torch.amp.GradScaler("cpu", enabled=has_scaler, init_scale=64.0)
    batches = iter(tiny_model.make_batches(STEPS * micro_steps))
    with Run(policy(skips=skips), runs=tmp_path / "runs", run_id="a", facts=tiny_model.FACTS) as run:
        controller = StepController(run, model, optimizer, scaler=scaler if has_scaler else None)
        controller.micro_steps = micro_steps
        for _ in range(STEPS):
            for micro_step in range(micro_steps):
                loss = model.loss(*next(batches))
                truth.begin_batch(model, loss.item())
                scaled = scaler.scale(loss / micro_steps)
                if controller.start_batch(loss.item()):
                    scaled.backward()
                if micro_step == micro_steps - 1:
                    controller.before_step()
                    scaler.step(optimizer)
                    scaler.update()
                    optimizer.zero_grad()
                controller.end_batch()
                truth.end_batch(model)
        assert [group["lr"] for group in optimizer.param_groups] == [0.01, 0.03]
    assert_carried_out(tmp_path, truth)
    refused = [data for data in tiny_model.read_batches(tmp_path) if data["applied"].get("cause")]
    assert {data["applied"]["cause"] for data in refused} == {"GRADIENT_DROPPED"}


def import_lightning():
    """Import Lightning and the modules of the tests, without its warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("lightning.pytorch", reason="lightning is not installed")
        from ockham.integrations.lightning import OckhamCallback
        from tests.integrations import lightning_models
    return OckhamCallback, lightning_models


quiet_lightning = pytest.mark.filterwarnings(
    "ignore:::(lightning|torch)", "ignore:.*litlogger.*", "ignore:.*TreeSpec.*"
)


@quiet_lightning
@pytest.mark.parametrize("accumulate", [1, 2])
def test_lightning_carries_out_verdicts_on_gradients(tmp_path, accumulate):
    """Under automatic optimization, with two groups and a schedule."""
    callback_class, models = import_lightning()
    facts = {"vocab_size": tiny_model.VOCAB_SIZE, "seed": 1}
    callback = callback_class(policy=policy(skips=True), runs=tmp_path / "runs", run_id="a", facts=facts)
    module, _ = models.fit(tmp_path, callback, max_steps=STEPS, accumulate_grad_batches=accumulate)
    assert_carried_out(tmp_path, module.truth)


@quiet_lightning
@pytest.mark.parametrize("optimizers", [1, 2])
def test_lightning_carries_out_verdicts_under_manual_optimization(tmp_path, optimizers):
    """The gradients are dropped in `clip_gradients`, so that the step of the module changes nothing."""
    callback_class, models = import_lightning()
    facts = {"vocab_size": tiny_model.VOCAB_SIZE, "seed": 1}
    callback = callback_class(policy=policy(skips=False), runs=tmp_path / "runs", run_id="a", facts=facts)
    module = models.ManualModule(callback, optimizers=optimizers)
    models.fit(tmp_path, callback, module, max_steps=STEPS * optimizers)
    norms = module.truth.clipped_norms
    kept = [number for number, norm in enumerate(norms) if norm > 0.0]
    assert [number % 4 for number in range(len(norms)) if number not in kept] == [1] * (len(norms) // 4)
    module.truth.rates = [module.truth.rates[number] for number in kept]
    module.truth.clipped_norms = [norms[number] for number in kept]
    assert_carried_out(tmp_path, module.truth)


@pytest.mark.filterwarnings("ignore:::(transformers|accelerate|torch|peft)")
@pytest.mark.parametrize("accumulate", [1, 2])
def test_huggingface_trainer_carries_out_verdicts_on_gradients(tmp_path, accumulate):
    """The schedule of the Trainer continues over refused steps."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("transformers", reason="transformers is not installed")
        pytest.importorskip("accelerate", reason="accelerate is not installed")
        from tests.integrations import huggingface_cells as cells
        from tests.integrations.test_huggingface import own_run
    callback = own_run(tmp_path, policy(skips=False))
    trainer = cells.make_trainer(
        tmp_path, cells.Case(options={"gradient_accumulation_steps": accumulate}), [callback]
    )
    used = []

    def note_step(optimizer, *_):
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"]]
        used.append(any(gradient is not None for gradient in gradients))

    trainer.create_optimizer()
    trainer.optimizer.register_step_post_hook(note_step)
    trainer.train()
    steps = [data for data in tiny_model.read_batches(tmp_path) if "gradients" in data]
    assert [bool(data["applied"]["updated"]) for data in steps] == used
    assert used == [data["iter_num"] % 4 != 1 for data in steps]
    scheduled = [data["given"]["learning_rate"] for data in steps]
    assert len(set(scheduled)) == 1 or scheduled == sorted(scheduled, reverse=True)
    assert all(math.isfinite(data["measured"]["grad_norm"]) for data in steps)
    assert not tiny_model.read_events(tmp_path, "verdict.not_applied")
    assert replay_run(RunFolder(tmp_path / "runs", "a"), trust=True).identical
