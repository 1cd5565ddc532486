"""Our own trainer: the log of every step, compared with gradients, groups and weights of the step itself."""

from __future__ import annotations

import pytest
import torch

import ockham
from ockham import nano
from ockham.record.run_folder import RunFolder
from ockham.record.verify.run import verify_run
from ockham.replay.runner import replay_run
from tests.helpers.events import events
from tests.helpers.tiny_trainer import load_train_module, settings, text

STEPS = 30


class StepTruth:
    """Values of one step that the test measures: norm before and after clipping, rates, change of weights."""

    def __init__(self, trainer):
        self.trainer, self.steps, self.norm = trainer, {}, None
        self.original = trainer._optimizer_step
        self.prepare = trainer._prepare_gradients
        trainer._optimizer_step = self.step
        trainer._prepare_gradients = self.prepare_gradients

    def prepare_gradients(self, ctx):
        self.norm = _norm(list(self.trainer.model.parameters())) / self.trainer._accepted
        return self.prepare(ctx)

    def step(self, ctx, total):
        parameters = list(self.trainer.model.parameters())
        before = [p.detach().clone() for p in parameters]
        used = []

        def read_step(optimizer, *_):
            used.append(([group["lr"] for group in optimizer.param_groups], _norm(parameters)))

        hook = self.trainer.optimizer.register_step_pre_hook(read_step)
        result = self.original(ctx, total)
        hook.remove()
        changed = any(not torch.equal(a, b.detach()) for a, b in zip(before, parameters, strict=True))
        self.steps[ctx.iter_num] = (float(self.norm), float(used[0][1]), used[0][0], changed)
        return result


def _norm(parameters):
    return torch.linalg.vector_norm(torch.cat([p.grad.reshape(-1) for p in parameters if p.grad is not None]))


def train(tmp_path, micro_steps, policy="balanced", *overrides):
    resolved = settings(
        f"max_iters={STEPS}", f"gradient_accumulation_steps={micro_steps}", "learning_rate=0.01"
    )
    trainer = nano.Trainer(resolved, nano.load_corpus(text(tmp_path)))
    truth = StepTruth(trainer)
    run = ockham.Run(
        policy,
        overrides=overrides,
        runs=tmp_path,
        run_id="a",
        settings=trainer.recorded_settings(),
        facts=trainer.facts(),
    )
    trainer.configure(
        pull=run.policy.hyperparameters["pull"], required_measurements=run.chain.required_measurements()
    )
    if resolved.effective_warmup_iters == 0:
        trainer.move_anchor(-1)
    with run, nano.ProgressLine(0, STEPS, 1, quiet=True) as line:
        load_train_module().train(run, trainer, 0, line, lambda: False)
    return RunFolder(tmp_path, "a"), truth.steps


@pytest.mark.parametrize("policy", ["balanced", "tight", "observe"])
@pytest.mark.parametrize("micro_steps", [1, 4])
def test_recorded_steps_equal_those_of_the_optimizer(tmp_path, micro_steps, policy):
    """Rates, norms and changes of weights. A gauge is measured at the last micro-batch of its step only."""
    folder, truth = train(tmp_path, micro_steps, policy, "limiter.grad_norm_ceiling=0.5")
    batches = [e["data"] for e in events(folder) if e["data"].get("hook") == "batch"]
    assert len(batches) == STEPS * micro_steps
    for data in batches:
        applied, step = data["applied"], truth.get(data["iter_num"])
        if data["micro_step"] < micro_steps - 1 or step is None:
            assert applied == {"updated": False, "weights_changed": False}
            assert "grad_norm" not in data["measured"]
            continue
        norm, clipped, rates, changed = step
        assert (applied["updated"], applied["weights_changed"]) == (True, changed)
        assert applied["learning_rates"] == rates
        assert data["measured"]["grad_norm"] == pytest.approx(norm, rel=1e-4)
        assert applied["clipped_grad_norm"] == pytest.approx(clipped, rel=1e-4)
    assert verify_run(folder).sound
    assert replay_run(folder).identical


@pytest.mark.parametrize("micro_steps", [1, 4])
def test_each_clipped_step_has_one_decision_with_its_own_norm(tmp_path, micro_steps):
    """No decision uses the norm of an earlier step, and no clipped step is without one."""
    folder, truth = train(tmp_path, micro_steps, "balanced", "limiter.grad_norm_ceiling=0.5")
    decisions = [e["data"] for e in events(folder) if e["data"].get("reason_code") == "GRADIENT_CLIPPED"]
    clipped = {iter_num: norm for iter_num, (norm, *_) in truth.items() if norm > 0.5}
    assert [made["iter_num"] for made in decisions] == list(clipped)
    assert [made["observed"] for made in decisions] == pytest.approx(list(clipped.values()), rel=1e-4)
    assert len(clipped) > 5


def test_anchor_requests_a_consolidation_once_per_step(tmp_path):
    """With four micro-batches a request was recorded four times."""
    folder, _ = train(tmp_path, 4)
    requests = [
        e["data"]["iter_num"]
        for e in events(folder)
        if e["data"].get("plugin") == "anchor" and e["data"].get("action") == "REQUEST"
    ]
    assert requests
    assert len(requests) == len(set(requests))
