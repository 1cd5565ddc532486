"""Many ranks: one verdict on the mean loss, one gradient, a log each; a lost rank ends the run, and it goes on."""

from __future__ import annotations

import json
import time

import pytest
from safetensors.torch import load_file

from ockham.catalog import Catalog
from ockham.record.run_folder import RunFolder
from ockham.record.verify.run import verify_run
from ockham.replay.runner import replay_run
from tests.helpers.events import events
from tests.helpers.forked_cli import wait
from tests.helpers.ranks import spawned, started
from tests.helpers.tiny_trainer import same


def of(kind, found):
    return [event["data"] for event in found if event["type"] == f"ockham.{kind}.v1"]


def batches(folder, rank, attempt=1, run="two"):
    found = events(RunFolder(folder / "runs", run), attempt, rank)
    return [c for c in of("context.recorded", found) if c["hook"] == "batch"]


def story(folder, rank, attempt=1, since=0, run="two"):
    made = of("decision.made", events(RunFolder(folder / "runs", run), attempt, rank))
    place = ("sequence", "attempt", "rank")
    return [{k: v for k, v in d.items() if k not in place} for d in made if d["iter_num"] >= since]


def final(folder, run, iter_num=39, attempt=1):
    name = f"resume-{iter_num:08d}" + (f".{attempt}" if attempt > 1 else "")
    return load_file(folder / "runs" / run / "checkpoints" / name / "model.safetensors")


def kept(folder, run):
    path = folder / "runs" / run
    return [(check := verify_run(RunFolder(path.parent, run))).sound, replay_run(RunFolder(path.parent, run)).identical,
            [f for f in check.findings if "pinned" not in f.kind]]  # fmt: skip


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """One run of two ranks that several tests look at."""
    folder = tmp_path_factory.mktemp("two")
    done = wait(started(folder, 2, "--run", "two", "--set", "dropout=0.1"))
    assert [each.returncode for each in done] == [0, 0], done
    return folder, done


def test_ranks_judge_the_mean_and_log_one_story(two):
    """One rank's loss is under the threshold and another's over it, and both do what the mean says."""
    folder, done = two
    each = [batches(folder, rank) for rank in (0, 1)]
    assert [[c["iter_num"] for c in own] for own in each] == [list(range(40))] * 2
    parted = 0
    verdicts = {d["iter_num"]: d for d in story(folder, 0) if d["plugin"] == "gate"}
    for one, other in zip(*each, strict=True):
        losses = one["given"]["rank_loss"], other["given"]["rank_loss"]
        assert losses[0] != losses[1]
        assert one["given"]["task_loss"] == other["given"]["task_loss"] == sum(losses) / 2
        if (verdict := verdicts[one["iter_num"]])["reason_code"] != "WARMUP":
            parted += min(losses) < verdict["threshold"] <= max(losses)
    assert parted > 0
    assert story(folder, 0) == story(folder, 1)
    assert {d["action"] for d in verdicts.values()} == {"UPDATE", "SKIP"}
    assert "update rate" in done[0].stdout
    assert (done[1].stdout, done[1].stderr) == ("", "")  # rank 0 alone speaks


def test_the_logs_of_all_ranks_are_one_run(two):
    """They verify and replay together; the views count each batch once and show each rank's own loss."""
    folder, _ = two
    assert kept(folder, "two") == [True, True, []]
    catalog = Catalog(folder / "runs")
    summary = catalog.rows("select batches, updates, evaluations from run_summary")[0]
    updated = sum(c["applied"]["updated"] for c in batches(folder, 0))
    assert summary == {"batches": 40, "updates": updated, "evaluations": 40}
    rows = catalog.rows(
        "select rank, rank_loss from contexts where hook = 'batch' and iter_num = 7 order by rank"
    )
    assert [row["rank_loss"] for row in rows] == [batches(folder, r)[7]["given"]["rank_loss"] for r in (0, 1)]


def test_the_steps_are_those_of_torchs_own_ddp(tmp_path):
    """Two ranks beside DistributedDataParallel on the same batches, some of them skipped: the same weights.

    In shares (FSDP2) the sums run in another order: the same losses and weights but for rounding.
    """
    done = wait(spawned(2, "-m", "tests.nano.ddp_reference", str(tmp_path)))
    assert [each.returncode for each in done] == [0, 0], done
    found = [json.loads(each.stdout) for each in done]
    assert found[0] == found[1]  # on every rank
    assert found[0]["ddp"] == 0.0
    assert found[0]["fsdp"] < 1e-6
    assert found[0]["shared"] == pytest.approx(found[0]["losses"], rel=1e-6)


def test_a_killed_rank_ends_the_run_and_it_goes_on_bit_for_bit(two):
    """SIGKILL of one of two: the other ends its log and exits 1; resumed, the run is the uninterrupted one."""
    folder, _ = two
    words = ("--run", "killed", "--set", "dropout=0.1", "--set", "checkpoint_every=10")
    processes = started(folder, 2, *words)
    checkpoints = folder / "runs/killed/checkpoints"
    while not (checkpoints / "resume-00000019").exists() and processes[1].exitcode is None:
        time.sleep(0.005)
    processes[1].kill()
    done = wait(processes, 60)
    assert (done[0].returncode, done[1].returncode) == (1, -9), done
    assert done[0].stderr.count("\n") == 1, done[0].stderr
    assert "another rank has ended" in done[0].stderr
    last = events(RunFolder(folder / "runs", "killed"), 1, 0)[-1]["data"]
    assert last["reason_code"] == "RANK_LOST"
    assert kept(folder, "killed")[:2] == [True, True]
    again = wait(started(folder, 2, "--run", "killed", "--resume"))
    assert [each.returncode for each in again] == [0, 0], again
    resumed = of("run.resumed", events(RunFolder(folder / "runs", "killed"), 2, 1))[0]
    assert "from_world_size" not in resumed
    since = resumed["iter_num"]
    assert since in (20, 30)
    assert same(final(folder, "two"), final(folder, "killed", 39, 2))
    for rank in (0, 1):
        assert story(folder, rank, 2, since, "killed") == story(folder, rank, 1, since)
    assert kept(folder, "killed")[:2] == [True, True]


def test_a_silent_rank_ends_the_run_of_the_other(tmp_path):
    """It answers nothing and its connection stands: over gloo an error says so, else the watch ends log and process."""
    says = {"gloo": "Timed out waiting 1000ms", "nccl": "nothing was heard for 3 s"}
    env = {"OCKHAM_KEY_DIR": str(tmp_path / "keys")}
    pairs = {name: spawned(2, "-m", "tests.nano.hanging_rank", str(tmp_path), name, **env) for name in says}
    try:
        done = {name: wait([waiting], 60)[0] for name, (waiting, _) in pairs.items()}
        assert [silent.exitcode for _, silent in pairs.values()] == [None, None]
    finally:
        for _, silent in pairs.values():
            silent.kill()
    for name, each in done.items():
        assert (each.returncode, each.stderr.count("does not answer")) == (1, 1), each.stderr
        last = events(RunFolder(tmp_path / "runs", name), 1, 0)[-1]["data"]
        assert (last["reason_code"], last["batches"]) == ("RANK_LOST", 2)
        assert says[name] in last["message"]
        assert kept(tmp_path, name)[:2] == [True, True]


def test_what_torchrun_starts_again_says_how_it_goes_on(tmp_path):
    """Without --resume a second start would be refused because the run exists, so the first one already is."""
    done = wait(started(tmp_path, 1, TORCHELASTIC_MAX_RESTARTS="1"))
    assert (done[0].returncode, done[0].stderr.count("\n")) == (2, 1), done
    assert "--run ID --resume" in done[0].stderr
    assert not (tmp_path / "runs").exists()


def test_another_number_of_ranks_says_so(two):
    """One process goes on where two stood: a new attempt with the reason, which verifies."""
    folder, _ = two
    done = wait(started(folder, 1, "--run", "two", "--resume", "--set", "max_iters=44"))
    assert done[0].returncode == 0, done
    resumed = of("run.resumed", events(RunFolder(folder / "runs", "two"), 2, 0))[0]
    assert (resumed["from_world_size"], resumed["world_size"]) == (2, 1)
    assert resumed["reason_code"] == "RESUMED_ON_OTHER_WORLD_SIZE"
    assert [left["rank"] for left in resumed["left_logs"]] == [1]
    assert [c["iter_num"] for c in batches(folder, 0, 2)] == [40, 41, 42, 43]
    assert kept(folder, "two")[:2] == [True, True]


def test_four_ranks_with_a_share_each(two):
    """FSDP2 from end to end: one rank's loss over the threshold and another's under it; its checkpoint is a whole one."""
    folder, _ = two
    words = ("--run", "four", "--set", "parallel=fsdp", "--set", "max_iters=24")
    done = wait(started(folder, 4, *words))
    assert [each.returncode for each in done] == [0] * 4, done
    stories = [story(folder, rank, run="four") for rank in range(4)]
    assert stories.count(stories[0]) == 4
    each = [batches(folder, rank, run="four") for rank in range(4)]
    limits = {d["iter_num"]: d["threshold"] for d in stories[0] if d["plugin"] == "gate"}
    losses = [[c["given"]["rank_loss"] for c in same] for same in zip(*each, strict=True)]
    assert any(min(own) < limits[at] <= max(own) for at, own in enumerate(losses) if limits[at] is not None)
    again = wait(started(folder, 1, "--run", "four", "--resume", "--set", "max_iters=26"))
    assert again[0].returncode == 0, again
    assert kept(folder, "four")[:2] == [True, True]
