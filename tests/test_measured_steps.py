"""Own loops: the record follows the optimizer and the weights, whatever the loop reports."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import zipfile

import pytest
import torch
from torch import nn

from ockham.context import OccamContext
from ockham.errors import BadInputError, ContextError, RunError, VerdictNotAppliedError
from ockham.record.evidence_archive import write_archive
from ockham.record.run_folder import RunFolder
from ockham.record.verify.run import verify_run
from ockham.replay.runner import replay_run
from ockham.run import Run
from tests.helpers.events import events
from tests.helpers.plugins import EachThird

STEPS = 12


def train(run, *, fault="", micro_steps=1, steps=STEPS):
    """Train with one fault. Return for each step whether the weights changed, and the used learning rate."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Embedding(8, 4), nn.Linear(4, 8))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    run.watch(optimizer, measure_norm=True)
    truth = []
    for _ in range(steps):
        before = torch.cat([p.detach().reshape(-1).clone() for p in model.parameters()])
        accepted = None
        for _ in range(micro_steps):
            for group in optimizer.param_groups:
                group["lr"] = 1e-2
            tokens = torch.randint(0, 8, (16,))
            loss = nn.functional.cross_entropy(100 * model(tokens), (tokens + 1) % 8)
            ctx = run.start_batch(loss=loss.item(), micro_steps=micro_steps)
            if ctx.updated or fault == "leak":
                accepted = ctx
                loss.backward()
            if not ctx.ends_step:
                run.end_batch(ctx)
        gauges = {}
        if accepted is not None and fault != "no step":
            limit = 1e9 if fault == "no clipping" else accepted.grad_clip
            gauges["grad_norm"] = nn.utils.clip_grad_norm_(model.parameters(), limit).item()
            if fault != "other rate":
                optimizer.param_groups[0]["lr"] = accepted.learning_rate
            optimizer.step()
        used = optimizer.param_groups[0]["lr"]
        optimizer.zero_grad()
        run.end_batch(ctx, **gauges)
        after = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
        truth.append((not torch.equal(before, after), used))
    return truth


def judge_packed(folder, out):
    """Return the exit status of the packed verifier, and the classes of its findings without notes."""
    write_archive(folder, out / "a.zip")
    with zipfile.ZipFile(out / "a.zip") as archive:
        script = archive.extract("verify.py", out)
    command = [sys.executable, "-I", script, out / "a.zip"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=out)
    lines = [line for line in done.stdout.splitlines() if not line.startswith(("note", "log "))]
    return done.returncode, {line.partition(":")[0] for line in lines}


def step_contexts(folder, micro_steps):
    contexts = [event["data"] for event in events(folder) if event["data"].get("hook") == "batch"]
    return [data for data in contexts if data["micro_step"] == micro_steps - 1]


def open_run(tmp_path, **hyperparameters):
    return Run(
        plugins=[EachThird()], runs=tmp_path, run_id="a", facts={"max_iters": STEPS}, **hyperparameters
    )


@pytest.mark.parametrize("micro_steps", [1, 2, 4])
def test_honest_loop_has_no_difference(tmp_path, micro_steps):
    """Steps and learning rates in the log are those of the weights and the optimizer."""
    with open_run(tmp_path) as run:
        truth = train(run, micro_steps=micro_steps)
    folder = RunFolder(tmp_path, "a")
    recorded = step_contexts(folder, micro_steps)
    assert [data["applied"]["updated"] for data in recorded] == [changed for changed, _ in truth]
    for data, (changed, used) in zip(recorded, truth, strict=True):
        assert data["applied"].get("learning_rates") == ([used] if changed else None)
        assert ("grad_norm" in data["measured"]) == changed
    assert verify_run(folder).sound
    assert replay_run(folder, trust=True).identical


FAULTS = {
    "leak": ("updated", "WEIGHTS_CHANGED_ON_SKIP"),
    "no step": ("updated", "STEP_NOT_TAKEN"),
    "other rate": ("learning_rate", "OTHER_LEARNING_RATE"),
    "no clipping": ("grad_clip", "GRADIENT_NOT_CLIPPED"),
}


@pytest.mark.filterwarnings("ignore:iteration .* a verdict was not carried out")
@pytest.mark.parametrize("fault", FAULTS)
def test_loop_that_does_something_else_is_recorded_and_reported(tmp_path, fault):
    """Event, finding of `verify`, and the class of the packed verifier."""
    field, reason = FAULTS[fault]
    with Run(plugins=[EachThird(limit=0.5)], runs=tmp_path, run_id="a") as run:
        truth = train(run, fault=fault)
    folder = RunFolder(tmp_path, "a")
    found = [e["data"] for e in events(folder) if e["type"] == "ockham.verdict.not_applied.v1"]
    assert {(data["field"], data["reason_code"]) for data in found} == {(field, reason)}
    skipped = [data["iter_num"] for data in step_contexts(folder, 1) if data["left"].get("updated") is False]
    affected = skipped if fault == "leak" else [i for i in range(STEPS) if i not in skipped]
    assert [data["iter_num"] for data in found] == affected
    if fault == "leak":
        assert all(truth[i][0] for i in affected)
    report = verify_run(folder)
    assert report.counts["not applied"] == len(affected)
    assert not report.sound
    assert judge_packed(folder, tmp_path) == (1, {"not applied"})


def test_policy_stop_ends_the_run_at_the_first_difference(tmp_path):
    """The reason code of the end names it."""
    policy = tmp_path / "policy.yaml"
    policy.write_text("extends: balanced\nhyperparameters: {on_verdict_not_applied: stop}\n")
    with (
        pytest.raises(VerdictNotAppliedError, match="STEP_NOT_TAKEN"),
        Run(policy, runs=tmp_path, run_id="a") as run,
    ):
        train(run, fault="no step")
    finished = events(RunFolder(tmp_path, "a"))[-1]["data"]
    assert finished["reason_code"] == "VERDICT_NOT_APPLIED"


def test_loop_without_measurement_is_recorded_as_unknown(tmp_path):
    """Neither a step nor its absence is stated."""
    with Run("observe", runs=tmp_path, run_id="a") as run:
        run.end_batch(run.start_batch(loss=2.0))
        run.end_batch(run.start_batch(loss=2.0), stepped=True)
    contexts = step_contexts(RunFolder(tmp_path, "a"), 1)
    assert [data["applied"] for data in contexts] == [{"updated": None}, {"updated": True}]


def test_run_is_started_and_finished_without_a_block(tmp_path):
    """As in a notebook. Calls before and after raise one clear error."""
    run = Run("observe", runs=tmp_path, run_id="a")
    with pytest.raises(RunError, match=r"was not started; call it inside `with"):
        run.start_batch(loss=2.0)
    assert run.start() is run
    with pytest.raises(RunError, match="was started already"):
        run.start()
    run.end_batch(run.start_batch(loss=2.0), stepped=True)
    run.finish()
    with pytest.raises(RunError, match="has ended"):
        run.start_batch(loss=2.0)
    assert verify_run(RunFolder(tmp_path, "a")).sound


CALLS = {
    "start_batch": lambda run, ctx: run.start_batch(loss=2.0),
    "end_batch": lambda run, ctx: run.end_batch(ctx),
    "evaluate": lambda run, ctx: run.evaluate(ctx, 2.0),
    "record_consolidation": lambda run, ctx: run.record_consolidation(ctx, drift=0.1),
    "record_rollback": lambda run, ctx: run.record_rollback(ctx, anchor_iter_num=0, drift=0.0, seconds=0.0),
    "save_checkpoint": lambda run, ctx: run.save_checkpoint(ctx, "accepted", lambda _metadata, _state: None),
    "emit": lambda run, _: run.emit("adapter.enabled", {}),
    "subscribe": lambda run, _: run.subscribe(print),
    "load_state_dict": lambda run, _: run.load_state_dict(run.state_dict()),
    "flush": lambda run, _: run.flush(),
    "finish": lambda run, _: run.finish(),
}


@pytest.mark.parametrize("call", CALLS)
def test_call_outside_of_the_run_raises_one_clear_error(tmp_path, call):
    """Nothing is lost without an error. A run that has ended can be ended and flushed again."""
    run, ctx = Run("observe", runs=tmp_path, run_id="a"), OccamContext(0, 2.0)
    with pytest.raises(RunError, match=f"run.{call}: run 'a' was not started"):
        CALLS[call](run, ctx)
    run.start()
    run.finish()
    if call in {"flush", "finish"}:
        CALLS[call](run, ctx)
        return
    with pytest.raises(RunError, match=f"run.{call}: run 'a' has ended"):
        CALLS[call](run, ctx)


@pytest.mark.parametrize("numbers", [(0, 0), (0, 2), (1, 0), (0, 1, 1), (0, 1, 0), (0, 1, 3)])
def test_wrong_batch_number_raises_and_the_log_stays_sound(tmp_path, numbers):
    """Restarts per epoch, repeats and jumps would be a contradiction in the log."""
    with contextlib.suppress(BadInputError), Run("observe", runs=tmp_path, run_id="a") as run:
        for number in numbers:
            run.end_batch(run.start_batch(number, 2.0), stepped=True)
    report = verify_run(RunFolder(tmp_path, "a"))
    assert report.sound, [str(finding) for finding in report.findings]


def test_bad_metric_of_the_loop_does_not_blame_a_plugin(tmp_path):
    """The loop set it."""
    with Run("balanced", runs=tmp_path, run_id="a") as run:
        ctx = run.start_batch(loss=2.0)
        ctx.custom["not a name!"] = 1.0
        with pytest.raises(ContextError, match="not a valid metric name"):
            run.end_batch(ctx, stepped=True)
        del ctx.custom["not a name!"]
        run.end_batch(ctx, stepped=True)
    assert verify_run(RunFolder(tmp_path, "a")).sound
