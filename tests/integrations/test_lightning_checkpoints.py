"""Lightning callback: a training that continues from a checkpoint file is a further attempt of its run."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import warnings

import pytest
import torch

import ockham
from ockham.errors import BadInputError, CheckpointError
from ockham.record.checkpoint_path import ANCHOR_FILE, STATE_FILE
from ockham.record.run_folder import RunFolder
from ockham.record.verify.run import verify_run
from ockham.replay.runner import replay_run
from ockham.run import Run
from tests.helpers import step_truth, tiny_model
from tests.helpers.events import events
from tests.helpers.forked_cli import ockham as command

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pl = pytest.importorskip("lightning.pytorch", reason="lightning is not installed")
    from lightning.pytorch.callbacks import ModelCheckpoint
    from lightning.pytorch.plugins.io import AsyncCheckpointIO

    from ockham.integrations.lightning import OckhamCallback
    from tests.integrations.lightning_models import ManualModule, Module, fit, make_loader
    from tests.integrations.test_lightning_events import FACTS, make_callback

pytestmark = pytest.mark.filterwarnings(
    "ignore:::(lightning|torch)",
    "ignore:.*litlogger.*",
    "ignore:.*TreeSpec.*",
    "ignore:.*callbacks used to create the checkpoint",
    "ignore:You're resuming from a checkpoint",
)

EPOCH = 8


class StopAt(pl.Callback):
    """Ends the training before a batch."""

    def __init__(self, batch: int) -> None:
        self.batch, self.seen = batch, 0

    def on_train_batch_start(self, *_):
        self.seen += 1
        if self.seen == self.batch:
            raise ZeroDivisionError


def train(folder, *, make=Module, run=None, callback=None, stop=None, saver=None, **options):
    """Train three epochs with a checkpoint after each validation. Return module and Trainer."""
    callback = callback or (OckhamCallback(run) if run is not None else make_callback(folder))
    saver = saver or ModelCheckpoint(folder, save_top_k=-1, filename="{epoch}")
    defaults = {"train": make_loader(EPOCH), "max_steps": -1, "max_epochs": 3, "val_check_interval": EPOCH}
    defaults |= {"enable_checkpointing": True, "callbacks": [saver, *([StopAt(stop)] if stop else [])]}
    module = make(callback)
    if stop is None:
        return fit(folder, callback, module, **{**defaults, **options})
    with pytest.raises(ZeroDivisionError):
        fit(folder, callback, module, **{**defaults, **options})
    return module, None


def make_automatic(_):
    """Return a module that Lightning optimises."""
    return Module()


def make_manual(callback):
    """Return a module that takes the steps of two optimizers by itself."""
    return ManualModule(callback, optimizers=2)


def trajectory(folder):
    """Return the recorded batches and evaluations that no later attempt has superseded."""
    return ockham.Catalog(folder / "runs").rows(
        "select * exclude (event_id, run_id, attempt, sequence, time, seconds, first_decision, signed) "
        "from contexts where not superseded order by iter_num, micro_step, hook"
    )


def require_proven(folder):
    """Check that the run is sound and replays identically."""
    run_folder = RunFolder(folder / "runs", "a")
    report = verify_run(run_folder)
    assert report.sound, report.findings
    assert replay_run(run_folder).identical


def first_events(folder, kind, attempt=1):
    """Return the data of all events of a kind in one attempt."""
    log = events(RunFolder(folder / "runs", "a"), attempt)
    return [event["data"] for event in log if event["type"] == f"ockham.{kind}.v1"]


@pytest.mark.parametrize(
    ("make", "options"),
    [(make_automatic, {}), (make_automatic, {"accumulate_grad_batches": 3}), (make_manual, {})],
    ids=["automatic", "accumulation", "manual"],
)
def test_resumed_run_decides_as_the_uninterrupted_one(tmp_path, make, options):
    """The same run continues as attempt 2. Weights and every number are equal bit for bit."""
    whole, _ = train(tmp_path / "whole", make=make, **options)
    part = tmp_path / "part"
    train(part, make=make, stop=EPOCH + 5, **options)
    callback = OckhamCallback(runs=part / "runs", facts=FACTS)
    resumed, _ = train(part, make=make, callback=callback, ckpt_path=part / "epoch=0.ckpt", **options)
    require_proven(part)
    assert trajectory(part) == trajectory(tmp_path / "whole")
    assert any(not row["updated"] for row in trajectory(part)[EPOCH:] if row["hook"] == "batch")
    assert all(map(torch.equal, whole.parameters(), resumed.parameters()))
    [event] = first_events(part, "run.resumed", 2)
    assert event["reason_code"] == "RESUMED_FROM_CHECKPOINT"
    assert event["snapshot_id"] == first_events(part, "checkpoint.saved")[0]["snapshot_id"]


def test_event_names_the_file_and_the_state_next_to_it(tmp_path):
    """Two files of one step have events of their own, and a removed file takes its state with it."""
    saver = ModelCheckpoint(tmp_path, save_top_k=1, filename="{epoch}", save_last=True)
    train(tmp_path, make=make_automatic, saver=saver)
    saved = first_events(tmp_path, "checkpoint.saved")
    assert len({event["snapshot_id"] for event in saved}) == len(saved) == 6
    names = [file["name"] for file in saved[-1]["files"]]
    assert names == ["last.ckpt", f"last.ckpt.{ANCHOR_FILE}", f"last.ckpt.{STATE_FILE}"]
    assert saved[-1]["folder"] == str(tmp_path)
    assert saved[-1]["weights_sha256"] == saved[-1]["files"][0]["sha256"]
    left = {path.name.partition(".ckpt")[0] for path in tmp_path.iterdir() if ".ckpt" in path.name}
    assert left == {"epoch=2", "last"}
    require_proven(tmp_path)


@pytest.mark.parametrize("make", [make_automatic, make_manual], ids=["automatic", "manual"])
def test_first_checkpoint_at_the_end_of_a_training_is_recorded(tmp_path, make):
    """Lightning writes `last.ckpt` after the callbacks, if no checkpoint was due before."""
    saver = ModelCheckpoint(tmp_path, save_top_k=0, every_n_epochs=100, save_last=True)
    train(tmp_path, make=make, saver=saver)
    digest = hashlib.sha256((tmp_path / "last.ckpt").read_bytes()).hexdigest()
    [saved] = first_events(tmp_path, "checkpoint.saved")
    assert (saved["iter_num"], saved["files"][0]["name"]) == (3 * EPOCH - 1, "last.ckpt")
    assert saved["files"][0]["sha256"] == digest
    [ended] = first_events(tmp_path, "run.finished")
    assert ended["reason_code"] == "COMPLETED"
    assert command(tmp_path / "runs", "lineage", str(tmp_path / "last.ckpt")).returncode == 0
    require_proven(tmp_path)


@pytest.mark.parametrize(
    "name", ["epoch=1.ckpt", f"epoch=1.ckpt.{ANCHOR_FILE}", f"epoch=1.ckpt.{STATE_FILE}"]
)
def test_lineage_knows_each_file(tmp_path, name):
    """A moved or renamed file is found, and a changed one is not confirmed."""
    train(tmp_path, make=make_automatic)

    def trace(path):
        done = command(tmp_path / "runs", "lineage", str(path))
        return done.returncode, done.stdout + done.stderr

    status, text = trace(tmp_path / name)
    assert status == 0, text
    assert "run a, attempt 1, iteration 15, kind trainer" in text
    assert f"written by another trainer to {tmp_path}/epoch=1.ckpt" in text
    other = tmp_path / "other"
    other.mkdir()
    for path in tmp_path.glob("epoch=1.ckpt*"):
        path.rename(other / path.name.replace("epoch=1", "best"))
    moved = other / name.replace("epoch=1", "best")
    assert trace(moved)[0] == 0
    shutil.copy(other / "best.ckpt", tmp_path / "copy.ckpt")
    assert trace(tmp_path / "copy.ckpt")[0] == 0
    moved.write_bytes(moved.read_bytes() + b" ")
    for path in (moved, other / "best.ckpt"):
        status, text = trace(path)
        assert status == 1, text
        assert f"{moved}: differs from the log" in text


def test_changed_checkpoint_is_refused_before_the_trainer_reads_it(tmp_path):
    """No attempt is opened, and the file is not unpickled."""
    train(tmp_path, make=make_automatic)
    path = tmp_path / "epoch=1.ckpt"
    path.write_bytes(b"not a pickle")
    with pytest.raises(CheckpointError, match=r"epoch=1.ckpt: differs from the log.*another checkpoint"):
        train(tmp_path, make=make_automatic, ckpt_path=path)
    assert RunFolder(tmp_path / "runs", "a").last_attempt() == 1
    require_proven(tmp_path)


def test_link_to_the_last_checkpoint_is_followed(tmp_path):
    """`save_last="link"` makes a link in place of a second file."""
    saver = ModelCheckpoint(tmp_path, save_top_k=-1, filename="{epoch}", save_last="link")
    train(tmp_path, make=make_automatic, saver=saver, max_epochs=2)
    assert (tmp_path / "last.ckpt").is_symlink()
    assert command(tmp_path / "runs", "lineage", str(tmp_path / "last.ckpt")).returncode == 0
    train(tmp_path, make=make_automatic, ckpt_path=tmp_path / "last.ckpt")
    assert first_events(tmp_path, "run.resumed", 2)[0]["iter_num"] == 16
    require_proven(tmp_path)


def test_kill_before_the_event_leaves_an_unconfirmed_checkpoint(tmp_path):
    """The file is complete, and the message names the one before it."""
    path = tmp_path / "epoch=1.ckpt"

    def kill(self, checkpoint, state):
        if checkpoint == path:
            os.kill(os.getpid(), signal.SIGKILL)
        return record(self, checkpoint, state)

    record = Run.record_checkpoint
    child = os.fork()
    if child == 0:
        try:
            Run.record_checkpoint = kill
            train(tmp_path, make=make_automatic)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    with pytest.raises(CheckpointError, match=r"no signed event.*can be used: .*epoch=0.ckpt"):
        train(tmp_path, make=make_automatic, ckpt_path=path)
    train(tmp_path, make=make_automatic, ckpt_path=tmp_path / "epoch=0.ckpt")
    require_proven(tmp_path)


def test_open_run_continues_with_the_resume_point_of_a_checkpoint(tmp_path):
    """Another point or none is an error before the first batch."""
    train(tmp_path / "whole", make=make_automatic)
    part = tmp_path / "part"
    train(part, make=make_automatic, stop=EPOCH + 3)
    path = part / "epoch=0.ckpt"
    with Run("balanced", runs=part / "runs", run_id="new", facts=FACTS) as run:
        with pytest.raises(BadInputError, match=r"run 'new' begins at 0: it belongs to run 'a'.*begin_at\(8"):
            train(part, make=make_automatic, run=run, ckpt_path=path)
    point = ockham.find_trainer_resume_point(path, part / "runs")
    with Run(runs=part / "runs", resumed=point, facts=FACTS) as run:
        train(part, make=make_automatic, run=run, ckpt_path=path)
    require_proven(part)
    shutil.rmtree(part / "runs" / "new")
    assert trajectory(part) == trajectory(tmp_path / "whole")


def test_checkpoint_of_an_unknown_run_starts_a_run_at_its_step(tmp_path):
    """The first event contains the step and the reason."""
    saver = ModelCheckpoint(tmp_path, every_n_train_steps=20, save_top_k=-1, filename="{step}")
    fit(tmp_path, None, max_steps=20, callbacks=[saver], enable_checkpointing=True)
    with pytest.warns(UserWarning, match=f"new run begins at iteration 20.*no step=20.ckpt.{STATE_FILE}"):
        module, _ = fit(tmp_path, make_callback(tmp_path), ckpt_path=tmp_path / "step=20.ckpt")
    assert [c["iter_num"] for c in tiny_model.read_batches(tmp_path)] == list(range(20, 40))
    [event] = first_events(tmp_path, "run.started")
    assert (event["iter_num"], event["reason_code"]) == (20, "STARTED_LATE")
    assert event["settings"]["resumed_from_step"] == 20
    result = step_truth.compare(tmp_path, module.truth)
    assert not result.problems, result.problems[:5]


def test_trainer_without_ockham_continues_from_a_checkpoint_of_a_run(tmp_path):
    """The file is as Lightning writes it."""
    train(tmp_path, make=make_automatic, stop=EPOCH + 3)
    _, trainer = fit(tmp_path, None, train=make_loader(20), max_steps=12, ckpt_path=tmp_path / "epoch=0.ckpt")
    assert trainer.global_step == 12


@pytest.mark.parametrize("situation", ["inside of a step", "asynchronous"])
def test_checkpoint_that_cannot_be_resumed_is_not_recorded(tmp_path, situation):
    """A warning names the file, and nothing is next to it."""

    class Save(pl.Callback):
        def on_after_backward(self, trainer, pl_module):
            if situation == "inside of a step" and trainer.global_step == 3:
                trainer.save_checkpoint(tmp_path / "inside.ckpt")

        def on_train_epoch_end(self, trainer, pl_module):
            if situation == "asynchronous" and trainer.current_epoch == 0:
                trainer.save_checkpoint(tmp_path / "inside.ckpt")

    plugins = {"plugins": [AsyncCheckpointIO()]} if situation == "asynchronous" else {}
    options = {"callbacks": [Save()], "train": make_loader(4), **plugins}
    options["val_check_interval"] = 4
    with pytest.warns(UserWarning, match=r"inside.ckpt is not recorded"):
        fit(tmp_path, make_callback(tmp_path), max_steps=8, **options)
    assert first_events(tmp_path, "checkpoint.saved") == []
    assert [path.name for path in tmp_path.glob("inside.ckpt*")] == ["inside.ckpt"]
