"""train.py as a user runs it: one process, real data, a real log."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from safetensors.torch import load_file

from ockham.record.run_folder import RunFolder
from tests.helpers import forked_cli
from tests.helpers.events import events, plain_validator
from tests.helpers.tiny_trainer import weights_equal
from tests.helpers.train_command import (
    build_arguments,
    build_environment,
    has_checkpoint,
    load_resume_weights,
    read_decisions,
    run_train,
    select_data,
    start_paused_train,
    start_train,
    wait_for_checkpoint,
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Folder and process of one run with forty iterations, for several tests."""
    folder = tmp_path_factory.mktemp("whole")
    command = [sys.executable, *build_arguments(folder, "--run", "whole")]
    process = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env=build_environment(folder)
    )
    assert process.returncode == 0, process.stderr
    return folder, process


def test_train_records_context_and_verdict_of_every_batch(whole):
    """The summary contains the next commands."""
    folder, process = whole
    log_events = events(RunFolder(folder / "runs", "whole"))
    contexts = [c for c in select_data("context.recorded", log_events) if c["hook"] == "batch"]
    assert [c["iter_num"] for c in contexts] == list(range(40))
    verdicts = [d for d in select_data("decision.made", log_events) if d["plugin"] == "gate"]
    assert [d["iter_num"] for d in verdicts] == list(range(40))
    assert select_data("run.finished", log_events)[0]["reason_code"] == "COMPLETED"
    assert {d["plugin"] for d in select_data("decision.made", log_events)} >= {
        "gate",
        "limiter",
        "memory",
        "anchor",
    }
    assert " why whole 39 " in process.stdout
    assert "update rate" in process.stdout


def test_every_recorded_event_is_valid_by_jsonschema(whole):
    """The jsonschema package is an independent check."""
    folder, _ = whole
    validators: dict[str, object] = {}
    for event in events(RunFolder(folder / "runs", "whole")):
        kind = event["type"].removeprefix("ockham.").removesuffix(".v1")
        validators.setdefault(kind, plain_validator(kind)).validate(event)
    assert len(validators) >= 8


def test_train_records_the_digest_of_the_rows_of_every_batch(whole):
    """It is recomputed from the text, with the seed, the position and the formula of the documentation."""
    folder, _ = whole
    log_events = events(RunFolder(folder / "runs", "whole"))
    text = (folder / "text.txt").read_bytes()
    tokens = np.frombuffer(text[: len(text) * 9 // 10], np.uint8)
    contexts = [c for c in select_data("context.recorded", log_events) if c["hook"] == "batch"]
    for context in contexts:
        position, seed = context["rows"]["position"], context["given"]["seed"]
        assert (position, seed) == (context["iter_num"], 1337)
        random = np.random.Generator(np.random.Philox(key=seed << 32, counter=[0, 0, 0, position]))
        starts = random.integers(0, len(tokens) - 8, size=4)
        rows = np.stack([tokens[start : start + 9] for start in starts]).astype("<i4")
        assert context["rows"]["digest"] == hashlib.sha256(rows.tobytes()).hexdigest()[:32]


def test_equal_seed_gives_equal_decisions_and_weights(whole):
    """They are equal bit for bit."""
    folder, _ = whole
    assert run_train(folder, "--run", "again").returncode == 0
    assert weights_equal(load_resume_weights(folder, "whole", 39), load_resume_weights(folder, "again", 39))
    assert read_decisions(folder, "whole") == read_decisions(folder, "again")


def test_killed_run_resumes_bit_for_bit(whole):
    """After `kill -9` the resumed run has the decisions and weights of the uninterrupted one."""
    folder, _ = whole
    options = ("--run", "killed", "--set", "checkpoint_every=10", "--set", "max_iters=40")
    process = start_paused_train(folder, *options)
    wait_for_checkpoint(folder, "killed", 19, process)
    process.kill()
    process.join()
    process = run_train(folder, "--run", "killed", "--resume")
    assert process.returncode == 0, process.stderr
    resumed = select_data("run.resumed", events(RunFolder(folder / "runs", "killed"), 2))[0]
    # The kill can precede the event of the checkpoint, which is then not used.
    assert resumed["iter_num"] in (10, 20)
    assert weights_equal(
        load_resume_weights(folder, "whole", 39), load_resume_weights(folder, "killed", 39, 2)
    )
    assert read_decisions(folder, "killed", 2, first_iter=resumed["iter_num"]) == read_decisions(
        folder, "whole", first_iter=resumed["iter_num"]
    )


def test_ctrl_c_ends_the_run_valid_and_resumable(tmp_path):
    """SIGINT ends the run after the step: exit 130, run.finished and a checkpoint. A resume completes it."""
    process = start_train(tmp_path, "--run", "c", "--set", "max_iters=3000", "--set", "checkpoint_every=20")
    wait_for_checkpoint(tmp_path, "c", 19, process)
    os.kill(process.pid, signal.SIGINT)
    process = forked_cli.wait([process])[0]
    assert process.returncode == 130
    assert " train --run c --resume " in process.stdout.partition("Next:")[2]
    last = events(RunFolder(tmp_path / "runs", "c"))[-1]
    assert last["data"]["reason_code"] == "INTERRUPTED"
    ended = last["data"]["iter_num"]
    assert run_train(tmp_path, "--run", "c", "--resume", "--set", f"max_iters={ended + 5}").returncode == 0
    resumed = events(RunFolder(tmp_path / "runs", "c"), 2)
    batches = [c["iter_num"] for c in select_data("context.recorded", resumed) if c["hook"] == "batch"]
    assert batches == list(range(ended + 1, ended + 5))


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"])
def test_signal_of_a_scheduler_ends_the_run_with_a_checkpoint(tmp_path, name):
    """Slurm, systemd and ssh send them. Exit status 130, as after Ctrl-C."""
    process = start_train(tmp_path, "--run", "c", "--set", "max_iters=3000", "--set", "checkpoint_every=20")
    wait_for_checkpoint(tmp_path, "c", 19, process)
    os.kill(process.pid, getattr(signal, name))
    process = forked_cli.wait([process])[0]
    assert process.returncode == 130, process.stderr
    last = events(RunFolder(tmp_path / "runs", "c"))[-1]["data"]
    assert last["reason_code"] == "INTERRUPTED"
    assert (tmp_path / f"runs/c/checkpoints/resume-{last['iter_num']:08d}").exists()


def test_closed_terminal_does_not_change_the_exit_status(tmp_path):
    """Every write fails with EIO then, and the run completes."""
    terminal, slave = pty.openpty()
    command = [sys.executable, *build_arguments(tmp_path, "--run", "c", "--set", "checkpoint_every=10")]
    process = subprocess.Popen(
        [*command, "--set", "max_iters=200"],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=build_environment(tmp_path),
    )
    os.close(slave)
    while not has_checkpoint(RunFolder(tmp_path / "runs", "c"), 9) and process.poll() is None:
        time.sleep(0.01)
    os.close(terminal)
    assert process.wait(timeout=120) == 0
    assert events(RunFolder(tmp_path / "runs", "c"))[-1]["data"]["reason_code"] == "COMPLETED"


def test_observe_policy_gives_the_weights_of_a_plain_loop(tmp_path):
    """Under preset observe the weights equal those of a loop without a chain, bit for bit."""
    assert run_train(tmp_path, "--run", "o", "--policy", "observe").returncode == 0
    (tmp_path / "plain.py").write_text(PLAIN_LOOP)
    files = (str(tmp_path / name) for name in ("plain.py", "text.txt", "plain.safetensors"))
    plain = forked_cli.run(*files)
    assert plain.returncode == 0, plain.stderr
    assert weights_equal(load_resume_weights(tmp_path, "o", 39), load_file(tmp_path / "plain.safetensors"))
    decisions = select_data("decision.made", events(RunFolder(tmp_path / "runs", "o")))
    assert {d["shadow"] for d in decisions} == {True}
    assert any(d["action"] == "SKIP" for d in decisions)


# A loop without plugins: forward, backward, clip, step.
PLAIN_LOOP = """
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


def test_every_accumulated_micro_batch_has_a_verdict(tmp_path):
    """The key is (iter_num, micro_step). One optimizer step follows all micro-batches."""
    options = ("--set", "gradient_accumulation_steps=3", "--set", "max_iters=10")
    assert run_train(tmp_path, "--run", "m", *options).returncode == 0
    log_events = events(RunFolder(tmp_path / "runs", "m"))
    keys = [
        (c["iter_num"], c["micro_step"])
        for c in select_data("context.recorded", log_events)
        if c["hook"] == "batch"
    ]
    assert keys == [(i, m) for i in range(10) for m in range(3)]
    assert select_data("run.finished", log_events)[0]["optimizer_steps"] <= 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--policy", "balancd"], "did you mean 'balanced'"),
        (["--set", "gaet.target=0.3"], "did you mean 'gate'"),
        (["--set", "gate.targte=0.3"], "did you mean 'target'"),
        (["--set", "gate.target=much"], "takes a number"),
        (["--set", "max_itres=1"], "did you mean 'max_iters'"),
        (["--data", "/nowhere/at/all"], "no data at"),
        # The policy is checked before the data are read.
        (["--policy", "balancd", "--data", "/nowhere/at/all"], "did you mean 'balanced'"),
        (["--set", "block_size=4000"], "tokens, and a block takes 4000"),
        (["--run", "../escape"], "is not valid"),
        (["--run", "UPPER"], "is not valid"),
        (["--run", "whole"], "exists"),
        (["--run", "absent", "--resume"], "no run 'absent'"),
        (["--resume"], "--run"),
        (["--size", "hugest"], "no size"),
        (["--device", "tpu9"], "cannot be used here"),
        (["--policy", "missing.yaml"], "missing.yaml"),
    ],
)
def test_invalid_option_exits_2_with_one_line_and_no_folder(whole, options, message):
    """The line contains the option. No traceback is printed."""
    folder, _ = whole
    before = sorted(os.listdir(folder / "runs"))
    process = run_train(folder, *options)
    assert process.returncode == 2, process.stderr
    assert message in process.stderr
    assert process.stderr.count("\n") == 1, process.stderr
    assert "Traceback" not in process.stderr
    assert sorted(os.listdir(folder / "runs")) == before


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("n_embd=32", "n_embd=32: the weights were made with n_embd=16"),
        ("optimizer=muon", "were made with optimizer=adamw"),
        ("n_head=1", "n_head=1: the weights were made with n_head=2"),
        ("max_iters=39", "max_iters=39: the run has done 40 steps already"),
    ],
)
def test_resume_rejects_settings_that_do_not_fit(whole, setting, message):
    """The message contains both values. The run does not change."""
    folder, _ = whole
    logs = sorted((folder / "runs/whole/log").iterdir())
    process = run_train(folder, "--run", "whole", "--resume", "--set", setting)
    assert process.returncode == 2
    assert message in process.stderr
    assert process.stderr.count("\n") == 1
    assert sorted((folder / "runs/whole/log").iterdir()) == logs


def test_resume_of_a_complete_run_writes_nothing(whole):
    """The exit status is 0, with one sentence on stderr."""
    folder, _ = whole
    before = {path: path.stat().st_mtime_ns for path in (folder / "runs/whole").rglob("*")}
    process = run_train(folder, "--run", "whole", "--resume")
    assert process.returncode == 0
    assert process.stdout == ""
    assert "run 'whole' is already complete: 40 of 40 steps" in process.stderr
    assert {path: path.stat().st_mtime_ns for path in (folder / "runs/whole").rglob("*")} == before


def test_resume_rejects_other_data(whole, tmp_path):
    """The digest in run.json decides, not the path."""
    folder, _ = whole
    other = tmp_path / "other.txt"
    other.write_text("another text " * 1_000)
    process = run_train(folder, "--run", "whole", "--resume", "--data", str(other))
    assert process.returncode == 2
    assert "other data" in process.stderr


def test_resume_accepts_the_same_bytes_under_another_name(whole, tmp_path):
    """A moved and renamed file is the same data."""
    folder, _ = whole
    settings = json.loads((folder / "runs/whole/run.json").read_bytes())["settings"]
    copy = tmp_path / "renamed.md"
    copy.write_bytes((folder / settings["data"]).read_bytes())
    process = run_train(folder, "--run", "whole", "--resume", "--data", str(copy))
    assert process.returncode == 0
    assert "already complete" in process.stderr


def test_unwritable_runs_folder_exits_2(tmp_path):
    """`--runs` names a file."""
    (tmp_path / "runs").write_text("a file")
    process = run_train(tmp_path, "--run", "a")
    assert process.returncode == 2
    assert "cannot make a run folder" in process.stderr
