"""Several ranks: one verdict on the mean loss, one gradient, a log each, and a lost rank."""

from __future__ import annotations

import json

import pytest

from ockham.catalog import Catalog
from ockham.record.run_folder import RunFolder
from ockham.record.verify.run import verify_run
from ockham.replay.runner import replay_run
from tests.helpers.events import events
from tests.helpers.forked_cli import wait
from tests.helpers.ranks import spawn_ranks, start_ranks
from tests.helpers.tiny_trainer import weights_equal
from tests.helpers.train_command import (
    PAUSED_TRAIN,
    load_resume_weights,
    read_decisions,
    select_data,
    wait_for_checkpoint,
)


def read_batches(folder, rank, attempt=1, run="two"):
    """Return the recorded contexts of the batches of one rank."""
    log_events = events(RunFolder(folder / "runs", run), attempt, rank)
    return [c for c in select_data("context.recorded", log_events) if c["hook"] == "batch"]


def assert_sound_run(folder, run):
    """Assert that the run verifies and replays identically. Return the kinds of its findings."""
    run_folder = RunFolder(folder / "runs", run)
    report = verify_run(run_folder)
    assert report.sound, [str(finding) for finding in report.findings]
    assert replay_run(run_folder).identical
    return [finding.kind for finding in report.findings if "pinned" not in finding.kind]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Folder and processes of one run with two ranks, for several tests."""
    folder = tmp_path_factory.mktemp("two")
    processes = wait(start_ranks(folder, 2, "--run", "two", "--set", "dropout=0.1"))
    assert [process.returncode for process in processes] == [0, 0], processes
    return folder, processes


def test_ranks_decide_on_the_mean_loss_of_all_ranks(two):
    """In some batches only one rank's loss is below the threshold. Both ranks follow the mean."""
    folder, _ = two
    batches = [read_batches(folder, rank) for rank in (0, 1)]
    assert [[c["iter_num"] for c in contexts] for contexts in batches] == [list(range(40))] * 2
    verdicts = {d["iter_num"]: d for d in read_decisions(folder, "two") if d["plugin"] == "gate"}
    split_batches = 0
    for context, other in zip(*batches, strict=True):
        losses = context["given"]["rank_loss"], other["given"]["rank_loss"]
        assert losses[0] != losses[1]
        assert context["given"]["task_loss"] == sum(losses) / 2
        assert other["given"]["task_loss"] == sum(losses) / 2
        verdict = verdicts[context["iter_num"]]
        if verdict["reason_code"] != "WARMUP":
            split_batches += min(losses) < verdict["threshold"] <= max(losses)
    assert split_batches > 0
    assert {d["action"] for d in verdicts.values()} == {"UPDATE", "SKIP"}


def test_ranks_log_equal_decisions_and_only_rank_zero_prints(two):
    """The decisions of both logs are equal. Rank 1 writes nothing to stdout and stderr."""
    folder, processes = two
    assert read_decisions(folder, "two", rank=0) == read_decisions(folder, "two", rank=1)
    assert "update rate" in processes[0].stdout
    assert processes[1].stdout == ""
    assert processes[1].stderr == ""


def test_two_ranks_record_other_rows_at_the_same_position(two):
    """No digest occurs twice in the two logs."""
    folder, _ = two
    rows = [context["rows"] for rank in (0, 1) for context in read_batches(folder, rank)]
    assert [row["position"] for row in rows] == [*range(40), *range(40)]
    assert len({row["digest"] for row in rows}) == 80


def test_logs_of_all_ranks_verify_and_count_each_batch_once(two):
    """The views count each batch once and contain each rank's local loss."""
    folder, _ = two
    assert assert_sound_run(folder, "two") == []
    catalog = Catalog(folder / "runs")
    summary = catalog.rows("select batches, optimizer_steps, evaluations from run_summary")[0]
    updated = sum(context["applied"]["updated"] for context in read_batches(folder, 0))
    assert summary == {"batches": 40, "optimizer_steps": updated, "evaluations": 40}
    rows = catalog.rows(
        "select rank, rank_loss from contexts where hook = 'batch' and iter_num = 7 order by rank"
    )
    expected = [read_batches(folder, rank)[7]["given"]["rank_loss"] for rank in (0, 1)]
    assert [row["rank_loss"] for row in rows] == expected


def test_ddp_and_fsdp_steps_equal_those_of_torch_ddp(tmp_path):
    """Two ranks train on the same batches, some of them skipped.

    The weights of DDP are equal. FSDP2 adds in another order, so its losses and weights differ by rounding.
    """
    processes = wait(spawn_ranks(2, "-m", "tests.nano.ddp_reference", str(tmp_path)))
    assert [process.returncode for process in processes] == [0, 0], processes
    results = [json.loads(process.stdout) for process in processes]
    assert results[0] == results[1]
    assert results[0]["ddp"] == 0.0
    assert results[0]["fsdp"] < 1e-6
    assert results[0]["fsdp_losses"] == pytest.approx(results[0]["losses"], rel=1e-6)


def test_run_with_a_killed_rank_ends_and_resumes_bit_for_bit(two):
    """After SIGKILL of one of two ranks, the other ends its log and exits with 1.

    The resumed run equals the uninterrupted one.
    """
    folder, _ = two
    options = ("--run", "killed", "--set", "dropout=0.1", "--set", "checkpoint_every=10")
    processes = start_ranks(folder, 2, *options, script=("-m", PAUSED_TRAIN))
    wait_for_checkpoint(folder, "killed", 19, processes[1])
    processes[1].kill()
    survivor, killed = wait(processes)
    assert survivor.returncode == 1, survivor
    assert killed.returncode == -9
    assert survivor.stderr.count("\n") == 1, survivor.stderr
    assert "another rank has ended" in survivor.stderr
    last = events(RunFolder(folder / "runs", "killed"), 1, 0)[-1]["data"]
    assert last["reason_code"] == "RANK_LOST"
    assert_sound_run(folder, "killed")
    resumed_processes = wait(start_ranks(folder, 2, "--run", "killed", "--resume"))
    assert [process.returncode for process in resumed_processes] == [0, 0], resumed_processes
    resumed = select_data("run.resumed", events(RunFolder(folder / "runs", "killed"), 2, 1))[0]
    assert "from_world_size" not in resumed
    first_iter = resumed["iter_num"]
    # The kill can precede the event of the checkpoint, which is then not used.
    assert first_iter in (10, 20)
    assert weights_equal(
        load_resume_weights(folder, "two", 39), load_resume_weights(folder, "killed", 39, attempt=2)
    )
    for rank in (0, 1):
        decisions = read_decisions(folder, "killed", 2, rank, first_iter)
        assert decisions == read_decisions(folder, "two", 1, rank, first_iter)
    assert_sound_run(folder, "killed")


def test_run_ends_if_another_rank_stops_answering(tmp_path):
    """The connection stays open. Gloo raises an error. Otherwise the watchdog ends log and process."""
    messages = {"gloo": "Timed out waiting 5000ms", "nccl": "no message for 7 s"}
    env = {"OCKHAM_KEY_DIR": str(tmp_path / "keys")}
    pairs = {
        name: spawn_ranks(2, "-m", "tests.nano.hanging_rank", str(tmp_path), name, **env) for name in messages
    }
    try:
        finished = {name: wait([waiting])[0] for name, (waiting, _) in pairs.items()}
        assert [hanging.exitcode for _, hanging in pairs.values()] == [None, None]
    finally:
        for _, hanging in pairs.values():
            hanging.kill()
    for name, process in finished.items():
        assert process.returncode == 1, process.stderr
        assert process.stderr.count("does not answer") == 1, process.stderr
        last = events(RunFolder(tmp_path / "runs", name), 1, 0)[-1]["data"]
        assert last["reason_code"] == "RANK_LOST"
        assert last["batches"] == 2
        assert messages[name] in last["message"]
        assert_sound_run(tmp_path, name)


def test_torchrun_with_restarts_requires_resume(tmp_path):
    """Without --resume a restart would fail because the run exists. So the first start already fails."""
    process = wait(start_ranks(tmp_path, 1, TORCHELASTIC_MAX_RESTARTS="1"))[0]
    assert process.returncode == 2, process
    assert process.stderr.count("\n") == 1, process.stderr
    assert "--run ID --resume" in process.stderr
    assert not (tmp_path / "runs").exists()


def test_resume_with_another_number_of_ranks_is_recorded(two):
    """One process resumes a run of two ranks. The new attempt records the reason and verifies."""
    folder, _ = two
    process = wait(start_ranks(folder, 1, "--run", "two", "--resume", "--set", "max_iters=44"))[0]
    assert process.returncode == 0, process
    resumed = select_data("run.resumed", events(RunFolder(folder / "runs", "two"), 2, 0))[0]
    assert resumed["from_world_size"] == 2
    assert resumed["world_size"] == 1
    assert resumed["reason_code"] == "RESUMED_ON_OTHER_WORLD_SIZE"
    assert [log["rank"] for log in resumed["left_logs"]] == [1]
    assert [context["iter_num"] for context in read_batches(folder, 0, 2)] == [40, 41, 42, 43]
    assert_sound_run(folder, "two")


def test_four_sharded_ranks_log_equal_decisions_and_write_a_full_checkpoint(two):
    """FSDP2 from end to end. In some batches only a part of the ranks is over the threshold."""
    folder, _ = two
    options = ("--run", "four", "--set", "parallel=fsdp", "--set", "max_iters=24")
    processes = wait(start_ranks(folder, 4, *options))
    assert [process.returncode for process in processes] == [0] * 4, processes
    decisions = [read_decisions(folder, "four", rank=rank) for rank in range(4)]
    assert decisions.count(decisions[0]) == 4
    batches = [read_batches(folder, rank, run="four") for rank in range(4)]
    thresholds = {d["iter_num"]: d["threshold"] for d in decisions[0] if d["plugin"] == "gate"}
    losses = [[c["given"]["rank_loss"] for c in contexts] for contexts in zip(*batches, strict=True)]
    assert any(
        min(rank_losses) < thresholds[iter_num] <= max(rank_losses)
        for iter_num, rank_losses in enumerate(losses)
        if thresholds[iter_num] is not None
    )
    resumed = wait(start_ranks(folder, 1, "--run", "four", "--resume", "--set", "max_iters=26"))[0]
    assert resumed.returncode == 0, resumed
    assert_sound_run(folder, "four")


def test_ranks_return_to_the_same_saved_state(tmp_path):
    """Both ranks restore it, with their own generators. The logs verify and replay."""
    (tmp_path / "policy.yaml").write_text(
        "extends: balanced\ntargets: {}\nplugins:\n"
        '  rollback_at: {use: "tests.helpers.plugins:RollbackAt", first: 13}\n'
    )
    settings = ("dropout=0.1", "state_every=5", "max_iters=20")
    options = [word for setting in settings for word in ("--set", setting)]
    options += ["--run", "back", "--policy", str(tmp_path / "policy.yaml")]
    processes = wait(start_ranks(tmp_path, 2, *options))
    assert [process.returncode for process in processes] == [0, 0], processes
    folder = RunFolder(tmp_path / "runs", "back")
    backs = [select_data("rollback.performed", events(folder, 1, rank)) for rank in (0, 1)]
    assert [(back[0]["snapshot_id"], back[0]["next_position"]) for back in backs] == [
        ("resume-00000009", 14)
    ] * 2
    rows = [
        context["rows"]["digest"] for rank in (0, 1) for context in read_batches(tmp_path, rank, 1, "back")
    ]
    assert len(set(rows)) == 40
    for rank in (0, 1):
        facts = [context["given"] for context in read_batches(tmp_path, rank, 1, "back")]
        assert [each.get("state_available", False) for each in facts] == [i >= 5 for i in range(20)]
    assert_sound_run(tmp_path, "back")
