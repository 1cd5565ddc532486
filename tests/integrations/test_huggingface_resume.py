"""Hugging Face callback: a training that continues from a checkpoint is a further attempt of its run."""

from __future__ import annotations

import os
import shutil
import signal
import warnings

import orjson
import pytest
import torch

import ockham
from ockham.errors import BadInputError, CheckpointError
from ockham.record.checkpoint_path import STATE_FILE
from ockham.record.verify import standalone
from ockham.record.verify.run import verify_run
from ockham.replay.runner import replay_run
from ockham.run import Run
from tests.helpers.forked_cli import ockham as command

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    pytest.importorskip("accelerate", reason="accelerate is not installed")
    from ockham.integrations.huggingface import OckhamCallback
    from ockham.integrations.huggingface_checkpoints import TrainerCheckpoints
    from tests.integrations import huggingface_models as models
    from tests.integrations.huggingface_cells import Case, make_lora, make_trainer

pytestmark = pytest.mark.filterwarnings("ignore:::(transformers|accelerate|torch|peft)")

STEPS, SAVED, KILLED = 24, 8, 11
EVALUATE = {"eval_strategy": "steps", "eval_steps": 4}
SAVE = {"save_strategy": "steps", "save_steps": SAVED, "max_steps": STEPS}


class StopAt(transformers.TrainerCallback):
    """Ends the training after a step, as Ctrl-C does."""

    def __init__(self, step: int = KILLED) -> None:
        self.step = step

    def on_step_end(self, args, state, control, **_):
        if state.global_step == self.step:
            raise KeyboardInterrupt


def train(folder, case, *, stop=None, resume=None, run=None, policy="balanced", run_id=None, last=None):
    """Train one case in a folder, as a program that is started again. Return the Trainer."""
    callback = (
        OckhamCallback(policy=policy, runs=folder / "runs", run_id=run_id)
        if run is None
        else OckhamCallback(run)
    )
    torch.manual_seed(0)
    callbacks = [callback] if stop is None else [callback, StopAt(stop)]
    options = {**SAVE, **case.options, **({} if last is None else {"max_steps": last})}
    keywords = {"eval_dataset": case.rows(8), "train_dataset": models.make_rows(4 * STEPS), **case.keywords}
    trainer = make_trainer(
        folder, Case(**{**vars(case), "options": options, "keywords": keywords}), callbacks
    )
    if stop is None:
        trainer.train(resume_from_checkpoint=resume)
        return trainer
    with pytest.raises(KeyboardInterrupt):
        trainer.train(resume_from_checkpoint=resume)
    return trainer


def trajectory(folder, *, first=0):
    """Return the recorded batches and evaluations that no later attempt has superseded."""
    return ockham.Catalog(folder / "runs").rows(
        "select * exclude (event_id, run_id, attempt, sequence, time, seconds, first_decision, signed) "
        f"from contexts where not superseded and iter_num >= {first} order by iter_num, micro_step, hook"
    )


def the_run(folder):
    """Return the ID of the only run."""
    [run_id] = [path.name for path in (folder / "runs").iterdir() if not path.name.startswith("_")]
    return run_id


def require_proven(folder, run_id, capsys):
    """Check that both verifiers and the replay find nothing."""
    run_folder = ockham.RunFolder(folder / "runs", run_id)
    report = verify_run(run_folder)
    assert report.sound, report.findings
    files = standalone.load(run_folder.path)
    key = standalone.parse_key(orjson.loads(files["run.json"])["verifier_key"])
    assert standalone.verify_archive(files, run_id, key, known=True) == 0
    capsys.readouterr()
    replayed = replay_run(run_folder)
    assert replayed.identical, replayed


def first_events(folder, kind):
    """Return the data of all events of a kind."""
    rows = ockham.Catalog(folder / "runs").rows(
        f"select data from events where type = 'ockham.{kind}.v1' order by attempt, sequence"
    )
    return [orjson.loads(row["data"]) for row in rows]


def checkpoint(folder, step=SAVED):
    """Return the Trainer's checkpoint after a step."""
    return folder / "hf" / f"checkpoint-{step}"


CASES = {
    "plain": Case(),
    "evaluations": Case(options=EVALUATE),
    "accumulation": Case(options={"gradient_accumulation_steps": 3, "max_steps": 16}),
    "LoRA": Case(model=make_lora, options=EVALUATE),
}


@pytest.mark.parametrize("name", CASES)
def test_resumed_run_decides_as_the_uninterrupted_one(tmp_path, capsys, name):
    """The same run continues as attempt 2, and every number after the checkpoint is equal bit for bit."""
    case = CASES[name]
    whole = train(tmp_path / "whole", case)
    part = tmp_path / "part"
    train(part, case, stop=KILLED)
    resumed = train(part, case, resume=str(checkpoint(part)))

    run_id = the_run(part)
    require_proven(part, run_id, capsys)
    assert trajectory(part) == trajectory(tmp_path / "whole")
    assert any(not row["updated"] for row in trajectory(part, first=SAVED) if row["hook"] == "batch")
    pairs = zip(whole.model.parameters(), resumed.model.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    lost = ockham.Catalog(part / "runs").rows(
        "select distinct attempt, iter_num from contexts where superseded order by iter_num"
    )
    assert [(row["attempt"], row["iter_num"]) for row in lost] == [(1, i) for i in range(SAVED, KILLED)]
    [event] = first_events(part, "run.resumed")
    assert (event["iter_num"], event["snapshot_id"]) == (SAVED, f"trainer-{SAVED - 1:08d}")


def test_open_run_continues_with_the_resume_point_of_a_checkpoint(tmp_path, capsys):
    """`OckhamCallback(run)` restores the state that `find_trainer_resume_point` found."""
    train(tmp_path / "whole", Case())
    part = tmp_path / "part"
    train(part, Case(), stop=KILLED)
    point = ockham.find_trainer_resume_point(checkpoint(part), part / "runs")
    with Run(runs=part / "runs", resumed=point) as run:
        train(part, Case(), resume=str(checkpoint(part)), run=run)
    require_proven(part, point.run_id, capsys)
    assert trajectory(part) == trajectory(tmp_path / "whole")


def test_two_resumes_continue_the_same_run(tmp_path, capsys):
    """The third attempt starts from a checkpoint of the second. `True` takes the newest confirmed one."""
    train(tmp_path / "whole", Case())
    part = tmp_path / "part"
    train(part, Case(), stop=KILLED)
    train(part, Case(), stop=KILLED + SAVED, resume=str(checkpoint(part)))
    train(part, Case(), resume=True)
    require_proven(part, the_run(part), capsys)
    assert trajectory(part) == trajectory(tmp_path / "whole")
    assert [event["iter_num"] for event in first_events(part, "run.resumed")] == [SAVED, 2 * SAVED]


def test_resume_with_true_passes_over_superseded_checkpoints(tmp_path, capsys):
    """The newest folder is of steps that no longer count, so the Trainer must not continue from it."""
    train(tmp_path, Case(), stop=2 * SAVED + 1)
    train(tmp_path, Case(), stop=SAVED + 2, resume=str(checkpoint(tmp_path)))
    assert checkpoint(tmp_path, 2 * SAVED).exists()
    with pytest.warns(UserWarning, match="superseded"):
        train(tmp_path, Case(), resume=True)
    require_proven(tmp_path, the_run(tmp_path), capsys)
    assert [event["iter_num"] for event in first_events(tmp_path, "run.resumed")] == [SAVED, SAVED]


def test_changed_checkpoint_is_refused_before_the_trainer_reads_it(tmp_path, capsys):
    """No attempt is opened, and the model keeps its weights."""
    train(tmp_path, Case(), stop=KILLED)
    path = checkpoint(tmp_path) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x55")
    with pytest.raises(CheckpointError, match=r"model.safetensors: differs from the log.*another checkpoint"):
        train(tmp_path, Case(), resume=str(checkpoint(tmp_path)))
    with pytest.warns(UserWarning, match="not used"), pytest.raises(CheckpointError, match="differs"):
        train(tmp_path, Case(), resume=True)
    assert first_events(tmp_path, "run.resumed") == []
    require_proven(tmp_path, the_run(tmp_path), capsys)


def train_and_kill(folder, step):
    """Train in a process that gets kill -9 between the Trainer's checkpoint of a step and its event."""

    def kill(self, run):
        if self._unsigned[0] == checkpoint(folder, step):
            os.kill(os.getpid(), signal.SIGKILL)
        sign(self, run)

    sign = TrainerCheckpoints.sign
    child = os.fork()
    if child == 0:
        try:
            TrainerCheckpoints.sign = kill
            train(folder, Case())
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def test_kill_before_the_event_of_a_checkpoint_leaves_the_one_before(tmp_path, capsys):
    """The complete but unsigned checkpoint is refused by name, and `True` takes the signed one before it."""
    train(tmp_path / "whole", Case())
    part = tmp_path / "part"
    train_and_kill(part, 16)
    assert (checkpoint(part, 16) / "trainer_state.json").exists()
    with pytest.raises(CheckpointError, match=rf"no signed event.*can be used: {checkpoint(part)}"):
        train(part, Case(), resume=str(checkpoint(part, 16)))
    with pytest.warns(UserWarning, match=r"not used: .*checkpoint-16"):
        train(part, Case(), resume=True)
    require_proven(part, the_run(part), capsys)
    assert trajectory(part) == trajectory(tmp_path / "whole")


def test_checkpoint_newer_than_the_log_is_refused(tmp_path):
    """The runs folder was restored from a copy that is older than the checkpoint."""
    train(tmp_path, Case(), stop=SAVED + 1)
    shutil.copytree(tmp_path / "runs", tmp_path / "copy")
    train(tmp_path, Case(), stop=2 * SAVED + 1, resume=True)
    shutil.rmtree(tmp_path / "runs")
    (tmp_path / "copy").rename(tmp_path / "runs")
    with pytest.raises(CheckpointError, match=r"or the log is older than the checkpoint.*checkpoint-8"):
        train(tmp_path, Case(), resume=str(checkpoint(tmp_path, 2 * SAVED)))


def train_without(folder):
    """Train without Ockham and stop."""
    trainer = make_trainer(folder, Case(options=SAVE), [StopAt()])
    with pytest.raises(KeyboardInterrupt):
        trainer.train()


def test_checkpoint_without_a_run_starts_a_new_run_at_its_step(tmp_path, capsys):
    """The first event contains the step and the reason. No batch has the number 0."""
    train_without(tmp_path)
    with pytest.warns(UserWarning, match=f"new run begins at iteration {SAVED}.*has no {STATE_FILE}"):
        train(tmp_path, Case(), resume=str(checkpoint(tmp_path)), run_id="a")
    [event] = first_events(tmp_path, "run.started")
    assert (event["iter_num"], event["reason_code"]) == (SAVED, "STARTED_LATE")
    assert "checkpoint-8 at step 8" in event["warnings"][0]
    assert trajectory(tmp_path)[0]["iter_num"] == SAVED
    require_proven(tmp_path, "a", capsys)
    # The new run's own checkpoints can be resumed.
    train(tmp_path, Case(), resume=str(checkpoint(tmp_path, 2 * SAVED)), run_id="a")
    require_proven(tmp_path, "a", capsys)


@pytest.mark.parametrize("other", ["another ID", "no such run"])
def test_checkpoint_of_another_run_starts_a_new_run_at_its_step(tmp_path, capsys, other):
    """The warning names the run of the checkpoint."""
    train(tmp_path, Case(), stop=KILLED, run_id="a")
    if other == "no such run":
        shutil.rmtree(tmp_path / "runs")
    with pytest.warns(UserWarning, match="new run begins at iteration 8.*run 'a'"):
        train(
            tmp_path, Case(), resume=str(checkpoint(tmp_path)), run_id="b" if other == "another ID" else None
        )
    new = "b" if other == "another ID" else the_run(tmp_path)
    require_proven(tmp_path, new, capsys)
    [event] = [event for event in first_events(tmp_path, "run.started") if "iter_num" in event]
    assert "run 'a'" in event["warnings"][0]


def test_trainer_without_ockham_continues_from_a_checkpoint_of_a_run(tmp_path):
    """The additional files do not disturb the Trainer."""
    train(tmp_path, Case(), stop=KILLED)
    trainer = make_trainer(tmp_path, Case(options=SAVE), [])
    trainer.train(resume_from_checkpoint=str(checkpoint(tmp_path)))
    assert trainer.state.global_step == STEPS


def test_open_run_that_does_not_continue_the_checkpoint_is_an_error(tmp_path):
    """A new run would call step 8 its first, and a resumed one would supersede batches that count."""
    train(tmp_path, Case(), stop=KILLED, run_id="a")
    path, runs = str(checkpoint(tmp_path)), tmp_path / "runs"
    with Run("balanced", runs=runs, run_id="new") as run:
        with pytest.raises(BadInputError, match=r"run 'new' begins at 0: it belongs to run 'a'.*begin_at\(8"):
            train(tmp_path, Case(), resume=path, run=run)
    point = ockham.find_trainer_resume_point(path, runs)
    with Run(runs=runs, resumed=point) as run:
        message = "run 'a' continues at iteration 8, and the training at step 0"
        with pytest.raises(BadInputError, match=message):
            train(tmp_path, Case(), run=run)


def test_run_that_began_again_is_not_continued_from_a_checkpoint(tmp_path):
    """All its earlier batches are superseded, and the weights of the checkpoint contain them."""
    train(tmp_path, Case(), stop=KILLED, run_id="a")
    path, runs = str(checkpoint(tmp_path)), tmp_path / "runs"
    with pytest.raises(CheckpointError, match=r"find_trainer_resume_point.*checkpoint-8"):
        ockham.find_resume_point(runs, "a")
    start = ockham.find_resume_point(runs, "a", snapshot_id="start")
    with Run(runs=runs, resumed=start) as run:
        with pytest.raises(CheckpointError, match="a later attempt of run 'a' has superseded it"):
            train(tmp_path, Case(), resume=path, run=run)


def test_open_run_begins_late_when_it_was_told(tmp_path, capsys):
    """`begin_at` records the first step of a run that the user opens."""
    train_without(tmp_path)
    run = Run("balanced", runs=tmp_path / "runs", run_id="a").begin_at(SAVED, "trained before")
    with run:
        train(tmp_path, Case(), resume=str(checkpoint(tmp_path)), run=run)
    require_proven(tmp_path, "a", capsys)


def test_second_training_of_a_block_continues_only_from_its_last_step(tmp_path, capsys):
    """Other weights belong into another attempt."""
    with Run("balanced", runs=tmp_path / "runs", run_id="a") as run:
        callback = OckhamCallback(run)
        rows = models.make_rows(4 * STEPS)
        case = Case(options={**SAVE, "max_steps": 2 * SAVED}, keywords={"train_dataset": rows})
        trainer = make_trainer(tmp_path, case, [callback])
        trainer.train()
        trainer.args.max_steps = STEPS
        with pytest.raises(BadInputError, match=r"has reached iteration 16, and .*checkpoint-8 has other"):
            trainer.train(resume_from_checkpoint=str(checkpoint(tmp_path)))
        trainer.train(resume_from_checkpoint=str(checkpoint(tmp_path, 2 * SAVED)))
    require_proven(tmp_path, "a", capsys)
    assert [row["iter_num"] for row in trajectory(tmp_path)] == list(range(STEPS))


def test_rotated_checkpoints_are_no_finding(tmp_path, capsys):
    """The Trainer keeps one checkpoint. The log names all of them."""
    train(tmp_path, Case(options={"save_total_limit": 1}))
    assert not checkpoint(tmp_path).exists()
    require_proven(tmp_path, the_run(tmp_path), capsys)
    names = [
        row["snapshot_id"] for row in ockham.Catalog(tmp_path / "runs").rows("select * from checkpoints")
    ]
    assert names == ["trainer-00000007", "trainer-00000015", "trainer-00000023"]


def test_every_file_of_a_checkpoint_is_in_its_event(tmp_path):
    """Weights, optimizer, random numbers, the Trainer's state, and the run's state and anchor."""
    train(tmp_path, Case(), stop=KILLED)
    [event] = first_events(tmp_path, "checkpoint.saved")
    there = {path.name for path in checkpoint(tmp_path).iterdir()}
    assert {file["name"] for file in event["files"]} == there
    assert there >= {"model.safetensors", "optimizer.pt", "trainer_state.json", STATE_FILE}
    assert event["folder"] == str(checkpoint(tmp_path))


@pytest.mark.parametrize(
    ("case", "weights"),
    [(Case(), "model.safetensors"), (Case(model=make_lora), "adapter_model.safetensors")],
    ids=["full", "LoRA"],
)
def test_lineage_knows_the_checkpoints_of_the_trainer(tmp_path, case, weights):
    """The folder and its file of weights lead to run, attempt, iteration and signed event."""
    train(tmp_path, case, stop=KILLED)
    train(tmp_path, case, resume=True)
    [*_, event] = ockham.Catalog(tmp_path / "runs").rows(
        "select event_id from events where type = 'ockham.checkpoint.saved.v1' order by attempt, sequence"
    )
    for path in (checkpoint(tmp_path, STEPS), checkpoint(tmp_path, STEPS) / weights):
        done = command(tmp_path / "runs", "lineage", str(path))
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"run {the_run(tmp_path)}, attempt 2, iteration 23, kind trainer" in done.stdout
        assert f"saved as trainer-00000023.2, event {event['event_id']}" in done.stdout
