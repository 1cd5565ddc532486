"""Lightning with the chain: real trainings of a small model, their skips and their log."""

from __future__ import annotations

import logging
import warnings

import pytest
import torch

from ockham.context import OccamContext
from ockham.errors import BadInputError
from ockham.plugin import OccamPlugin
from ockham.run import Run
from tests.helpers import tiny_model
from tests.helpers.plugins import Stop
from tests.helpers.requests import Asker

# Lightning emits warnings at import.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pl = pytest.importorskip("lightning.pytorch", reason="lightning is not installed")
    from ockham.integrations.lightning import OckhamCallback

pytestmark = pytest.mark.filterwarnings(
    "ignore:::lightning", "ignore:::torch.jit", "ignore:.*litlogger.*", "ignore:.*TreeSpec.*"
)
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class Module(pl.LightningModule):
    """Counts the backward passes that reach a weight, and records the rate of each step."""

    def __init__(self, dictionary: bool = False, rate: float = 0.02) -> None:
        super().__init__()
        self.model = tiny_model.make_model()
        self.dictionary = dictionary
        self.rate = rate
        self.backward_passes = []
        self.rates = []
        self.scheduled = []
        self.model.wte.weight.register_hook(lambda _: self.backward_passes.append(1))

    def training_step(self, batch, batch_idx):
        loss = self.model.loss(*batch)
        return {"loss": loss} if self.dictionary else loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.model.loss(*batch), batch_size=4)

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.rate, weight_decay=0.1)
        # Each rate is computed from the previous one, so a rate that is not restored would persist.
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.99)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_before_optimizer_step(self, optimizer):
        self.rates.append(optimizer.param_groups[0]["lr"])

    def on_train_batch_end(self, *_):
        self.scheduled.append(self.optimizers().param_groups[0]["lr"])


def make_run(folder, run_id="a", policy="balanced", *overrides):
    """Return a run that is not opened yet. The callback adds the facts that the Trainer knows."""
    facts = {"vocab_size": tiny_model.VOCAB_SIZE, "seed": 1}
    return Run(policy, overrides=overrides, runs=folder / "runs", run_id=run_id, facts=facts)


def make_loader(count):
    """Return batches for Lightning."""
    return torch.utils.data.DataLoader(tiny_model.make_batches(count), batch_size=None)


def fit(folder, callback, module=None, steps=40, batches=40, **kwargs):
    module = module or Module()
    trainer = pl.Trainer(
        max_steps=steps,
        callbacks=[callback] if callback else [],
        logger=False,
        enable_checkpointing=False,
        val_check_interval=10,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
        default_root_dir=folder,
        **kwargs,
    )
    trainer.fit(module, make_loader(batches), make_loader(3))
    return module, trainer


def test_lightning_training_skips_and_logs_batches(tmp_path):
    """A skipped batch changes neither weights nor moments. The log verifies and replays."""
    with make_run(tmp_path) as run:
        module, _ = fit(tmp_path, OckhamCallback(run))
    tiny_model.assert_sound_run(tmp_path)
    updated = tiny_model.read_verdicts(tmp_path)
    assert 5 < sum(updated) < 35
    assert len(module.backward_passes) == sum(updated)
    steps = {int(state["step"]) for state in module.optimizers().optimizer.state.values()}
    assert steps == {sum(updated)}
    end = tiny_model.read_events(tmp_path, "run.finished")[0]
    assert end["reason_code"] == "COMPLETED"
    assert end["optimizer_steps"] == sum(updated)
    assert end["batches"] == 40
    assert [e["iter_num"] for e in tiny_model.read_events(tmp_path, "evaluation.recorded")] == [9, 19, 29, 39]
    # The schedule never reads a changed rate.
    assert module.scheduled[-1] == pytest.approx(0.02 * 0.99**40)
    assert "training_step" not in vars(module)


def test_lightning_learning_rate_change_lasts_one_step(tmp_path):
    """The optimizer uses the changed rate, the schedule does not."""

    class Halving(OccamPlugin):
        name = "halving"

        def on_batch_start(self, ctx: OccamContext) -> OccamContext:
            ctx.learning_rate *= 0.5 if ctx.iter_num % 2 else 1.0
            return ctx

    module = Module(dictionary=True)
    with Run(plugins=[Halving()], runs=tmp_path / "runs", run_id="a") as run:
        fit(tmp_path, OckhamCallback(run), module, steps=6)
    # The callback's hook runs before the module's, which therefore reads the rate of the step.
    expected = [0.02 * 0.99**i * (0.5 if i % 2 else 1.0) for i in range(6)]
    assert module.rates == pytest.approx(expected)
    assert module.scheduled == pytest.approx([0.02 * 0.99 ** (i + 1) for i in range(6)])
    tiny_model.assert_sound_run(tmp_path, batches=6)


def test_lightning_observe_policy_changes_no_weight(tmp_path):
    """The weights equal those without the callback, bit for bit."""
    plain, _ = fit(tmp_path, None, steps=20)
    with make_run(tmp_path, policy="observe") as run:
        watched, _ = fit(tmp_path, OckhamCallback(run), steps=20)
    for name, weight in plain.named_parameters():
        assert torch.equal(weight, watched.get_parameter(name)), name
    assert all(tiny_model.read_verdicts(tmp_path))
    tiny_model.assert_sound_run(tmp_path, batches=20)


def test_lightning_accumulated_batches_have_a_verdict_each(tmp_path):
    """A step uses the accepted ones of two micro-batches."""
    with make_run(tmp_path, "a", "balanced") as run:
        module, _ = fit(tmp_path, OckhamCallback(run), steps=15, accumulate_grad_batches=2)
    contexts = tiny_model.read_batches(tmp_path)
    assert [(c["iter_num"], c["micro_step"]) for c in contexts] == [(i // 2, i % 2) for i in range(30)]
    updated = tiny_model.read_verdicts(tmp_path)
    assert len(module.backward_passes) == sum(updated) < 30
    stepped = sum(updated[i] or updated[i + 1] for i in range(0, 30, 2))
    assert tiny_model.read_events(tmp_path, "run.finished")[0]["optimizer_steps"] == stepped
    tiny_model.assert_sound_run(tmp_path, batches=30)


def test_lightning_accepted_weights_are_saved(tmp_path):
    """The checkpoint names the decision that accepted it."""
    with make_run(tmp_path, "a", "balanced", "memory.quality_fraction=3.0") as run:
        fit(tmp_path, OckhamCallback(run), Module(rate=0.002), steps=10)
    saved = tiny_model.read_events(tmp_path, "checkpoint.saved")
    assert saved
    assert all(s["kind"] == "accepted" and s["decision_id"] for s in saved)
    assert (tmp_path / "runs" / "a" / "checkpoints" / saved[0]["snapshot_id"] / "model.safetensors").is_file()


def test_lightning_training_stops_on_halt(tmp_path):
    """The run records the decision."""
    with Run(plugins=[Stop()], runs=tmp_path / "runs", run_id="a") as run:
        _, trainer = fit(tmp_path, OckhamCallback(run))
    assert trainer.global_step == 6
    end = tiny_model.read_events(tmp_path, "run.finished")[0]
    assert end["reason_code"] == "HALTED_BY_POLICY"
    assert tiny_model.read_events(tmp_path, "decision.made")[-1]["reason_code"] == "SIX_STEPS_DONE"


def test_lightning_training_stops_when_a_person_requests_it(tmp_path):
    """The step is complete, and the run records who stopped it."""
    plugins = [Asker(str(tmp_path / "runs"), iter_num=5)]
    with Run(plugins=plugins, runs=tmp_path / "runs", run_id="a") as run:
        _, trainer = fit(tmp_path, OckhamCallback(run))
    assert trainer.global_step == 6
    end = tiny_model.read_events(tmp_path, "run.finished")[0]
    assert end["reason_code"] == "STOPPED_BY_USER"
    assert end["message"] == "stopped by alice: because of the loss"


def test_lightning_failed_training_leaves_a_valid_run(tmp_path):
    """The error is raised, and the run records it."""
    module = Module()
    module.on_before_zero_grad = lambda *_: 1 / 0
    with pytest.raises(ZeroDivisionError), make_run(tmp_path) as run:
        fit(tmp_path, OckhamCallback(run), module)
    assert tiny_model.read_events(tmp_path, "run.finished")[0]["reason_code"] == "FAILED"
    assert "training_step" not in vars(module)


def test_lightning_closed_run_and_lbfgs_are_rejected(tmp_path):
    """Both give a clear error."""
    with pytest.raises(BadInputError, match="not open"):
        fit(tmp_path, OckhamCallback(make_run(tmp_path)))
    module = Module()
    module.configure_optimizers = lambda: torch.optim.LBFGS(module.parameters())
    with make_run(tmp_path) as run, pytest.raises(BadInputError, match="LBFGS computes several losses"):
        fit(tmp_path, OckhamCallback(run), module)


def test_lightning_facts_of_another_model_are_rejected(tmp_path):
    """The message names the fact and both values."""
    with tiny_model.make_run(tmp_path) as run, pytest.raises(BadInputError, match="model_params is 4000"):
        fit(tmp_path, OckhamCallback(run))
    with pytest.raises(BadInputError, match="max_iters is 7, the Trainer has 40"):
        fit(tmp_path, OckhamCallback(runs=tmp_path / "runs", facts={"max_iters": 7}))
