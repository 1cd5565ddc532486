"""train.py with skipped data and with rollbacks: which rows are read, and what is recorded."""

from __future__ import annotations

import pytest

from ockham.catalog import Catalog
from ockham.record.run_folder import RunFolder
from ockham.record.verify.run import verify_run
from ockham.replay.runner import replay_run
from tests.helpers.events import events, plain_validator
from tests.helpers.train_command import run_train, select_data

POLICY = """
extends: balanced
targets: {}
plugins:
  gate: {shadow: true}
  rollback_at: {use: "tests.helpers.plugins:RollbackAt", shadow: false, first: 25, second: 33}
"""


def read_rows(folder, run, attempt=1):
    """Return the data position of each iteration of a log."""
    contexts = select_data("context.recorded", events(RunFolder(folder / "runs", run), attempt))
    return {c["iter_num"]: c["rows"] for c in contexts if c["hook"] == "batch"}


def assert_sound(folder, run):
    """Assert that the run verifies and replays, and that its events are valid by jsonschema."""
    run_folder = RunFolder(folder / "runs", run)
    report = verify_run(run_folder)
    assert report.sound, [str(finding) for finding in report.findings]
    assert replay_run(run_folder).identical
    for attempt, rank in run_folder.logs():
        for event in events(run_folder, attempt, rank):
            kind = event["type"].removeprefix("ockham.").removesuffix(".v1")
            if kind in ("data.skipped", "rollback.performed"):
                plain_validator(kind).validate(event)


def test_skipped_data_is_never_read_also_after_a_resume(tmp_path):
    """The resumed run skips the same range without a setting, and records it."""
    options = ("--run", "a", "--policy", "observe", "--set", "skip_data=10:14,25:31")
    assert run_train(tmp_path, *options, "--set", "max_iters=20").returncode == 0
    assert run_train(tmp_path, "--run", "a", "--resume", "--set", "max_iters=40").returncode == 0
    assert_sound(tmp_path, "a")
    rows = {**read_rows(tmp_path, "a"), **read_rows(tmp_path, "a", 2)}
    expected = [at for at in range(60) if not (10 <= at < 14 or 25 <= at < 31)][:40]
    assert [rows[i]["position"] for i in range(40)] == expected
    sql = "select attempt, iter_num, first_position, last_position, skipped_by, reason_code from skipped_data"
    assert [tuple(row.values()) for row in Catalog(tmp_path / "runs").rows(f"{sql} order by 1, 2")] == [
        (1, 10, 10, 13, "user", "SKIP_DATA_SETTING"),
        (2, 21, 25, 30, "user", "SKIP_DATA_SETTING"),
    ]
    why = run_train_why(tmp_path, "a", 21)
    assert "data skipped: positions 25 to 30 (SKIP_DATA_SETTING, by user, attempt 2)" in why


def run_train_why(folder, run, iter_num):
    """Return the output of `ockham why`."""
    from typer.testing import CliRunner

    from ockham.cli import build_app

    words = ["why", run, str(iter_num), "--runs", str(folder / "runs")]
    return CliRunner().invoke(build_app(), words).stdout


def test_ranges_can_be_changed_on_resume(tmp_path):
    """Rows that were read stay read. The new range applies from the next iteration on."""
    options = ("--run", "a", "--policy", "observe", "--set", "skip_data=10:14")
    assert run_train(tmp_path, *options, "--set", "max_iters=20").returncode == 0
    changed = ("--set", "skip_data=5:8,26:28", "--set", "max_iters=30")
    assert run_train(tmp_path, "--run", "a", "--resume", *changed).returncode == 0
    rows = {**read_rows(tmp_path, "a"), **read_rows(tmp_path, "a", 2)}
    assert [rows[i]["position"] for i in range(19, 30)] == [23, 24, 25, 28, 29, 30, 31, 32, 33, 34, 35]
    assert_sound(tmp_path, "a")


@pytest.mark.parametrize("mode", ["skip_data", "repeat"])
def test_rollback_skips_or_repeats_the_rows_since_the_good_state(tmp_path, mode):
    """The digests of the batches since the anchor occur never again, or in the same order again."""
    (tmp_path / "policy.yaml").write_text(POLICY)
    options = ("--run", "a", "--policy", str(tmp_path / "policy.yaml"), "--set", f"after_rollback={mode}")
    assert run_train(tmp_path, *options).returncode == 0
    assert_sound(tmp_path, "a")
    log_events = events(RunFolder(tmp_path / "runs", "a"))
    rollbacks = select_data("rollback.performed", log_events)
    assert [back["iter_num"] for back in rollbacks] == [25, 33]
    assert {back["after_rollback"] for back in rollbacks} == {mode}
    rows = read_rows(tmp_path, "a")
    digests = [rows[i]["digest"] for i in range(40)]
    for back in rollbacks:
        now = back["iter_num"]
        assert rows[now + 1]["position"] == back["next_position"]
        good = back["anchor_iter_num"]
        between = digests[good + 1 : now + 1]
        if mode == "skip_data":
            assert not set(between) & set(digests[now + 1 :])
        else:
            after = digests[now + 1 : 34 if now == 25 else 40]
            assert after == between[: len(after)]
    skipped = select_data("data.skipped", log_events)
    assert [each["iter_num"] for each in skipped] == ([25, 33] if mode == "skip_data" else [])
    assert all(each["decision_id"] and each["by"] == "rollback" for each in skipped)
    assert f"next position {rollbacks[0]['next_position']} ({mode})" in run_train_why(tmp_path, "a", 25)
