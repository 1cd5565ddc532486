"""Ranks of one run: opening in order, equal verdicts, and equal ends."""

from __future__ import annotations

import json
import math
import shutil

import pytest

from ockham.errors import RankDivergedError, RunError
from ockham.plugin import OccamPlugin
from ockham.plugins.gate import OckhamGatePlugin
from ockham.record.checkpoints import CheckpointFiles, find_resume_point
from ockham.record.evidence import read_evidence
from ockham.record.rank_group import RankGroup
from ockham.record.run_folder import PARQUET_TABLES, RunFolder
from ockham.record.tlog.tree_head import parse_head, split_history
from ockham.record.verify import standalone
from ockham.record.verify.run import own_keys, verify_run
from ockham.replay.runner import replay_run
from ockham.run import Run
from tests.helpers.events import events, plain_validator
from tests.helpers.ranks import run_on_threads


def of(kind, found):
    return [event["data"] for event in found if event["type"] == f"ockham.{kind}.v1"]


def pack(metadata, state):
    kept = {**(state or {}), "trainer": {"settings": {}}}
    return CheckpointFiles({"state.json": json.dumps(kept).encode()}, "ab" * 32)


class Moody(OccamPlugin):
    """Plugin that skips iteration 2 on one rank only, like a plugin that reads a clock."""

    def __init__(self, rank=0):
        self._skips = rank == 1

    def on_batch_start(self, ctx):
        if ctx.iter_num == 2 and self._skips:
            ctx.updated = False
            ctx.decide("SKIP", "MOODY")


def loop(runs, rank, gather, *, world=2, losses=(3.0, 1.0, 2.5, 0.5), **kwargs):
    kwargs.setdefault("plugins", [OckhamGatePlugin(surprise_threshold=2.0)])
    with Run(runs=runs, run_id="a", rank=rank, world_size=world, all_gather=gather, **kwargs) as run:
        for i, loss in enumerate(losses, start=kwargs["resumed"].iter_num if "resumed" in kwargs else 0):
            ctx = run.end_batch(run.start_batch(i, loss), grad_norm=1.0)
        run.save_checkpoint(ctx, "resume", pack)
    return run


def test_ranks_write_one_run_with_equal_verdicts(tmp_path):
    """The run verifies and replays."""
    runs = run_on_threads(lambda rank, gather: loop(tmp_path, rank, gather))
    folder = runs[0].folder
    assert folder.logs() == [(1, 0), (1, 1)]
    stories = []
    for rank in (0, 1):
        found = events(folder, 1, rank)
        assert of("run.started", found)[0]["world_size"] == 2
        assert of("run.finished", found)[0]["reason_code"] == "COMPLETED"
        stories.append([(d["iter_num"], d["action"]) for d in of("decision.made", found)])
    assert stories[0] == stories[1] == [(0, "UPDATE"), (1, "SKIP"), (2, "UPDATE"), (3, "SKIP")]
    assert of("checkpoint.saved", events(folder, 1, 0))
    assert not of("checkpoint.saved", events(folder, 1, 1))
    report = verify_run(folder)
    assert report.sound, report.findings
    assert report.checked["contexts"] == 8
    proof = replay_run(folder)
    assert proof.identical
    assert proof.total("decisions") == 8


@pytest.mark.parametrize(
    ("losses", "field"), [((3.0, 1.0), "task_loss"), ((3.0, math.nan), "task_loss"), ((2.5, 2.5), "updated")]
)
def test_rank_divergence_halts_every_rank(tmp_path, losses, field):
    """Both logs contain rank.diverged, and no rank blocks."""

    def work(rank, gather):
        plugins = [OckhamGatePlugin(surprise_threshold=1.0), Moody(rank)]
        return loop(tmp_path, rank, gather, losses=[losses[rank]] * 4, plugins=plugins)

    done = run_on_threads(work)
    assert [type(each) for each in done] == [RankDivergedError] * 2
    assert field in str(done[0])
    folder = RunFolder(tmp_path, "a")
    for rank in (0, 1):
        found = events(folder, 1, rank)
        plain_validator("rank.diverged").validate(next(e for e in found if "diverged" in e["type"]))
        diverged = of("rank.diverged", found)[0]
        assert field in [one["field"] for one in diverged["differs"]]
        assert diverged["updated"][0] is True
        assert found[-1]["data"]["reason_code"] == "RANK_DIVERGED"
    assert verify_run(folder).sound
    assert replay_run(folder).total("unfinished") >= 2


def test_failure_on_one_rank_fails_all_ranks(tmp_path):
    """An existing run gets no second log."""
    with Run(plugins=[], runs=tmp_path, run_id="a"):
        pass
    done = run_on_threads(lambda rank, gather: loop(tmp_path, rank, gather))
    assert [type(each) for each in done] == [RunError, RunError]
    assert "exists" in str(done[0])
    assert str(done[1]).startswith("rank 0: run 'a' exists")
    assert RunFolder(tmp_path, "a").logs() == [(1, 0)]


def test_other_policy_or_setting_on_one_rank_is_refused(tmp_path):
    """The error names the rank, and no folder is created."""
    done = run_on_threads(
        lambda rank, gather: loop(tmp_path, rank, gather, settings={"batch_size": 4 + rank})
    )
    assert {str(each) for each in done} == {"rank 1 was started with another setting batch_size than rank 0"}
    assert not (tmp_path / "a").exists()


def test_run_resumes_with_fewer_and_more_ranks(tmp_path):
    """Rank 0 closes the logs of ranks that no longer exist."""
    run_on_threads(lambda rank, gather: loop(tmp_path, rank, gather, world=3), 3)
    torn = RunFolder(tmp_path, "a").segments(1, 2)[-1]
    torn.write_bytes(torn.read_bytes() + b'{"half":')
    for attempt, world in ((2, 2), (3, 3)):
        start = find_resume_point(tmp_path, "a")
        done = run_on_threads(
            lambda rank, gather, world=world, start=start: loop(
                tmp_path, rank, gather, world=world, resumed=start
            ),
            world,
        )
        assert not [each for each in done if isinstance(each, BaseException)], done
        resumed = of("run.resumed", events(done[0].folder, attempt, 0))[0]
        assert resumed["reason_code"] == "RESUMED_ON_OTHER_WORLD_SIZE"
        assert (resumed["from_world_size"], resumed["world_size"]) == (5 - world, world)
    folder = done[0].folder
    shrunk = events(folder, 2, 0)
    assert [left["rank"] for left in of("run.resumed", shrunk)[0]["left_logs"]] == [2]
    plain_validator("run.resumed").validate(shrunk[0])
    assert of("log.recovered", shrunk)[0]["cut_file"].startswith("log/1-2/")
    report = verify_run(folder)
    assert report.sound, [f for f in report.findings if not f.kind.endswith("pinned")]
    assert replay_run(folder).identical
    key = standalone.parse_key(json.loads(folder.run_json.read_bytes())["verifier_key"])
    assert standalone.verify_archive(standalone.load(folder.path), "a", key, known=True) == 0


def test_changed_log_of_a_removed_rank_is_tampering(tmp_path):
    """Rank 0 recorded its root."""
    run_on_threads(lambda rank, gather: loop(tmp_path, rank, gather))
    start = find_resume_point(tmp_path, "a")
    loop(tmp_path, 0, None, world=1, resumed=start)
    assert verify_run(RunFolder(tmp_path, "a")).sound
    segment = RunFolder(tmp_path, "a").segments(1, 1)[-1]
    segment.write_bytes(b"".join(segment.read_bytes().splitlines(keepends=True)[:-1]))
    found = [f for f in verify_run(RunFolder(tmp_path, "a"), parquet=False).findings if f.kind == "tampering"]
    assert any("attempt 2" in f.message and f.place == "log/1-1" for f in found)


def test_verify_reports_different_verdicts_as_contradiction(tmp_path):
    """Without `all_gather` only verify compares them."""
    for rank in (0, 1):
        loop(tmp_path, rank, None, plugins=[Moody(rank)])
    odd = [f for f in verify_run(RunFolder(tmp_path, "a")).findings if f.kind == "contradiction"]
    assert [(f.place, "iteration 2" in f.message) for f in odd] == [("log/1-1", True)]


def test_plugin_error_on_one_rank_ends_all_ranks(tmp_path):
    """The record is valid although the last batch has no context."""

    class Breaks(OccamPlugin):
        def on_batch_start(self, ctx):
            if ctx.iter_num == 2:
                raise ZeroDivisionError

    gate = OckhamGatePlugin(surprise_threshold=2.0)
    done = run_on_threads(
        lambda rank, gather: loop(tmp_path, rank, gather, plugins=[gate, Breaks()], world=1), 1
    )
    assert type(done[0]).__name__ == "PluginError"
    assert verify_run(RunFolder(tmp_path, "a")).sound


def test_single_rank_never_calls_all_gather():
    """A rank outside of the world is refused."""
    peers = RankGroup(0, 1, lambda _: pytest.fail("called"))
    assert peers.run_on_all(lambda: 3) == 3
    assert peers.all_reduce_max(4) == 4
    with pytest.raises(RunError, match="rank 2 of 2"):
        RankGroup(2, 2)
    with pytest.raises(RunError, match="same run_id"):
        Run(plugins=[], world_size=2)


def test_verify_reports_a_rank_log_without_tree_heads_as_missing(tmp_path):
    """Each rank signs an empty log before any rank writes a line, so a crash does not leave it."""
    run_on_threads(lambda rank, gather: loop(tmp_path, rank, gather))
    folder = RunFolder(tmp_path, "a")
    for path in folder.log_dir(1, 1).iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert any(f.kind == "gap" and f.place == "log/1-1" for f in verify_run(folder, parquet=False).findings)


def test_verify_accepts_a_kill_before_all_rank_logs_exist(tmp_path):
    """Rank 1 can create its log before rank 0. No rank has a line then."""
    run_on_threads(lambda rank, gather: loop(tmp_path, rank, gather))
    folder = RunFolder(tmp_path, "a")
    shutil.rmtree(folder.log_dir(1, 0))
    shutil.rmtree(folder.checkpoints)
    for path in folder.log_dir(1, 1).iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (folder.log_dir(1, 1) / "000000000000.jsonl").write_bytes(b"")
    assert verify_run(folder, parquet=False).sound


def rolled_back(folder, rank, head):
    """Cut the log of a rank back to one of its own older tree heads, as someone without the key can."""
    log = folder.log_dir(1, rank)
    history = (log / "checkpoints").read_bytes()
    (log / "checkpoints").write_bytes(history[: history.index(head) + len(head)] + b"\n")
    (log / "checkpoint").write_bytes(head)
    size, left = parse_head(head.decode())[1].size, 0
    for segment in folder.segments(1, rank):
        lines = segment.read_bytes().splitlines(keepends=True)
        segment.write_bytes(b"".join(lines[: max(0, size - left)]))
        left += len(lines)
    shutil.rmtree(log / "tile")
    for kind in PARQUET_TABLES:
        shutil.rmtree(folder.path / kind, ignore_errors=True)


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_rollback_of_one_rank_to_any_older_head_is_a_contradiction(tmp_path, rank):
    """The log of another rank names its size and root at the end. No key and no pin is needed to see it."""
    runs = run_on_threads(lambda own, gather: loop(tmp_path / "runs", own, gather, world=3), 3)
    whole = runs[0].folder
    assert verify_run(whole).sound
    [named] = of("run.finished", events(whole, 1, (rank - 1) % 3))[0]["rank_logs"]
    assert named["rank"] == rank
    notes, _ = split_history((whole.log_dir(1, rank) / "checkpoints").read_bytes())
    older = [note for note in notes if 0 < parse_head(note.decode())[1].size < named["size"]]
    assert older
    key = standalone.parse_key(json.loads(whole.run_json.read_bytes())["verifier_key"])
    for number, head in enumerate(older):
        shutil.copytree(whole.path, tmp_path / str(number) / "a")
        folder = RunFolder(tmp_path / str(number), "a")
        rolled_back(folder, rank, head)
        assert "contradiction" in verify_run(folder).counts
        assert standalone.verify_archive(standalone.load(folder.path), "a", key, known=True) == 1
        problems = read_evidence(folder, own_keys(folder)).problems
        assert [problem for problem in problems if f"log 1-{rank}: when rank" in problem]
