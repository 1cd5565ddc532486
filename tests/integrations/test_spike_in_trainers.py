"""SpikePlugin in an own loop with a loss scaler, in Lightning and in the Hugging Face Trainer."""

from __future__ import annotations

import warnings

import pytest
import torch

from ockham.integrations.step_controller import StepController
from ockham.plugins.spike import SpikePlugin
from ockham.policy import policy_from_plugins
from ockham.record.run_folder import RunFolder
from ockham.record.verify.run import verify_run
from ockham.replay.runner import replay_run
from ockham.run import Run
from tests.helpers import tiny_model
from tests.integrations.test_gradient_verdicts import import_lightning, quiet_lightning

STEPS = 16
# Backward pass whose gradient is 1,000 times too large.
SPIKE = 12
BOUNDS = {"window": 8, "min_history": 8, "sigma": 6.0, "clip_from": None}
TRAINERS = ["own loop", "lightning", "huggingface"]


class PlantedSpike:
    """Scales the gradient of one backward pass, and notes the weights before each."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.weights: list[list[torch.Tensor]] = []
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        for parameter in self.parameters:
            parameter.register_hook(self._scale)
        self._calls = 0

    def _scale(self, gradient: torch.Tensor) -> torch.Tensor:
        number, first = divmod(self._calls, len(self.parameters))
        self._calls += 1
        if not first:
            self.weights.append([p.detach().clone() for p in self.parameters])
        return gradient * 1_000.0 if number == SPIKE else gradient

    def unchanged(self) -> list[int]:
        """Return the backward passes after which the weights stayed equal to the bit."""
        pairs = zip(self.weights, self.weights[1:], strict=False)
        return [
            number
            for number, (before, after) in enumerate(pairs)
            if all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
        ]

    def equals_beginning(self, number: int) -> bool:
        return all(torch.equal(a, b) for a, b in zip(self.weights[0], self.weights[number], strict=True))


def train_own_loop(folder, policy):
    """Train with a loss scaler."""
    model = tiny_model.make_model()
    spike = PlantedSpike(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    with Run(policy, runs=folder / "runs", run_id="a", facts=tiny_model.FACTS) as run:
        controller = StepController(run, model, optimizer, scaler=scaler)
        for inputs, targets in tiny_model.make_batches(STEPS):
            loss = model.loss(inputs, targets)
            if controller.start_batch(loss.item()):
                scaler.scale(loss).backward()
            controller.before_step()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
            controller.end_batch()
    return spike


def train_lightning(folder, policy):
    """Train under automatic optimization."""
    callback_class, models = import_lightning()
    facts = {"vocab_size": tiny_model.VOCAB_SIZE, "seed": 1}
    module = models.Module()
    spike = PlantedSpike(module.model)
    callback = callback_class(policy=policy, runs=folder / "runs", run_id="a", facts=facts)
    models.fit(folder, callback, module, max_steps=STEPS)
    return spike


def train_huggingface(folder, policy):
    """Train with the Trainer of transformers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("transformers", reason="transformers is not installed")
        pytest.importorskip("accelerate", reason="accelerate is not installed")
        from tests.integrations import huggingface_cells as cells
        from tests.integrations.test_huggingface import own_run
    trainer = cells.make_trainer(folder, cells.Case(), [own_run(folder, policy)])
    spike = PlantedSpike(trainer.model)
    trainer.train()
    return spike


def train(trainer, folder, **stages):
    functions = {"own loop": train_own_loop, "lightning": train_lightning, "huggingface": train_huggingface}
    policy = policy_from_plugins([SpikePlugin(**BOUNDS, **stages)])
    spike = functions[trainer](folder, policy)
    run_folder = RunFolder(folder / "runs", "a")
    assert verify_run(run_folder).sound
    assert replay_run(run_folder).identical
    made = tiny_model.read_events(folder, "decision.made")
    return spike, [(each["iter_num"], each["action"], each["reason_code"]) for each in made]


@quiet_lightning
@pytest.mark.filterwarnings("ignore:::(transformers|accelerate|peft)")
@pytest.mark.parametrize("trainer", TRAINERS)
def test_planted_gradient_spike_is_refused(tmp_path, trainer):
    """Only this step changes no weight. The observed norm is far over the bound."""
    spike, decisions = train(trainer, tmp_path, skip_from=1)
    assert spike.unchanged() == [SPIKE]
    assert (SPIKE, "SKIP", "GRADIENT_SPIKE") in decisions
    made = tiny_model.read_events(tmp_path, "decision.made")
    planted = next(each for each in made if each["iter_num"] == SPIKE)
    assert planted["observed"] > 50 * planted["threshold"]


@quiet_lightning
@pytest.mark.filterwarnings("ignore:::(transformers|accelerate|peft)")
@pytest.mark.parametrize("trainer", TRAINERS)
def test_planted_gradient_spike_returns_to_the_anchor(tmp_path, trainer):
    """The anchor weights of these trainers are the first weights. They save no states."""
    spike, decisions = train(trainer, tmp_path, rollback_from=1)
    assert (SPIKE, "ROLLBACK", "SPIKES_IN_A_ROW") in decisions
    assert spike.equals_beginning(SPIKE + 1)
    assert not spike.equals_beginning(SPIKE)
    back = tiny_model.read_events(tmp_path, "rollback.performed")[-1]
    assert back.get("snapshot_id") is None
    contexts = tiny_model.read_batches(tmp_path)
    assert all(each["given"]["anchor_available"] for each in contexts)
    assert not any(each["given"].get("state_available") for each in contexts)
