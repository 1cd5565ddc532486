"""Hugging Face callback: runs that it opens, evaluations by name, what it restores, and its errors.

`test_trainer_matrix.py` compares its log with what the trainers really do.
"""

from __future__ import annotations

import warnings

import pytest
import torch

from ockham.errors import BadInputError
from ockham.plugin import OccamPlugin
from ockham.plugins.gate import OckhamGatePlugin
from ockham.record.run_folder import RunFolder
from ockham.record.verify.run import verify_run
from ockham.run import Run
from tests.helpers import tiny_model
from tests.helpers.events import events
from tests.helpers.requests import Asker

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    pytest.importorskip("accelerate", reason="accelerate is not installed")
    from ockham.integrations.huggingface import OckhamCallback
    from tests.integrations import huggingface_models as models
    from tests.integrations.huggingface_cells import BATCH, STEPS, Case, make_lora, make_trainer

pytestmark = pytest.mark.filterwarnings("ignore:::(transformers|accelerate|torch|peft)")


class At(transformers.TrainerCallback):
    """Raises an exception at the begin of a step, or another callback's event."""

    def __init__(self, error: BaseException, step: int = 5, event: str = "on_step_begin") -> None:
        self.error, self.step = error, step
        setattr(self, event, self._raise)

    def _raise(self, args, state, control, **_):
        if state.global_step == self.step:
            raise self.error


class Act(OccamPlugin):
    """Sets knobs at one batch."""

    name = "act"

    def __init__(self, at: int = 3, hook: str = "on_batch_end", **knobs) -> None:
        self.at, self.hook, self.knobs = at, hook, knobs

    def settings(self):
        return {"at": self.at}

    def on_batch_start(self, ctx):
        self._act(ctx, "on_batch_start")

    def on_batch_end(self, ctx):
        self._act(ctx, "on_batch_end")

    def _act(self, ctx, hook):
        if self.hook == hook and ctx.iter_num == self.at:
            ctx.set_knobs(self.knobs)
            ctx.decide("ACT", "REQUESTED")


def make_run(folder, policy="balanced", *overrides, **kwargs):
    """Return a run without facts, not opened yet."""
    return Run(policy, overrides=overrides, runs=folder / "runs", run_id="a", **kwargs)


def own_run(folder, policy="balanced", **kwargs):
    """Return a callback that opens the run."""
    return OckhamCallback(policy=policy, runs=folder / "runs", run_id="a", **kwargs)


def build(folder, *callbacks, model=models.make_gpt2, keywords=None, trainer=transformers.Trainer, **options):
    """Return a Trainer of a small model with data for its evaluation."""
    keywords = {"eval_dataset": models.make_rows(8), **(keywords or {})}
    case = Case(model=model, trainer=trainer, options=options, keywords=keywords)
    return make_trainer(folder, case, list(callbacks))


def evaluations(folder):
    """Return iteration and loss of the recorded evaluations."""
    return [(e["iter_num"], e["val_loss"]) for e in tiny_model.read_events(folder, "evaluation.recorded")]


def read_end(folder):
    """Return the data of the end of the run."""
    return tiny_model.read_events(folder, "run.finished")[0]


def traces(trainer):
    """Return what a callback could leave on a Trainer."""
    optimizer = trainer.optimizer
    while (inner := getattr(optimizer, "optimizer", None)) is not None:
        optimizer = inner
    hooks = (optimizer._optimizer_step_pre_hooks, optimizer._optimizer_step_post_hooks)
    return {
        "max_grad_norm": trainer.args.max_grad_norm,
        "compute_loss": "compute_loss" in vars(trainer),
        "clip": "clip_grad_norm_" in vars(trainer.accelerator),
        "model hooks": len(trainer.model._forward_hooks) + len(trainer.model._forward_pre_hooks),
        "optimizer hooks": sum(len(hook) for hook in hooks),
    }


NO_TRACES = {
    "max_grad_norm": 0.7,
    "compute_loss": False,
    "clip": False,
    "model hooks": 0,
    "optimizer hooks": 0,
}


def test_callback_opens_the_run_with_the_facts_of_the_trainer(tmp_path):
    """Facts, TrainingArguments and the data are recorded. The run ends with the training."""
    trainer = build(tmp_path, own_run(tmp_path), max_steps=8, warmup_steps=3, seed=11)
    trainer.train()
    tiny_model.assert_sound_run(tmp_path, batches=8)
    started = tiny_model.read_events(tmp_path, "run.started")[0]
    assert started["settings"]["per_device_train_batch_size"] == BATCH
    assert started["settings"]["learning_rate"] == 0.01
    run_json = (tmp_path / "runs" / "a" / "run.json").read_text(encoding="utf-8")
    assert '"rows":' in run_json
    given = tiny_model.read_batches(tmp_path)[3]["given"]
    expected = {
        "max_iters": 8,
        "warmup_iters": 3,
        "seed": 11,
        "vocab_size": models.VOCAB_SIZE,
        "model_params": trainer.model.num_parameters(),
        "tokens_seen": 3 * BATCH * models.LENGTH,
    }
    assert {name: given.get(name) for name in expected} == expected
    assert read_end(tmp_path)["reason_code"] == "COMPLETED"


def test_fingerprint_of_a_dataset_is_recorded(tmp_path):
    """A fingerprint of `datasets` changes with the content."""
    datasets = pytest.importorskip("datasets")
    rows = [{key: value.tolist() for key, value in row.items()} for row in models.make_rows(8)]
    data = datasets.Dataset.from_list(rows).with_format("torch")
    build(tmp_path, own_run(tmp_path), keywords={"train_dataset": data}, max_steps=2).train()
    text = (tmp_path / "runs" / "a" / "run.json").read_text(encoding="utf-8")
    assert data._fingerprint in text


@pytest.mark.parametrize("opens", [True, False], ids=["own-run", "open-run"])
def test_facts_that_contradict_the_trainer_are_one_error(tmp_path, opens):
    """The message names all of them. Facts of a documentation page fit no other model."""
    facts = {"max_iters": 600, "vocab_size": 50_257, "seed": 3}
    expected = r"max_iters is 600, the Trainer has 16; vocab_size is 50257, the Trainer has 34"
    if opens:
        with pytest.raises(BadInputError, match=expected):
            build(tmp_path, own_run(tmp_path, facts=facts)).train()
        assert not (tmp_path / "runs" / "a").exists()
        return
    with pytest.raises(BadInputError, match=expected), make_run(tmp_path, facts=facts) as run:
        build(tmp_path, OckhamCallback(run)).train()
    assert read_end(tmp_path)["reason_code"] == "FAILED"


def test_open_run_gets_the_missing_facts(tmp_path):
    """They are in every recorded batch."""
    with make_run(tmp_path) as run:
        build(tmp_path, OckhamCallback(run), max_steps=4).train()
    given = [context["given"] for context in tiny_model.read_batches(tmp_path)]
    assert {facts["max_iters"] for facts in given} == {4}
    assert {facts["vocab_size"] for facts in given} == {models.VOCAB_SIZE}


def test_callback_takes_an_open_run_or_a_policy(tmp_path):
    """Both at once would leave it open which policy decides."""
    with pytest.raises(BadInputError, match="an open run, or policy"):
        OckhamCallback(make_run(tmp_path), policy="observe")


@pytest.mark.parametrize("opens", [True, False], ids=["own-run", "open-run"])
@pytest.mark.parametrize(
    ("error", "reason"), [(KeyboardInterrupt(), "INTERRUPTED"), (ZeroDivisionError("x"), "FAILED")]
)
@pytest.mark.parametrize("event", ["on_step_begin", "on_pre_optimizer_step", "on_step_end"])
def test_exception_leaves_no_trace(tmp_path, opens, error, reason, event):
    """Arguments, hooks and methods are restored, and the run records why it ended. It is sound."""
    at = At(error, event=event)
    if opens:
        trainer = build(tmp_path, own_run(tmp_path), at, max_grad_norm=0.7)
        with pytest.raises(type(error)):
            trainer.train()
        assert traces(trainer) == NO_TRACES
    else:
        with pytest.raises(type(error)), make_run(tmp_path) as run:
            trainer = build(tmp_path, OckhamCallback(run), at, max_grad_norm=0.7)
            trainer.train()
        assert traces(trainer) == NO_TRACES
    assert read_end(tmp_path)["reason_code"] == reason
    contexts = tiny_model.read_batches(tmp_path)
    tiny_model.assert_sound_run(tmp_path, batches=len(contexts))
    # The next training uses the Trainer's own clipping.
    trainer.callback_handler.callbacks = [
        c for c in trainer.callback_handler.callbacks if not isinstance(c, At)
    ]
    norms = []
    trainer.optimizer.optimizer.register_step_pre_hook(
        lambda optimizer, *_: norms.append(
            float(torch.nn.utils.get_total_norm([p.grad for p in trainer.model.parameters()]))
        )
    )
    trainer.pop_callback(OckhamCallback)
    trainer.train()
    assert max(norms) <= 0.7001


def test_block_restores_a_trainer_that_got_the_callback_later(tmp_path):
    """The end of the run restores what the end of the training would have restored."""
    trainer = build(tmp_path, max_grad_norm=0.7)
    with pytest.raises(KeyboardInterrupt), make_run(tmp_path) as run:
        trainer.add_callback(OckhamCallback(run))
        trainer.add_callback(At(KeyboardInterrupt()))
        trainer.train()
    assert traces(trainer) == NO_TRACES


def test_callback_added_later_cannot_open_a_run(tmp_path):
    """An exception would leave that run open."""
    trainer = build(tmp_path)
    trainer.add_callback(own_run(tmp_path))
    with pytest.raises(BadInputError, match="added to an existing Trainer"):
        trainer.train()


def test_exception_in_the_middle_of_a_batch_is_recorded_as_abandoned(tmp_path):
    """The batch has a context whose step was not taken."""
    with pytest.raises(ZeroDivisionError):
        build(tmp_path, own_run(tmp_path), At(ZeroDivisionError(), event="on_pre_optimizer_step")).train()
    applied = [context["applied"] for context in tiny_model.read_batches(tmp_path)]
    assert applied[-1] == {"updated": False, "cause": "BATCH_ABANDONED"}
    assert len(applied) == 6


def test_evaluation_after_the_training_is_recorded(tmp_path):
    """The block is still open. The last evaluation has the loss that the Trainer returned."""
    with make_run(tmp_path) as run:
        trainer = build(tmp_path, OckhamCallback(run), max_steps=6)
        trainer.train()
        loss = trainer.evaluate()["eval_loss"]
    assert evaluations(tmp_path) == [(5, loss)]
    assert read_end(tmp_path)["val_loss"] == loss
    tiny_model.assert_sound_run(tmp_path, batches=6)


def test_evaluation_on_start_is_recorded(tmp_path):
    """No batch has ended yet, so no plugin decides about it."""
    trainer = build(
        tmp_path,
        own_run(tmp_path, overrides=QUIET),
        max_steps=4,
        eval_on_start=True,
        eval_strategy="steps",
        eval_steps=2,
    )
    trainer.train()
    logged = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]
    assert [loss for _, loss in evaluations(tmp_path)] == logged
    assert [iter_num for iter_num, _ in evaluations(tmp_path)] == [0, 1, 3]
    tiny_model.assert_sound_run(tmp_path, batches=4)


def test_second_training_continues_the_numbers(tmp_path):
    """Both trainings are one sequence of batches."""
    with make_run(tmp_path) as run:
        trainer = build(tmp_path, OckhamCallback(run), max_steps=4)
        trainer.train()
        trainer.train()
    assert [c["iter_num"] for c in tiny_model.read_batches(tmp_path)] == list(range(8))
    tiny_model.assert_sound_run(tmp_path, batches=8)
    assert read_end(tmp_path)["reason_code"] == "COMPLETED"


@pytest.mark.parametrize("stop", [1, 2], ids=["first-micro-batch", "second-micro-batch"])
def test_training_that_ends_within_a_step_can_be_followed_by_another(tmp_path, stop):
    """The incomplete step keeps its number, and the next one has the next number."""

    class Stop(transformers.TrainerCallback):
        batches = 0

        def on_substep_end(self, args, state, control, **_):
            self.batches += 1
            control.should_training_stop |= self.batches == stop

    with make_run(tmp_path) as run:
        trainer = build(tmp_path, OckhamCallback(run), Stop(), gradient_accumulation_steps=3, max_steps=3)
        trainer.train()
        trainer.train()
    numbers = [(c["iter_num"], c.get("micro_step", 0)) for c in tiny_model.read_batches(tmp_path)]
    assert numbers == [(0, i) for i in range(stop)] + [(1 + i, j) for i in range(3) for j in range(3)]
    tiny_model.assert_sound_run(tmp_path, batches=stop + 9)


def test_training_of_another_model_in_the_block_is_rejected(tmp_path):
    """Its weights do not follow from the recorded decisions."""
    with make_run(tmp_path) as run:
        callback = OckhamCallback(run)
        build(tmp_path, callback, max_steps=2).train()
        with pytest.raises(BadInputError, match="another model"):
            build(tmp_path, callback, max_steps=2).train()


SETS = {"easy": models.make_rows(8), "hard": models.make_rows(12)[8:]}
# The anchor asks for no evaluation.
QUIET = ("anchor.per_run=0",)


@pytest.mark.parametrize("metric", ["eval_easy_loss", "hard_loss"])
def test_one_of_several_validation_sets_reaches_the_plugins(tmp_path, metric):
    """The others are in the custom metrics under their names."""
    trainer = build(
        tmp_path,
        own_run(tmp_path, metric=metric, overrides=QUIET),
        keywords={"eval_dataset": SETS},
        max_steps=6,
        eval_strategy="steps",
        eval_steps=2,
    )
    trainer.train()
    judged, other = ("easy", "hard") if "easy" in metric else ("hard", "easy")
    history = trainer.state.log_history
    logged = {
        name: [entry[f"eval_{name}_loss"] for entry in history if f"eval_{name}_loss" in entry]
        for name in SETS
    }
    assert evaluations(tmp_path) == list(zip([1, 3, 5], logged[judged], strict=True))
    recorded = [c for c in tiny_model.read_events(tmp_path, "context.recorded") if c["hook"] == "on_evaluate"]
    assert [c["given"]["custom"][f"eval_{other}_loss"] for c in recorded] == logged[other]
    tiny_model.assert_sound_run(tmp_path, batches=6)


def test_metric_of_the_best_model_reaches_the_plugins(tmp_path):
    """It is the default if it is a loss."""
    trainer = build(
        tmp_path,
        own_run(tmp_path, overrides=QUIET),
        keywords={"eval_dataset": SETS},
        max_steps=4,
        eval_strategy="steps",
        eval_steps=2,
        metric_for_best_model="hard_loss",
    )
    trainer.train()
    hard = [entry["eval_hard_loss"] for entry in trainer.state.log_history if "eval_hard_loss" in entry]
    assert [loss for _, loss in evaluations(tmp_path)] == hard


@pytest.mark.parametrize(
    ("sets", "metric", "names"),
    [
        (SETS, None, "eval_easy_loss, eval_hard_loss"),
        (SETS, "eval_hrad_loss", "eval_easy_loss, eval_hard_loss"),
        (SETS["easy"], "valid_loss", "eval_loss"),
    ],
)
def test_missing_metric_is_an_error_at_the_first_evaluation(tmp_path, sets, metric, names):
    """The message names the metric and the existing ones."""
    trainer = build(
        tmp_path,
        own_run(tmp_path, metric=metric),
        keywords={"eval_dataset": sets},
        eval_strategy="steps",
        eval_steps=2,
    )
    with pytest.raises(BadInputError, match=f"after step [12]: the metric .* does not exist.* {names}$"):
        trainer.train()
    assert read_end(tmp_path)["reason_code"] == "FAILED"


def test_early_stopping_is_recorded_with_its_step(tmp_path):
    """The Trainer ends before its last step."""

    class Stop(transformers.TrainerCallback):
        def on_step_end(self, args, state, control, **_):
            control.should_training_stop |= state.global_step == 7

    build(tmp_path, own_run(tmp_path), Stop()).train()
    end = read_end(tmp_path)
    assert end["reason_code"] == "STOPPED_EARLY"
    assert end["message"] == f"the Trainer stopped after step 7 of {STEPS}"
    tiny_model.assert_sound_run(tmp_path, batches=7)


def test_evaluations_of_the_anchor_do_not_count_for_the_trainer(tmp_path):
    """Best step, patience and logged evaluations are those of a training without the anchor's requests."""

    def train(folder, *overrides):
        stopping = transformers.EarlyStoppingCallback(early_stopping_patience=2)
        callback = own_run(folder, overrides=("gate.shadow=true", *overrides))
        trainer = build(
            folder,
            callback,
            stopping,
            eval_strategy="steps",
            eval_steps=4,
            save_strategy="steps",
            save_steps=4,
            load_best_model_at_end=True,
            save_total_limit=2,
            learning_rate=0.05,
            max_steps=24,
        )
        trainer.train()
        logged = [entry["step"] for entry in trainer.state.log_history if "eval_loss" in entry]
        best = trainer.state.best_global_step
        return logged, best, stopping.early_stopping_patience_counter

    quiet = train(tmp_path / "quiet", "anchor.per_run=0")
    asked = train(tmp_path / "asked", "anchor.interval=3", "anchor.cooldown=1", "anchor.tolerance=-0")
    requests = len(evaluations(tmp_path / "asked")) - len(asked[0])
    assert requests > 0
    assert asked[0] == [step for step in asked[0] if step % 4 == 0]
    assert asked[1] % 4 == 0
    assert quiet[1] % 4 == 0


def test_observe_changes_no_weight(tmp_path):
    """The weights equal those without the callback, bit for bit."""
    plain, watched = build(tmp_path / "p"), build(tmp_path / "w", own_run(tmp_path, "observe"))
    plain.train()
    watched.train()
    for name, weight in plain.model.state_dict().items():
        assert torch.equal(weight, watched.model.state_dict()[name]), name


def test_halt_stops_the_training(tmp_path):
    """The run records the reason."""
    with Run(plugins=[Act(halt=True)], runs=tmp_path / "runs", run_id="a") as run:
        trainer = build(tmp_path, OckhamCallback(run))
        trainer.train()
    assert trainer.state.global_step == 4
    assert read_end(tmp_path)["reason_code"] == "HALTED_BY_POLICY"


def test_person_stops_the_training_or_changes_its_policy(tmp_path):
    """The step is complete, the run records who stopped it, and the changed threshold is in force."""
    runs = str(tmp_path / "runs")
    plugins = [OckhamGatePlugin(surprise_threshold=0.5), Asker(runs, iter_num=5)]
    plugins.append(Asker(runs, iter_num=1, setting="gate.surprise_threshold=90.0"))
    plugins[-1].name = "second"
    with Run(plugins=plugins, runs=tmp_path / "runs", run_id="a") as run:
        trainer = build(tmp_path, OckhamCallback(run))
        trainer.train()
    assert trainer.state.global_step == 6
    assert read_end(tmp_path)["reason_code"] == "STOPPED_BY_USER"
    assert tiny_model.read_verdicts(tmp_path) == [True] * 2 + [False] * 4
    [applied] = tiny_model.read_events(tmp_path, "intervention.applied")
    assert applied["changes"] == [{"setting": "gate.surprise_threshold", "before": 0.5, "after": 90.0}]
    tiny_model.assert_sound_run(tmp_path, batches=6)


class SecondLoss(transformers.Trainer):
    """Differentiates another loss by itself, next to the one that the Trainer computes."""

    def training_step(self, model, inputs, num_items_in_batch=None):
        loss = super().training_step(model, inputs, num_items_in_batch)
        model.transformer.wte.weight.square().mean().backward()
        return loss


def test_gradient_of_a_skipped_step_is_dropped(tmp_path):
    """The step is skipped as the log reports it, whatever else was differentiated."""
    before = {}

    class Compare(transformers.TrainerCallback):
        def on_step_end(self, args, state, control, model=None, **_):
            weights = {name: p.detach().clone() for name, p in model.named_parameters()}
            moved.append(bool(before) and any(not torch.equal(before[n], w) for n, w in weights.items()))
            before.update(weights)

    moved = []
    build(tmp_path, own_run(tmp_path), Compare(), trainer=SecondLoss).train()
    updated = tiny_model.read_verdicts(tmp_path)
    assert updated.count(False) > 3
    assert not any(did for did, may in zip(moved[1:], updated[1:], strict=True) if not may)
    batches = [
        e["data"] for e in events(RunFolder(tmp_path / "runs", "a")) if e["data"].get("hook") == "batch"
    ]
    causes = [data["applied"].get("cause") for data in batches]
    assert causes == [None if may else "GRADIENT_DROPPED" for may in updated]


@pytest.mark.filterwarnings("ignore:iteration .* a verdict was not carried out")
def test_gradient_of_a_skipped_micro_batch_is_reported(tmp_path):
    """It cannot be separated from that of an accepted one."""
    with make_run(tmp_path) as run:
        build(tmp_path, OckhamCallback(run), trainer=SecondLoss, gradient_accumulation_steps=4).train()
    found = [
        event["data"]["reason_code"]
        for event in events(RunFolder(tmp_path / "runs", "a"))
        if event["type"] == "ockham.verdict.not_applied.v1"
    ]
    assert set(found) == {"GRADIENT_OF_SKIPPED_BATCH"}
    assert verify_run(RunFolder(tmp_path / "runs", "a")).counts["not applied"] == len(found)


def test_policy_gradient_trainer_is_observed_only(tmp_path):
    """Its loss is near zero whatever the batch contains."""

    class GRPOTrainer(transformers.Trainer):
        """Has the name of TRL's class."""

    with pytest.raises(BadInputError, match=r"GRPOTrainer: .* use policy='observe'"):
        build(tmp_path, own_run(tmp_path), trainer=GRPOTrainer).train()


def test_loss_that_is_not_one_number_is_an_error(tmp_path):
    """The message names the Trainer."""

    class Several(transformers.Trainer):
        def compute_loss(self, model, inputs, **_):
            return super().compute_loss(model, inputs).repeat(2)

    with pytest.raises(BadInputError, match="compute_loss of Several returned Tensor"):
        build(tmp_path, own_run(tmp_path), trainer=Several).train()


def test_accepted_checkpoint_of_lora_contains_the_adapter_only(tmp_path):
    """PEFT loads it onto the base. Anchor and drift are those of the adapter."""
    peft = pytest.importorskip("peft")
    overrides = (
        "anchor.per_run=0",
        "gate.shadow=true",
        "memory.quality_fraction=3.0",
        "memory.min_oq_improvement=0.0",
    )
    callback = own_run(tmp_path, overrides=overrides)
    trainer = build(tmp_path, callback, model=make_lora, eval_strategy="steps", eval_steps=8, max_steps=8)
    trainer.train()
    saved = tiny_model.read_events(tmp_path, "checkpoint.saved")[0]
    folder = tmp_path / "runs" / "a" / "checkpoints" / saved["snapshot_id"]
    names = {file.name for file in folder.iterdir()}
    assert names == {"model.safetensors", "adapter_model.safetensors", "adapter_config.json"}
    trained = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
    assert (folder / "model.safetensors").stat().st_size < 4 * trained + 4096
    loaded = peft.PeftModel.from_pretrained(models.make_gpt2(), folder)
    for name, weight in trainer.model.named_parameters():
        assert torch.equal(weight, loaded.get_parameter(name)), name
