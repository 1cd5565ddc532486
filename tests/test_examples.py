"""The programs in `examples/` run offline, and their logs verify and replay."""

from __future__ import annotations

import runpy
import warnings

import pytest

import ockham
from ockham import resources
from ockham.record.verify.run import verify_run
from ockham.replay.runner import replay_run
from tests.helpers.events import events
from tests.helpers.forked_cli import wait
from tests.helpers.ranks import spawn_ranks

EXAMPLES = resources.data_root() / "examples"
RUNS = {
    "own_loop.py": "own-loop",
    "custom_plugin.py": "custom-plugin",
    "distributed_loop.py": "distributed",
    "query_from_python.py": "queried",
    "lightning_manual.py": "lightning-manual",
    "lightning_trainer.py": "lightning",
    "huggingface_trainer.py": "huggingface",
}
PACKAGES = {
    "lightning_manual.py": "lightning",
    "lightning_trainer.py": "lightning",
    "huggingface_trainer.py": "transformers",
}


def run_example(name):
    """Run an example in the working folder, as `python examples/NAME` does."""
    if name in PACKAGES:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pytest.importorskip(PACKAGES[name])
    return runpy.run_path(str(EXAMPLES / name), run_name="__main__")


def iterations(run, *attempts):
    """Return the iterations of the batches that these attempts recorded, in order."""
    found = [event["data"] for attempt in attempts for event in events(run, attempt)]
    return [data["iter_num"] for data in found if data.get("hook") == "batch"]


def test_every_example_is_tested():
    """A new example needs an entry in RUNS."""
    assert set(RUNS) == {path.name for path in EXAMPLES.glob("*.py")}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", RUNS)
def test_log_of_example_verifies_and_replays(name, tmp_path, monkeypatch):
    """Each example writes one run."""
    monkeypatch.chdir(tmp_path)
    run_example(name)
    run = ockham.RunFolder("runs", RUNS[name])
    report = verify_run(run)
    assert report.sound, [str(finding) for finding in report.findings]
    assert replay_run(run).identical


@pytest.mark.parametrize(("name", "batches"), [("distributed_loop.py", 120), ("huggingface_trainer.py", 60)])
def test_example_runs_on_two_ranks(name, batches, tmp_path):
    """Both ranks skip the same micro-batches, and the run verifies and replays."""
    if name in PACKAGES:
        pytest.importorskip("accelerate", reason="accelerate is not installed")
    env = {"OCKHAM_KEY_DIR": str(tmp_path / "keys")}
    done = wait(spawn_ranks(2, str(EXAMPLES / name), cwd=tmp_path, **env))
    assert [process.returncode for process in done] == [0, 0], [process.stderr[-2000:] for process in done]
    run = ockham.RunFolder(tmp_path / "runs", RUNS[name])
    assert verify_run(run).sound
    assert replay_run(run).identical
    verdicts = [
        [event["data"]["left"].get("updated", True) for event in events(run, 1, rank) if _is_batch(event)]
        for rank in (0, 1)
    ]
    assert verdicts[0] == verdicts[1]
    assert 0 < sum(verdicts[0]) < len(verdicts[0]) == batches


def _is_batch(event):
    return event["data"].get("hook") == "batch"


def test_own_loop_continues_after_an_interruption(tmp_path, monkeypatch):
    """The second start trains from the newest resume checkpoint."""
    monkeypatch.chdir(tmp_path)
    end_batch = ockham.Run.end_batch

    def interrupt(self, ctx, **gauges):
        if ctx.iter_num == 70:
            raise KeyboardInterrupt
        return end_batch(self, ctx, **gauges)

    with monkeypatch.context() as patch:
        patch.setattr(ockham.Run, "end_batch", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run_example("own_loop.py")
    run_example("own_loop.py")
    run = ockham.RunFolder("runs", "own-loop")
    assert iterations(run, 1, 2) == [*range(70), *range(60, 120)]
    assert verify_run(run).sound
    assert replay_run(run).identical


def test_own_loop_does_not_train_a_complete_run_again(tmp_path, monkeypatch, capsys):
    """The second start prints a message only."""
    monkeypatch.chdir(tmp_path)
    run_example("own_loop.py")
    run_example("own_loop.py")
    assert capsys.readouterr().out == "own-loop: complete\n"
    assert ockham.RunFolder("runs", "own-loop").last_attempt() == 1


def test_resumed_own_loop_has_the_weights_of_an_uninterrupted_one(tmp_path, monkeypatch):
    """Batches depend on the iteration only."""
    weights = []
    for interrupted in (False, True):
        folder = tmp_path / str(interrupted)
        folder.mkdir()
        monkeypatch.chdir(folder)
        if interrupted:
            with monkeypatch.context() as patch:
                patch.setattr(ockham.Run, "save_checkpoint", stop_after_resume_checkpoint)
                with pytest.raises(KeyboardInterrupt):
                    run_example("own_loop.py")
        weights.append(run_example("own_loop.py")["model"].state_dict())
    assert all(value.equal(weights[1][name]) for name, value in weights[0].items())


def stop_after_resume_checkpoint(run, ctx, kind, pack, _save=ockham.Run.save_checkpoint):
    """Save a checkpoint, and interrupt the program after the second one to resume from."""
    _save(run, ctx, kind, pack)
    if kind == "resume" and ctx.iter_num == 39:
        raise KeyboardInterrupt


def test_own_loop_skips_batches_and_keeps_weights(tmp_path, monkeypatch):
    """The decisions of the plugins have an effect on the training."""
    monkeypatch.chdir(tmp_path)
    run_example("own_loop.py")
    data = [event["data"] for event in events(ockham.RunFolder("runs", "own-loop"))]
    batches = [item for item in data if item.get("hook") == "batch" and "left" in item]
    assert 50 < sum(item["left"].get("updated", True) for item in batches) < 100
    assert list(tmp_path.glob("runs/own-loop/checkpoints/accepted-*/model.safetensors"))
