"""Run: policy, chain and record in a training loop, without torch."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from ockham.context import OccamContext
from ockham.errors import PluginError, RunError
from ockham.plugin import OccamPlugin
from ockham.plugins.gate import OckhamGatePlugin
from ockham.plugins.memory import OckhamMemory
from ockham.record.run_folder import RunFolder
from ockham.record.verify.run import verify_run
from ockham.run import Run
from tests.helpers.events import events


def loop(run, losses, **gauges):
    for iter_num, loss in enumerate(losses):
        ctx = run.start_batch(iter_num, loss, learning_rate=1e-3)
        run.end_batch(ctx, grad_norm=1.0, **gauges)
    return ctx


def of(kind, found):
    return [event["data"] for event in found if event["type"] == f"ockham.{kind}.v1"]


def read(tmp_path, run_id="a", attempt=1):
    return events(RunFolder(tmp_path, run_id), attempt)


def test_run_with_plugins_logs_an_own_loop(tmp_path):
    """A gate and ten losses."""
    gate = OckhamGatePlugin(surprise_threshold=2.0)
    with Run(plugins=[gate], runs=tmp_path, run_id="a") as run:
        loop(run, [3.0, 1.0] * 5)
    found = read(tmp_path)
    assert [d["action"] for d in of("decision.made", found)] == ["UPDATE", "SKIP"] * 5
    ended = of("run.finished", found)[0]
    assert (ended["batches"], ended["updated_batches"], ended["skipped_batches"]) == (10, 5, 5)
    assert (ended["optimizer_steps"], ended["skipped_steps"], ended["update_rate"]) == (5, 5, 0.5)
    assert run.rates() == {"update_rate": 0.5, "accept_rate": None}


def test_flush_returns_the_tree_head_of_all_appended_events(tmp_path):
    """Size and root of the durable log."""
    with Run(plugins=[], runs=tmp_path, run_id="a") as run:
        loop(run, [1.0] * 5)
        head = run.flush()
        assert head.size == len(read(tmp_path)) == run.attempt.log.next_sequence
        assert len(head.root) == 32


def test_knobs_start_each_batch_at_the_schedule(tmp_path):
    """`ctx.learning_rate *= 0.5` never compounds."""

    class Halve(OccamPlugin):
        def on_batch_start(self, ctx):
            ctx.learning_rate *= 0.5
            return ctx

    with Run(plugins=[Halve()], runs=tmp_path, run_id="a") as run:
        loop(run, [1.0] * 4)
    made = of("decision.made", read(tmp_path))
    assert [d["changes"] for d in made] == [[{"field": "learning_rate", "before": 1e-3, "after": 5e-4}]] * 4
    assert {d["reason_code"] for d in made} == {"UNEXPLAINED"}


def test_plugin_error_ends_the_run_valid(tmp_path):
    """plugin.failed and run.finished are in the log."""

    class Breaks(OccamPlugin):
        def on_batch_end(self, ctx):
            if ctx.iter_num == 2:
                # The standard library raises this error.
                json.loads("{")

    with (
        pytest.raises(
            PluginError,
            match=r"plugin 'Breaks' failed in on_batch_end at iteration 2: "
            r"JSONDecodeError: .*test_run\.py:\d+\)$",
        ),
        Run(plugins=[Breaks()], runs=tmp_path, run_id="a") as run,
    ):
        loop(run, [1.0] * 5)
    found = read(tmp_path)
    assert of("plugin.failed", found)[0]["error_type"] == "JSONDecodeError"
    assert found[-1]["data"]["reason_code"] == "PLUGIN_FAILED"
    source = Path(__file__).read_text(encoding="utf-8").splitlines()
    line = next(at for at, text in enumerate(source, 1) if text.strip() == 'json.loads("{")')
    assert f"test_run.py:{line})" in found[-1]["data"]["message"]


def test_error_in_the_loop_ends_the_run_valid(tmp_path):
    """run.finished is the last event."""
    with pytest.raises(RuntimeError, match="mine"), Run(plugins=[], runs=tmp_path, run_id="a") as run:
        loop(run, [1.0])
        raise RuntimeError("mine")
    assert read(tmp_path)[-1]["data"]["reason_code"] == "FAILED"


def test_nan_loss_is_logged_and_skipped(tmp_path):
    """It is not part of any rate."""
    with Run("balanced", runs=tmp_path, run_id="a", facts={"max_iters": 100, "vocab_size": 256}) as run:
        ctx = loop(run, [2.0, math.nan, 2.0])
    assert ctx.updated
    found = read(tmp_path)
    skipped = [d for d in of("decision.made", found) if d["plugin"] == "finite"]
    assert [(d["iter_num"], d["action"], d["observed"]) for d in skipped] == [(1, "SKIP", "NaN")]
    assert of("run.finished", found)[0]["update_rate"] == 1.0


def test_repeated_nan_losses_halt_by_policy(tmp_path):
    """Ten in a row request the end."""
    with Run("balanced", runs=tmp_path, run_id="a", facts={"max_iters": 100, "vocab_size": 256}) as run:
        for i in range(20):
            ctx = run.end_batch(run.start_batch(i, math.nan))
            if ctx.halt:
                break
    assert i == 9
    assert run.decision_id("halt") is not None


def test_accepted_checkpoint_names_its_decision(tmp_path):
    """And the tree head before it."""

    def pack(metadata, state):
        from ockham.record.checkpoints import CheckpointFiles

        return CheckpointFiles({"weights.bin": repr(sorted(metadata)).encode()}, "0" * 64)

    memory = OckhamMemory(quality_threshold=3.0, complexity_threshold=1.0)
    with Run(
        plugins=[], memory=memory, runs=tmp_path, run_id="a", facts={"model_params": 124_000_000}
    ) as run:
        ctx = loop(run, [2.5])
        run.evaluate(ctx, 2.4)
        assert ctx.accepted
        assert run.save_checkpoint(ctx, "accepted", pack) == "accepted-00000000"
        ctx = run.end_batch(run.start_batch(1, 2.4))
        run.evaluate(ctx, 2.4)
        assert not ctx.accepted
    found = read(tmp_path)
    saved = of("checkpoint.saved", found)[0]
    decision = next(e for e in found if e["id"] == saved["decision_id"])
    assert decision["data"]["reason_code"] == "ACCEPTED_FIRST_VALID"
    assert decision["data"]["sequence"] < saved["log_size"] <= saved["sequence"]
    assert (tmp_path / "a/checkpoints/accepted-00000000/weights.bin").is_file()


def test_run_state_survives_json(tmp_path):
    """Gauges, counters and plugins are restored."""
    with Run("balanced", runs=tmp_path, run_id="a", facts={"max_iters": 100, "vocab_size": 256}) as one:
        loop(one, [2.0, 1.0, 3.0, math.nan], complexity_cost=0.125)
        state = one.state_dict()
    with Run("balanced", runs=tmp_path, run_id="b", facts={"max_iters": 100, "vocab_size": 256}) as two:
        two.load_state_dict(state)
        assert two.state_dict() == state
        assert two.start_batch(4, 2.0).complexity_cost == 0.125


def test_existing_run_is_not_overwritten(tmp_path):
    """Exit status 2."""
    with Run(plugins=[], runs=tmp_path, run_id="a"):
        pass
    before = read(tmp_path)
    with pytest.raises(RunError, match="exists"), Run(plugins=[], runs=tmp_path, run_id="a"):
        pass
    assert read(tmp_path) == before


def test_evaluation_of_another_context_is_recorded_once(tmp_path):
    """It contains the inputs of on_evaluate."""
    with Run(plugins=[OckhamGatePlugin(surprise_threshold=1.0)], runs=tmp_path, run_id="a") as run:
        ctx = loop(run, [2.0])
        assert isinstance(ctx, OccamContext)
        run.evaluate(ctx, math.nan)
    found = read(tmp_path)
    assert [c["hook"] for c in of("context.recorded", found)] == ["batch", "on_evaluate"]
    assert of("evaluation.recorded", found)[0]["val_loss"] == "NaN"


def test_key_frame_is_recorded_every_thousand_batches(tmp_path):
    """A replay starts at most a thousand batches earlier."""
    with Run(plugins=[OckhamGatePlugin(surprise_threshold=1.0)], runs=tmp_path, run_id="a") as run:
        loop(run, [2.0] * 2_100)
    frames = [(f["trigger"], f["iter_num"]) for f in of("plugin_state.recorded", read(tmp_path))]
    assert frames == [("START", 0), ("INTERVAL", 1000), ("INTERVAL", 2000)]


@pytest.mark.parametrize("at", [0, 1])
def test_segment_sealed_during_a_hook_keeps_the_context_valid(tmp_path, at):
    """The context still names its decisions."""

    class Seal(OccamPlugin):
        """Plugin that seals a segment, as the writer thread can do at any time."""

        def on_batch_start(self, ctx):
            if ctx.iter_num == 3:
                run.emit(
                    "log.sealed",
                    {
                        "segment": "000000000000.jsonl",
                        "first_sequence": 0,
                        "events": 1,
                        "bytes": 1,
                        "sha256": "0" * 64,
                    },
                )
            return ctx

    class Second(OccamPlugin):
        """Plugin that decides about each batch, like the gate."""

        def on_batch_start(self, ctx):
            ctx.decide("ALLOW", "SECOND_LOOK")
            return ctx

    plugins = [OckhamGatePlugin(), Second()]
    plugins.insert(at, Seal())
    with Run(plugins=plugins, runs=tmp_path, run_id="a") as run:
        loop(run, [3.0] * 6)
    batch = next(c for c in of("context.recorded", read(tmp_path)) if c["iter_num"] == 3)
    own = [d["sequence"] for d in of("decision.made", read(tmp_path)) if d["iter_num"] == 3]
    assert batch["decisions"] == {"first": own[0], "count": 2}
    assert "contradiction" not in verify_run(run.folder).counts


@pytest.mark.parametrize("has_open_batch", [True, False])
def test_abandoned_step_is_followed_by_the_next_number(tmp_path, has_open_batch):
    """The log records that no step was taken, and is sound."""
    with Run("observe", runs=tmp_path, run_id="a") as run:
        run.end_batch(run.start_batch(loss=3.0, micro_steps=3), stepped=False)
        run.abandon_step(run.start_batch(loss=3.0, micro_steps=3) if has_open_batch else None)
        ctx = run.end_batch(run.start_batch(loss=3.0))
    assert (ctx.iter_num, ctx.micro_step) == (1, 0)
    assert verify_run(RunFolder(tmp_path, "a")).sound
    applied = [data["applied"] for data in of("context.recorded", read(tmp_path))]
    assert (applied[1].get("cause") == "BATCH_ABANDONED") == has_open_batch


def test_finish_hook_completes_the_end_of_the_run(tmp_path):
    """It is called once, before the event is written."""
    with Run("observe", runs=tmp_path, run_id="a") as run:
        run.finish_hooks.append(lambda ended: ended.update(reason_code="STOPPED_EARLY"))
    assert of("run.finished", read(tmp_path))[0]["reason_code"] == "STOPPED_EARLY"
    assert not run.finish_hooks
