"""Evaluations, ends, resumes and manual optimization of Lightning trainings in the log."""

from __future__ import annotations

import warnings

import pytest
import torch

import ockham
from ockham.errors import BadInputError
from ockham.record.run_folder import RunFolder
from ockham.record.verify.run import verify_run
from tests.helpers import step_truth, tiny_model
from tests.helpers.plugins import Stop
from tests.helpers.requests import Asker

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pl = pytest.importorskip("lightning.pytorch", reason="lightning is not installed")
    from lightning.pytorch.callbacks import EarlyStopping

    from ockham.integrations.lightning import OckhamCallback
    from tests.integrations.lightning_models import ManualModule, Module, fit, make_loader

pytestmark = pytest.mark.filterwarnings(
    "ignore:::(lightning|torch)", "ignore:.*litlogger.*", "ignore:.*TreeSpec.*"
)


FACTS = {"vocab_size": tiny_model.VOCAB_SIZE, "seed": 1}


def make_callback(folder, policy="balanced", **options):
    """Return a callback that opens the run `a`."""
    defaults = {"runs": folder / "runs", "run_id": "a", "facts": FACTS}
    return OckhamCallback(policy=policy, **{**defaults, **options})


def read_losses(folder):
    """Return the recorded validation losses."""
    return [data["val_loss"] for data in tiny_model.read_events(folder, "evaluation.recorded")]


def test_monitor_names_one_of_several_loaders(tmp_path):
    """The losses are those of the second loader, and the sanity check is not recorded."""
    monitor = "val_loss/dataloader_idx_1"
    seen = []

    class Reader(pl.Callback):
        def on_validation_end(self, trainer, pl_module):
            if not trainer.sanity_checking:
                seen.append(float(trainer.callback_metrics[monitor]))

    fit(
        tmp_path,
        make_callback(tmp_path, monitor=monitor),
        val=[make_loader(2), make_loader(3)],
        callbacks=[Reader()],
        num_sanity_val_steps=2,
    )
    assert read_losses(tmp_path) == seen
    assert len(seen) == 4
    assert all("weights_checksum" in data for data in tiny_model.read_events(tmp_path, "evaluation.recorded"))


@pytest.mark.parametrize("loaders", [1, 2])
def test_missing_monitor_ends_the_training_at_the_first_validation(loaders, tmp_path):
    """The message lists the logged metrics, and the run has ended as failed."""
    val = [make_loader(2) for _ in range(loaders)]
    module = Module(val_name="valid/loss")
    with pytest.raises(BadInputError, match=r"did not log 'val_loss'; logged: valid/loss.*; pass one"):
        fit(tmp_path, make_callback(tmp_path), module, val=val)
    assert len(tiny_model.read_batches(tmp_path)) == 10
    assert tiny_model.read_events(tmp_path, "run.finished")[0]["reason_code"] == "FAILED"
    assert "training_step" not in vars(module)


def test_old_validation_loss_is_not_recorded_again(tmp_path):
    """A validation without the loss is a warning, not a repeated value."""

    class Sometimes(Module):
        def validation_step(self, batch, _, dataloader_idx=0):
            if self.global_step != 20:
                super().validation_step(batch, _)

    with pytest.warns(UserWarning, match="validation after step 20 did not log 'val_loss'"):
        fit(tmp_path, make_callback(tmp_path), Sometimes())
    iterations = [data["iter_num"] for data in tiny_model.read_events(tmp_path, "evaluation.recorded")]
    assert iterations == [9, 29, 39]


def test_early_stop_has_a_reason(tmp_path):
    """The end names the callback that stopped the training, and the step."""
    stopper = EarlyStopping("val_loss", patience=1, min_delta=100.0)
    _, trainer = fit(tmp_path, make_callback(tmp_path), callbacks=[stopper])
    assert trainer.global_step == 20
    end = tiny_model.read_events(tmp_path, "run.finished")[0]
    assert end["reason_code"] == "STOPPED_EARLY"
    assert end["message"] == "EarlyStopping on 'val_loss' stopped the training after step 20"
    assert end["val_loss"] == read_losses(tmp_path)[-1]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
@pytest.mark.parametrize("hook", ["on_before_zero_grad", "on_after_backward", "on_train_batch_end"])
def test_module_is_restored_after_an_exception(error, hook, tmp_path):
    """The next training without Ockham equals one that never had it, bit for bit."""
    module = Module()
    calls = []

    def fail(*_):
        calls.append(1)
        if len(calls) == 5:
            raise error

    callback = make_callback(tmp_path)
    setattr(module, hook, fail)
    with pytest.raises((error, SystemExit)):
        fit(tmp_path, callback, module, gradient_clip_val=0.3)
    delattr(module, hook)
    assert "training_step" not in vars(module)
    assert not any(hooks for hooks in (module._forward_hooks, module._backward_hooks))
    reason = "INTERRUPTED" if error is KeyboardInterrupt else "FAILED"
    assert tiny_model.read_events(tmp_path, "run.finished")[0]["reason_code"] == reason
    assert verify_run(RunFolder(tmp_path / "runs", "a")).sound
    module.load_state_dict(Module().state_dict())
    again, _ = fit(tmp_path, None, module, gradient_clip_val=0.3)
    plain, _ = fit(tmp_path, None, gradient_clip_val=0.3)
    assert all(map(torch.equal, again.parameters(), plain.parameters()))


def test_two_trainings_in_one_block_are_one_run(tmp_path):
    """The numbers of the steps continue."""
    with ockham.Run("balanced", runs=tmp_path / "runs", run_id="a", facts=FACTS) as run:
        callback = OckhamCallback(run)
        module, _ = fit(tmp_path, callback, max_steps=10)
        fit(tmp_path, callback, module, max_steps=10)
    assert [c["iter_num"] for c in tiny_model.read_batches(tmp_path)] == list(range(20))
    result = step_truth.compare(tmp_path, module.truth)
    assert not result.problems, result.problems[:5]


@pytest.mark.parametrize(("optimizers", "micro_steps"), [(1, 1), (2, 1), (1, 3), (2, 2)])
@pytest.mark.parametrize("policy", ["balanced", "observe"])
def test_log_of_manual_optimization_equals_what_it_did(optimizers, micro_steps, policy, tmp_path):
    """Skips, losses of the verdicts, learning rates and norms agree, also with several optimizers."""
    callback = make_callback(tmp_path, policy)
    module = ManualModule(callback, optimizers=optimizers, micro_steps=micro_steps)
    # A validation drops the gradients of a step that has not ended.
    fit(tmp_path, callback, module, max_steps=-1, max_epochs=1, train=make_loader(36), val_check_interval=12)
    assert len(module.truth.moved) == 36
    result = step_truth.compare(tmp_path, module.truth)
    assert not result.problems, result.problems[:5]
    assert (result.skips > 0) == (policy == "balanced")
    assert len(read_losses(tmp_path)) == 3
    assert not tiny_model.read_events(tmp_path, "verdict.not_applied")
    with (
        pytest.raises(BadInputError, match="no training under manual optimization"),
        callback.batch(torch.ones(1)),
    ):
        pass


def test_manual_optimization_stops_when_a_person_requests_it(tmp_path):
    """As after a halt of the policy, with another reason."""
    plugins = [Asker(str(tmp_path / "runs"), iter_num=5)]
    with ockham.Run(plugins=plugins, runs=tmp_path / "runs", run_id="a") as run:
        callback = OckhamCallback(run)
        fit(tmp_path, callback, ManualModule(callback))
    assert len(tiny_model.read_batches(tmp_path)) == 6
    assert tiny_model.read_events(tmp_path, "run.finished")[0]["reason_code"] == "STOPPED_BY_USER"


def test_manual_optimization_stops_on_halt(tmp_path):
    """The run records the decision."""
    with ockham.Run(plugins=[Stop()], runs=tmp_path / "runs", run_id="a") as run:
        callback = OckhamCallback(run)
        fit(tmp_path, callback, ManualModule(callback))
    assert len(tiny_model.read_batches(tmp_path)) == 6
    assert tiny_model.read_events(tmp_path, "run.finished")[0]["reason_code"] == "HALTED_BY_POLICY"


def test_ignored_verdict_under_manual_optimization_is_recorded(tmp_path):
    """A module that steps on a skip contradicts the verdict, and the log contains that."""
    callback = make_callback(tmp_path)
    module = ManualModule(callback, obey=False)
    with pytest.warns(UserWarning, match="a verdict was not carried out"):
        fit(tmp_path, callback, module)
    reasons = {data["reason_code"] for data in tiny_model.read_events(tmp_path, "verdict.not_applied")}
    assert "WEIGHTS_CHANGED_ON_SKIP" in reasons
    assert not verify_run(RunFolder(tmp_path / "runs", "a")).sound
