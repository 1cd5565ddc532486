"""Own loops with several processes: one verdict, equal weights, and a log that names what each rank did."""

from __future__ import annotations

import math
import struct

import pytest
import torch

import ockham
from ockham.errors import BadInputError, RunError
from ockham.nano.step_meter import weights_checksum
from ockham.plugins.spike import SpikePlugin
from ockham.policy import policy_from_plugins
from ockham.record.rank_group import RankGroup
from ockham.record.run_folder import RunFolder
from ockham.record.verify.run import verify_run
from ockham.replay.runner import replay_run
from ockham.run import Run
from tests.helpers import rank_truth, tiny_model
from tests.helpers.events import events
from tests.helpers.ranks import run_on_threads
from tests.helpers.train_command import select_data

CELLS = [
    (1, {"parallel": "none"}),
    (1, {"parallel": "none", "micro_steps": 3, "scaler": True}),
    (2, {"parallel": "none"}),
    (2, {"parallel": "ddp"}),
    (2, {"parallel": "ddp", "micro_steps": 3}),
    (2, {"parallel": "ddp", "micro_steps": 2, "scaler": True}),
    (2, {"parallel": "ddp", "exchange": False}),
    (2, {"parallel": "fsdp"}),
    (2, {"parallel": "fsdp", "micro_steps": 2}),
    (1, {"parallel": "accelerate", "micro_steps": 2}),
    (2, {"parallel": "accelerate"}),
    (2, {"parallel": "accelerate", "micro_steps": 3}),
    (4, {"parallel": "ddp", "micro_steps": 2}),
    (4, {"parallel": "fsdp"}),
]


def _name(cell):
    return "-".join(str(part) for part in (cell[0], *cell[1].values()))


@pytest.mark.parametrize("cell", CELLS, ids=_name)
def test_log_of_each_rank_equals_what_it_did(cell, tmp_path):
    """Skips, losses of the verdicts, learning rates and norms agree. The ranks have equal weights."""
    size, options = cell
    if options["parallel"] == "accelerate":
        pytest.importorskip("accelerate", reason="accelerate is not installed")
    truths = rank_truth.train_ranks(tmp_path, size, **options)
    rank_truth.assert_log_is_true(tmp_path, truths)
    for rank in range(size):
        evaluations = rank_truth.read_data(tmp_path, rank, "evaluation.recorded")
        assert [item["tokens"] for item in evaluations] == [32] * 3
        assert all(len(item["weights_checksum"]) == 32 for item in evaluations)
        assert (
            evaluations[0]["val_loss"]
            == rank_truth.read_data(tmp_path, 0, "evaluation.recorded")[0]["val_loss"]
        )


def test_sharded_training_equals_a_replicated_one(tmp_path):
    """FSDP2 and DDP measure the same losses, also after steps whose last micro-batch was skipped."""
    losses = []
    for parallel in ("ddp", "fsdp"):
        folder = tmp_path / parallel
        folder.mkdir()
        truths = rank_truth.train_ranks(folder, 2, parallel=parallel, micro_steps=3)
        losses.append([loss for truth in truths for loss in truth["losses"]])
    rank_truth.assert_close(*losses)
    contexts = rank_truth.read_batches(folder, 0)
    assert any(not c["left"].get("updated", True) for c in contexts[2::3])


@pytest.mark.parametrize(
    ("options", "iter_num"),
    [
        # The last micro-batch of a step synchronises the gradients. If it is skipped, no rank does.
        ({"exchange": False, "micro_steps": 3, "evaluate": 100, "interval": 1}, None),
        ({"exchange": False, "micro_steps": 3}, 15),
        ({"shift": 2, "interval": 4}, 4),
        ({"shift": 2, "interval": 0}, 7),
    ],
    ids=["no-exchange-interval", "no-exchange-evaluation", "shift-interval", "shift-evaluation"],
)
def test_different_weights_end_the_run_on_every_rank(options, iter_num, tmp_path):
    """The log of each rank names the checksums, and verify accepts the logs."""
    truths = rank_truth.train_ranks(tmp_path, 2, **options)
    for rank, truth in enumerate(truths):
        assert truth["error"].startswith("RankDivergedError: ranks part at iteration")
        assert "run.average_gradients(parameters)" in truth["error"]
        (event,) = rank_truth.read_data(tmp_path, rank, "rank.diverged")
        assert [each["field"] for each in event["differs"]] == ["weights"]
        assert len(set(event["differs"][0]["values"])) == 2
        assert iter_num in (None, event["iter_num"])
        assert rank_truth.read_data(tmp_path, rank, "run.finished")[0]["reason_code"] == "RANK_DIVERGED"
    assert verify_run(RunFolder(tmp_path / "runs", "a")).sound


def test_error_of_one_rank_ends_both_logs(tmp_path):
    """The other rank does not wait for it, and the logs are sound."""
    truths = rank_truth.train_ranks(tmp_path, 2, parallel="none", fail=5)
    assert truths[1]["error"] == "OckhamError: the loop of this rank failed"
    assert truths[0]["error"].startswith("RankLostError: another rank has ended or does not answer")
    ends = [rank_truth.read_data(tmp_path, rank, "run.finished")[0]["reason_code"] for rank in (0, 1)]
    assert ends == ["RANK_LOST", "FAILED"]
    assert verify_run(RunFolder(tmp_path / "runs", "a")).sound


def test_one_process_without_a_process_group_is_an_ordinary_run(tmp_path):
    """Nothing is exchanged, no rank loss is recorded, and averaging changes no gradient."""
    with ockham.Run.distributed("observe", runs=tmp_path / "runs", run_id="a", facts=tiny_model.FACTS) as run:
        ctx = run.start_batch(loss=2.5, tokens=7)
        run.average_gradients([])
        run.end_batch(ctx)
    assert ctx.task_loss == 2.5
    assert ctx.rank_loss is None


def test_evaluation_names_the_weights_of_a_watched_optimizer(tmp_path):
    """The checksum changes with any bit of the weights. Without an optimizer it is missing."""
    model = tiny_model.make_model()
    with ockham.Run("observe", runs=tmp_path / "runs", run_id="a", facts=tiny_model.FACTS) as run:
        ctx = run.end_batch(run.start_batch(loss=2.5))
        run.evaluate(ctx, 2.0)
        run.watch(torch.optim.SGD(model.parameters()))
        run.evaluate(ctx, 2.0)
        run.evaluate(ctx, 2.0)
        with torch.no_grad():
            model.wte.weight[3, 2] += 1e-6
        run.evaluate(ctx, 2.0)
    evaluations = tiny_model.read_events(tmp_path, "evaluation.recorded")
    checksums = [item.get("weights_checksum") for item in evaluations]
    assert checksums[0] is None
    assert checksums[1] == checksums[2] != checksums[3]
    assert checksums[3] == weights_checksum(model.parameters())


def test_several_processes_without_a_process_group_are_rejected(monkeypatch, tmp_path):
    """The message names the call that is missing."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(
        BadInputError, match=r"WORLD_SIZE is 2; call torch.distributed.init_process_group\(\)"
    ):
        ockham.Run.distributed(runs=tmp_path / "runs")


def test_gradients_of_an_ordinary_run_are_not_averaged(tmp_path):
    """The run has no ranks."""
    run = ockham.Run("observe", runs=tmp_path / "runs", facts=tiny_model.FACTS)
    with pytest.raises(RunError, match="the run has no ranks"):
        run.average_gradients([])


SPIKE_POLICY = """
name: spiky
plugins:
  finite: {}
  spike: {window: 8, min_history: 4, sigma: 3, clip_from: null, skip_from: 1}
"""


@pytest.mark.parametrize(("parallel", "micro_steps"), [("ddp", 1), ("ddp", 2), ("fsdp", 1)])
def test_spike_of_one_rank_is_refused_on_all(tmp_path, parallel, micro_steps):
    """The verdict is on the same bits, and the weights stay equal."""
    path = tmp_path / "spiky.yaml"
    path.write_text(SPIKE_POLICY)
    options = {"parallel": parallel, "micro_steps": micro_steps, "gradients": True, "spike": 15}
    truths = rank_truth.train_ranks(tmp_path, 2, policy=str(path), **options)
    rank_truth.assert_log_is_true(tmp_path, truths, min_skips=0)
    seen = []
    for rank in range(2):
        contexts = rank_truth.read_data(tmp_path, rank, "context.recorded")
        steps = [data for data in contexts if "gradients" in data]
        refused = [data["iter_num"] for data in steps if data["left"].get("step") is False]
        assert 15 in refused
        seen.append([(data["measured"]["grad_norm"], data["left"].get("step")) for data in steps])
    assert seen[0] == seen[1]


class TwoRanks:
    """All-gather of this rank and another one that passes a fixed value."""

    def __init__(self, other: float) -> None:
        self.other = other

    def __call__(self, message: bytes) -> list[bytes]:
        return [message, struct.pack("<d", self.other)]


@pytest.mark.parametrize(
    ("own", "other", "largest"), [(1.0, 2.0, 2.0), (3.0, 2.0, 3.0), (2.0, math.inf, math.inf)]
)
def test_largest_norm_of_the_ranks_is_used(own, other, largest):
    """A rank whose value is not a number decides, whichever it is."""
    assert RankGroup(0, 2, TwoRanks(other)).largest(own) == largest
    for values in ((own, math.nan), (math.nan, other)):
        assert math.isnan(RankGroup(0, 2, TwoRanks(values[1])).largest(values[0]))
    assert RankGroup().largest(own) == own


def test_norm_that_is_large_on_one_rank_only_is_refused_on_both(tmp_path):
    """The loop does not average the gradients. Each rank passes its own norm, and both see the largest."""

    def work(rank, gather):
        options = {"rank": rank, "world_size": 2, "all_gather": gather, "run_id": "a"}
        policy = policy_from_plugins([SpikePlugin(window=8, min_history=4, clip_from=None, skip_from=1)])
        steps = []
        with Run(policy, runs=tmp_path, **options) as run:
            for iter_num in range(16):
                ctx = run.start_batch(iter_num, 3.0)
                norm = 900.0 if rank == 1 and iter_num == 12 else 1.0 + rank
                steps.append(run.gradients(ctx, grad_norm=norm).step)
                run.end_batch(ctx)
        return steps

    assert run_on_threads(work) == [[iter_num != 12 for iter_num in range(16)]] * 2
    folder = RunFolder(tmp_path, "a")
    for rank in (0, 1):
        contexts = select_data("context.recorded", events(folder, 1, rank))
        norms = [data["measured"]["grad_norm"] for data in contexts]
        assert norms == [900.0 if iter_num == 12 else 2.0 for iter_num in range(16)]
    assert replay_run(folder).identical
