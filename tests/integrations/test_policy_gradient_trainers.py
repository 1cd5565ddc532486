"""TRL trainers that maximise a reward: observed without a change, and refused for a policy that acts."""

from __future__ import annotations

import warnings

import pytest
import torch

from ockham.errors import BadInputError
from ockham.record.run_folder import RunFolder
from ockham.record.verify.run import verify_run
from ockham.replay.runner import replay_run
from tests.helpers.figure_runs import counted_contexts

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("transformers", reason="transformers is not installed")
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    trl = pytest.importorskip("trl", reason="trl is not installed")
    from ockham.integrations.huggingface import OckhamCallback
    from tests.integrations import huggingface_models as models

pytestmark = pytest.mark.filterwarnings("ignore")
STEPS = 4


def reward_first_word(completions, **_):
    """Return how often each completion contains w1."""
    return [float(text.count("w1")) for text in completions]


def make_trainer(folder, algorithm, *callbacks):
    """Return a trainer that generates four completions of each prompt."""
    torch.manual_seed(0)
    arguments = getattr(trl, f"{algorithm}Config")(
        output_dir=str(folder),
        max_steps=STEPS,
        per_device_train_batch_size=4,
        num_generations=4,
        max_completion_length=6,
        learning_rate=1e-2,
        # With a KL penalty, RLOO would load a reference model from a hub.
        beta=0.0,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        bf16=False,
        disable_tqdm=True,
    )
    return getattr(trl, f"{algorithm}Trainer")(
        model=models.make_gpt2(),
        reward_funcs=reward_first_word,
        args=arguments,
        train_dataset=datasets.Dataset.from_list([{"prompt": f"w{i} w{i + 1}"} for i in range(16)]),
        processing_class=models.make_tokenizer(),
        callbacks=list(callbacks),
    )


@pytest.mark.parametrize("algorithm", ["GRPO", "RLOO"])
def test_observed_trainer_has_the_weights_of_one_without_callback(tmp_path, algorithm):
    """Each row has the loss, norm and learning rate that the trainer logs itself."""
    plain = make_trainer(tmp_path / "plain", algorithm)
    plain.train()
    observed = make_trainer(
        tmp_path / "observed",
        algorithm,
        OckhamCallback(policy="observe", runs=str(tmp_path / "runs"), run_id="a"),
    )
    observed.train()
    pairs = zip(plain.model.parameters(), observed.model.parameters(), strict=True)
    assert all(torch.equal(first, second) for first, second in pairs)
    logged = [row for row in observed.state.log_history if "loss" in row]
    rows = counted_contexts(tmp_path / "runs", "a")
    assert len(rows) == len(logged) == STEPS
    for row, own in zip(rows, logged, strict=True):
        assert row["applied"]["updated"] is True
        assert row["given"]["task_loss"] == pytest.approx(own["loss"], abs=1e-6)
        assert row["measured"]["grad_norm"] == pytest.approx(own["grad_norm"], rel=1e-6)
        assert row["applied"]["learning_rates"] == pytest.approx([own["learning_rate"]] * 2, rel=1e-12)
    folder = RunFolder(tmp_path / "runs", "a")
    assert verify_run(folder).sound
    assert replay_run(folder).identical


@pytest.mark.parametrize("algorithm", ["GRPO", "RLOO"])
def test_policy_that_acts_is_refused_before_the_first_step(tmp_path, algorithm):
    """The loss is near zero whatever the batch contains, so a gate would judge noise."""
    trainer = make_trainer(
        tmp_path / "out", algorithm, OckhamCallback(policy="balanced", runs=str(tmp_path / "runs"))
    )
    before = [parameter.clone() for parameter in trainer.model.parameters()]
    with pytest.raises(BadInputError, match=rf"{algorithm}Trainer: .* use policy='observe'"):
        trainer.train()
    assert all(map(torch.equal, before, trainer.model.parameters()))
