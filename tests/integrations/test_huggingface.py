"""Hugging Face's Trainer with the chain: real trainings of a small GPT-2, their skips and their log."""

from __future__ import annotations

import warnings

import pytest
import torch

from ockham.errors import BadInputError
from ockham.plugin import OccamPlugin
from ockham.run import Run
from tests.helpers import tiny_model

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    pytest.importorskip("accelerate", reason="accelerate is not installed")
    from ockham.integrations.huggingface import OckhamCallback

pytestmark = pytest.mark.filterwarnings("ignore:::transformers", "ignore:::accelerate", "ignore:::torch")
STEPS = 30


class RateRecorder(transformers.TrainerCallback):
    """Records the learning rates of the optimizer and of the schedule."""

    def __init__(self):
        self.used, self.scheduled = [], []

    def on_train_begin(self, args, state, control, optimizer=None, **_):
        plain = getattr(optimizer, "optimizer", optimizer)
        plain.register_step_pre_hook(lambda o, *_: self.used.append(o.param_groups[0]["lr"]))

    def on_step_end(self, args, state, control, lr_scheduler=None, **_):
        self.scheduled.append(lr_scheduler.get_last_lr()[0])


def make_rows(count):
    """Return examples for a Trainer."""
    tokens = [
        torch.cat([inputs, targets[:, -1:]], dim=1) for inputs, targets in tiny_model.make_batches(count)
    ]
    return [{"input_ids": row, "labels": row} for batch in tokens for row in batch]


def make_gpt2():
    """Return a GPT-2 that counts the backward passes that reach a weight."""
    torch.manual_seed(1)
    sizes = {"vocab_size": tiny_model.VOCAB_SIZE, "n_positions": 16, "n_embd": 16, "n_layer": 1, "n_head": 2}
    no_dropout = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    model = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(**sizes, **no_dropout, bos_token_id=0, eos_token_id=0)
    )
    model.backward_passes = []
    model.transformer.h[0].mlp.c_fc.weight.register_hook(lambda _: model.backward_passes.append(1))
    return model


def fit(folder, *callbacks, steps=STEPS, **kwargs):
    model = make_gpt2()
    options = {
        "output_dir": str(folder / "hf"),
        "max_steps": steps,
        "per_device_train_batch_size": 4,
        "learning_rate": 0.01,
        "report_to": [],
        "save_strategy": "no",
        "eval_strategy": "steps",
        "eval_steps": 10,
        "disable_tqdm": True,
        "use_cpu": True,
        "logging_strategy": "no",
        "lr_scheduler_type": "linear",
        "warmup_steps": 4,
        "seed": 3,
    }
    arguments = transformers.TrainingArguments(**{**options, **kwargs})
    trainer = transformers.Trainer(
        model=model,
        args=arguments,
        train_dataset=make_rows(STEPS),
        eval_dataset=make_rows(2),
        callbacks=[*callbacks],
    )
    trainer.train()
    return trainer


def read_optimizer_steps(trainer):
    """Return the step counters of the optimizer."""
    plain = getattr(trainer.optimizer, "optimizer", trainer.optimizer)
    return {int(state["step"]) for state in plain.state.values()}


def test_huggingface_training_skips_and_logs_batches(tmp_path):
    """A skipped batch changes neither weights nor moments. The log verifies and replays."""
    with tiny_model.make_run(tmp_path) as run:
        trainer = fit(tmp_path, OckhamCallback(run))
    tiny_model.assert_sound_run(tmp_path, batches=STEPS)
    updated = tiny_model.read_verdicts(tmp_path)
    assert 5 < sum(updated) < STEPS - 5
    assert len(trainer.model.backward_passes) == sum(updated)
    assert read_optimizer_steps(trainer) == {sum(updated)}
    assert {9, 19, 29} <= {e["iter_num"] for e in tiny_model.read_events(tmp_path, "evaluation.recorded")}
    assert tiny_model.read_events(tmp_path, "run.finished")[0]["reason_code"] == "COMPLETED"
    # The Trainer's value is restored.
    assert trainer.args.max_grad_norm == 1.0
    losses = [context["given"]["task_loss"] for context in tiny_model.read_batches(tmp_path)]
    # The first loss is ln 32, so it is a mean per token.
    assert losses[0] == pytest.approx(3.47, abs=0.1)
    assert losses[-1] < losses[0]


def test_huggingface_evaluates_when_a_consolidation_is_requested(tmp_path):
    """The Trainer evaluates at the step of the request."""
    with tiny_model.make_run(
        tmp_path, "a", "balanced", "anchor.interval=7", "anchor.cooldown=1", "anchor.tolerance=9"
    ) as run:
        fit(tmp_path, OckhamCallback(run), steps=15, eval_steps=100)
    consolidations = tiny_model.read_events(tmp_path, "anchor.consolidated")
    assert [event["iter_num"] for event in consolidations] == [6, 13]
    assert all(event["drift"] > 0 for event in consolidations)


def test_huggingface_learning_rate_change_lasts_one_step(tmp_path):
    """The optimizer uses the changed rate, the schedule does not. A warm-up may begin at 0."""

    class Halving(OccamPlugin):
        name = "halving"

        def on_batch_start(self, ctx):
            ctx.learning_rate *= 0.5 if ctx.iter_num % 2 else 1.0

    rates = RateRecorder()
    with Run(plugins=[Halving()], runs=tmp_path / "runs", run_id="a") as run:
        fit(tmp_path, rates, OckhamCallback(run), steps=8)
    plain = [0.0, *rates.scheduled[:-1]]
    assert plain[1] > 0
    assert rates.used == pytest.approx([rate * (0.5 if i % 2 else 1) for i, rate in enumerate(plain)])
    tiny_model.assert_sound_run(tmp_path, batches=8)


def test_huggingface_observe_policy_changes_no_weight(tmp_path):
    """The weights equal those without the callback, bit for bit."""
    plain = fit(tmp_path, steps=15).model.state_dict()
    with tiny_model.make_run(tmp_path, policy="observe") as run:
        watched = fit(tmp_path, OckhamCallback(run), steps=15).model.state_dict()
    for name, weight in plain.items():
        assert torch.equal(weight, watched[name]), name
    tiny_model.assert_sound_run(tmp_path, batches=15)


def test_huggingface_accumulated_batches_have_a_verdict_each(tmp_path):
    """Each verdict uses the batch's mean loss, although the Trainer divides by the tokens of the step."""
    with tiny_model.make_run(tmp_path) as run:
        trainer = fit(tmp_path, OckhamCallback(run), steps=10, gradient_accumulation_steps=3)
    contexts = tiny_model.read_batches(tmp_path)
    assert [(c["iter_num"], c.get("micro_step", 0)) for c in contexts] == [(i // 3, i % 3) for i in range(30)]
    assert contexts[0]["given"]["task_loss"] == pytest.approx(3.47, abs=0.1)
    assert len(trainer.model.backward_passes) == sum(tiny_model.read_verdicts(tmp_path)) < 30
    tiny_model.assert_sound_run(tmp_path, batches=30)


def test_huggingface_training_stops_on_halt(tmp_path):
    """The run records the reason."""

    class Stop(OccamPlugin):
        name = "stop"

        def on_batch_end(self, ctx):
            if ctx.iter_num == 3:
                ctx.halt = True
                ctx.decide("HALT", "FOUR_STEPS_DONE")

    with Run(plugins=[Stop()], runs=tmp_path / "runs", run_id="a") as run:
        trainer = fit(tmp_path, OckhamCallback(run))
    assert trainer.state.global_step == 4
    assert tiny_model.read_events(tmp_path, "run.finished")[0]["reason_code"] == "HALTED_BY_POLICY"


def test_huggingface_label_smoothing_is_rejected(tmp_path):
    """The loss is then not computed by the model. The record is valid."""
    with pytest.raises(BadInputError, match="label smoothing"), tiny_model.make_run(tmp_path) as run:
        fit(tmp_path, OckhamCallback(run), label_smoothing_factor=0.1)
    assert tiny_model.read_events(tmp_path, "run.finished")[0]["reason_code"] == "FAILED"
