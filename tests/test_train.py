"""train.py as people run it: one process, real data, a real log."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ockham import resources
from ockham.record.run_folder import RunFolder
from tests.helpers import forked_cli
from tests.helpers.events import events, plain_validator
from tests.helpers.tiny_trainer import TINY, same, text

TRAIN = resources.data_root() / "train.py"


def words_of(folder: Path, *words: str) -> list[str]:
    if not (folder / "text.txt").exists():
        text(folder)
    sets = [word for setting in (*TINY, "device=cpu") for word in ("--set", setting)]
    return [str(TRAIN), "--runs", str(folder / "runs"), "--data", str(folder / "text.txt"), *sets, *words]


def env_of(folder: Path) -> dict[str, str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("OCKHAM")}
    return {**clean, "OCKHAM_KEY_DIR": str(folder / "keys")}


def train(folder: Path, *words: str) -> subprocess.CompletedProcess:
    return forked_cli.run(*words_of(folder, *words), env=env_of(folder))


def start_training(folder: Path, *words: str) -> BaseProcess:
    return forked_cli.start(*words_of(folder, *words), env=env_of(folder))


def final(folder: Path, run: str, iter_num: int, attempt: int = 1) -> dict[str, torch.Tensor]:
    name = f"resume-{iter_num:08d}" + (f".{attempt}" if attempt > 1 else "")
    return load_file(folder / "runs" / run / "checkpoints" / name / "model.safetensors")


def of(kind: str, found: list[dict]) -> list[dict]:
    return [event["data"] for event in found if event["type"] == f"ockham.{kind}.v1"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """One run of forty iterations that several tests look at, by an interpreter of its own."""
    folder = tmp_path_factory.mktemp("whole")
    command = [sys.executable, *words_of(folder, "--run", "whole")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=env_of(folder))
    assert done.returncode == 0, done.stderr
    return folder, done


def test_a_run_from_end_to_end(whole):
    """Every batch has its context and its verdict, and the summary says what to type next."""
    folder, done = whole
    found = events(RunFolder(folder / "runs", "whole"))
    contexts = [c for c in of("context.recorded", found) if c["hook"] == "batch"]
    assert [c["iter_num"] for c in contexts] == list(range(40))
    verdicts = [d for d in of("decision.made", found) if d["plugin"] == "gate"]
    assert [d["iter_num"] for d in verdicts] == list(range(40))
    assert of("run.finished", found)[0]["reason_code"] == "COMPLETED"
    assert {d["plugin"] for d in of("decision.made", found)} >= {"gate", "limiter", "memory", "anchor"}
    assert " why whole 39 " in done.stdout
    assert "update rate" in done.stdout


def test_every_line_fits_its_schema_by_the_plain_package(whole):
    """The second opinion: jsonschema itself, which we did not write."""
    folder, _ = whole
    validators: dict[str, object] = {}
    for event in events(RunFolder(folder / "runs", "whole")):
        kind = event["type"].removeprefix("ockham.").removesuffix(".v1")
        validators.setdefault(kind, plain_validator(kind)).validate(event)
    assert len(validators) >= 8


def test_the_same_seed_gives_the_same_run(whole):
    """Decisions and weights, bit for bit."""
    folder, _ = whole
    assert train(folder, "--run", "again").returncode == 0
    assert same(final(folder, "whole", 39), final(folder, "again", 39))
    one, two = (_story(folder, run) for run in ("whole", "again"))
    assert one == two


def _story(folder: Path, run: str, attempt: int = 1, since: int = 0) -> list[dict]:
    made = of("decision.made", events(RunFolder(folder / "runs", run), attempt))
    place = ("sequence", "attempt", "rank")
    return [{k: v for k, v in d.items() if k not in place} for d in made if d["iter_num"] >= since]


def test_a_killed_run_resumes_bit_for_bit(whole):
    """kill -9 in the middle; the resumed run makes the decisions and weights of the uninterrupted one."""
    folder, _ = whole
    words = ("--run", "killed", "--set", "checkpoint_every=10", "--set", "max_iters=40")
    process = start_training(folder, *words)
    checkpoints = folder / "runs" / "killed" / "checkpoints"
    deadline = time.monotonic() + 60
    while (
        not (checkpoints / "resume-00000019").exists()
        and time.monotonic() < deadline
        and process.exitcode is None
    ):
        time.sleep(0.002)
    process.kill()
    process.join()
    done = train(folder, "--run", "killed", "--resume")
    assert done.returncode == 0, done.stderr
    resumed = of("run.resumed", events(RunFolder(folder / "runs", "killed"), 2))[0]
    assert resumed["iter_num"] in (10, 20, 30, 40)
    assert same(final(folder, "whole", 39), final(folder, "killed", 39, 2 if resumed["iter_num"] < 40 else 1))
    assert _story(folder, "killed", 2, resumed["iter_num"]) == _story(folder, "whole", 1, resumed["iter_num"])


def test_ctrl_c_leaves_a_finished_resumable_run(tmp_path):
    """SIGINT ends after the step: exit 130, run.finished, a checkpoint; resume completes it."""
    process = start_training(
        tmp_path, "--run", "c", "--set", "max_iters=3000", "--set", "checkpoint_every=20"
    )
    while not (tmp_path / "runs/c/checkpoints/resume-00000019").exists() and process.exitcode is None:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGINT)
    done = forked_cli.wait([process], 30)[0]
    assert done.returncode == 130
    assert " train --run c --resume " in done.stdout.partition("Next:")[2]
    last = events(RunFolder(tmp_path / "runs", "c"))[-1]
    assert last["data"]["reason_code"] == "INTERRUPTED"
    ended = last["data"]["iter_num"]
    assert train(tmp_path, "--run", "c", "--resume", "--set", f"max_iters={ended + 5}").returncode == 0
    again = events(RunFolder(tmp_path / "runs", "c"), 2)
    assert [c["iter_num"] for c in of("context.recorded", again) if c["hook"] == "batch"] == list(
        range(ended + 1, ended + 5)
    )


def test_observe_leaves_the_training_untouched(tmp_path):
    """Under preset observe the weights equal those of a plain loop with no chain at all, bit for bit."""
    assert train(tmp_path, "--run", "o", "--policy", "observe").returncode == 0
    (tmp_path / "plain.py").write_text(PLAIN)
    files = (str(tmp_path / name) for name in ("plain.py", "text.txt", "plain.safetensors"))
    plain = forked_cli.run(*files)
    assert plain.returncode == 0, plain.stderr
    assert same(final(tmp_path, "o", 39), load_file(tmp_path / "plain.safetensors"))
    decided = of("decision.made", events(RunFolder(tmp_path / "runs", "o")))
    assert {d["shadow"] for d in decided} == {True}
    assert any(d["action"] == "SKIP" for d in decided)


# A loop that knows nothing of plugins: forward, backward, clip, step.
PLAIN = """
import sys, torch
from safetensors.torch import save_file
from ockham.nano import Trainer, load_corpus
from tests.helpers.tiny_trainer import settings
t = Trainer(settings(), load_corpus(sys.argv[1]))
for i in range(40):
    for group in t.optimizer.param_groups:
        group["lr"] = t.settings.learning_rate_at(i)
    t.model.loss(*t.batches.sample_batch(i)).backward()
    torch.nn.utils.clip_grad_norm_(t.model.parameters(), 1.0)
    t.optimizer.step()
    t.optimizer.zero_grad()
save_file({name: p.detach() for name, p in t.model.named_parameters()}, sys.argv[2])
"""


def test_gradient_accumulation_has_a_verdict_for_each_micro_batch(tmp_path):
    """(iter_num, micro_step) is the key, and one optimizer step follows."""
    assert (
        train(
            tmp_path, "--run", "m", "--set", "gradient_accumulation_steps=3", "--set", "max_iters=10"
        ).returncode
        == 0
    )
    found = events(RunFolder(tmp_path / "runs", "m"))
    keys = [(c["iter_num"], c["micro_step"]) for c in of("context.recorded", found) if c["hook"] == "batch"]
    assert keys == [(i, m) for i in range(10) for m in range(3)]
    assert of("run.finished", found)[0]["updates"] <= 10


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--policy", "balancd"], "did you mean 'balanced'"),
        (["--set", "gaet.target=0.3"], "did you mean 'gate'"),
        (["--set", "gate.targte=0.3"], "did you mean 'target'"),
        (["--set", "gate.target=much"], "takes a number"),
        (["--set", "max_itres=1"], "did you mean 'max_iters'"),
        (["--data", "/nowhere/at/all"], "no data at"),
        (
            ["--policy", "balancd", "--data", "/nowhere/at/all"],
            "did you mean 'balanced'",
        ),  # told before data is read
        (["--set", "block_size=4000"], "tokens, and a block takes 4000"),
        (["--run", "../escape"], "is not allowed"),
        (["--run", "UPPER"], "is not allowed"),
        (["--run", "whole"], "exists"),
        (["--run", "absent", "--resume"], "no run 'absent'"),
        (["--resume"], "--run"),
        (["--size", "hugest"], "no size"),
        (["--device", "tpu9"], "cannot be used here"),
        (["--policy", "missing.yaml"], "missing.yaml"),
        (["--policy", "tight", "--policy", "missing.yaml"], "give one of them"),
    ],
)
def test_bad_input_is_one_clear_line(whole, words, told):
    """Exit 2, one line that names the thing, no traceback, and no folder."""
    folder, _ = whole
    before = sorted(os.listdir(folder / "runs"))
    done = train(folder, *words)
    assert done.returncode == 2, done.stderr
    assert told in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(os.listdir(folder / "runs")) == before


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("n_embd=32", "n_embd=32: the weights that it goes on from were made with n_embd=16"),
        ("optimizer=muon", "were made with optimizer=adamw"),
        ("n_head=1", "n_head=1: the weights that it goes on from were made with n_head=2"),
        ("max_iters=39", "max_iters=39: the run has done 40 steps already"),
    ],
)
def test_what_a_run_cannot_go_on_with_is_refused(whole, setting, told):
    """The setting is named, and what it was; the run stays as it was."""
    folder, _ = whole
    logs = sorted((folder / "runs/whole/log").iterdir())
    done = train(folder, "--run", "whole", "--resume", "--set", setting)
    assert done.returncode == 2
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
    assert sorted((folder / "runs/whole/log").iterdir()) == logs


def test_a_complete_run_is_left_as_it_is(whole):
    """Resumed with nothing to do: exit 0, one sentence, not one byte written."""
    folder, _ = whole
    before = {path: path.stat().st_mtime_ns for path in (folder / "runs/whole").rglob("*")}
    done = train(folder, "--run", "whole", "--resume")
    assert (done.returncode, done.stdout) == (0, "")
    assert "run 'whole' is already complete: 40 of 40 steps" in done.stderr
    assert {path: path.stat().st_mtime_ns for path in (folder / "runs/whole").rglob("*")} == before


def test_other_data_is_refused_on_resume(whole, tmp_path):
    """The digest in run.json decides, not the path."""
    folder, _ = whole
    other = tmp_path / "other.txt"
    other.write_text("another text " * 1_000)
    done = train(folder, "--run", "whole", "--resume", "--data", str(other))
    assert done.returncode == 2
    assert "other data" in done.stderr


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    """`--runs` on a file: exit 2."""
    (tmp_path / "runs").write_text("a file")
    done = train(tmp_path, "--run", "a")
    assert done.returncode == 2
    assert "cannot make a run folder" in done.stderr
