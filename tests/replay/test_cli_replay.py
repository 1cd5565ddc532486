"""The commands replay and whatif: exit statuses and output formats."""

from __future__ import annotations

import csv
import json
import shlex

import orjson
import pytest

from ockham.cli import replay
from ockham.policy import load_policy
from ockham.record.run_folder import RunFolder
from ockham.record.schema import validate_event
from ockham.replay.trajectory import load_trajectory
from ockham.replay.whatif import whatif
from tests.helpers import forked_cli
from tests.helpers.runs import make_run


def ockham(*words, runs):
    return forked_cli.run("ockham", "--runs", str(runs), *words)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    make_run(folder, "good", 60)
    make_run(folder, "bad", 60)
    path = RunFolder(folder, "bad").segments(1, 0)[0]
    lines = path.read_bytes().splitlines(keepends=True)
    at = [i for i, line in enumerate(lines) if b"BELOW_THRESHOLD" in line][3]
    event = orjson.loads(lines[at])
    event["data"]["threshold"] += 0.5
    lines[at] = orjson.dumps(event) + b"\n"
    path.write_bytes(b"".join(lines))
    return folder


def test_identical_replay_exits_0(runs):
    """A unique prefix of the run ID is enough."""
    done = ockham("replay", "goo", runs=runs)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("good: IDENTICAL\n")


def test_different_replay_exits_1_and_names_the_difference(runs):
    """Plugin, iteration and field, as JSON and text."""
    done = ockham("replay", "bad", "-f", "json", runs=runs)
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert report["counts"]["found"] == 1
    one = report["logs"][0]["differences"][0]
    assert (one["plugin"], one["field"]) == ("gate", "threshold")
    assert float(one["recorded"]) == pytest.approx(float(one["replayed"]) + 0.5)
    metadata = ockham("replay", "bad", runs=runs)
    assert f"iteration {one['iter_num']}" in metadata.stdout
    command = metadata.stdout.splitlines()[-1].partition("first one: ")[2]
    assert command == report["again"]
    again = ockham(*shlex.split(command)[1:], runs="nowhere")
    assert again.returncode == 1
    assert (
        f"iteration {one['iter_num']}, sequence {one['sequence']}: gate threshold: recorded" in again.stdout
    )


def test_replay_of_bad_input_exits_2_and_unverifiable_3(runs, tmp_path):
    """A missing run is 2, a missing policy 3."""
    done = ockham("replay", "nope", runs=runs)
    assert done.returncode == 2
    assert done.stderr.startswith("ockham: nope: run not found")
    make_run(tmp_path, "a", 5)
    next((tmp_path / "a" / "policies").iterdir()).unlink()
    done = ockham("replay", "a", runs=tmp_path)
    assert (done.returncode, done.stdout) == (3, "")


def test_attestation_is_signed_and_leaves_the_run_unchanged(runs):
    """A replay with --iter cannot be attested."""
    before = {path: path.read_bytes() for path in (runs / "good").rglob("*") if path.is_file()}
    for attempt in (1, 2):
        done = ockham("replay", "good", "--attest", runs=runs)
        assert (done.returncode, done.stdout.splitlines()[0]) == (0, "good: IDENTICAL")
        ledger = RunFolder(runs, "_ledger")
        line = ledger.segments(attempt, 0)[0].read_bytes()
        event = orjson.loads(line)
        validate_event("replay.attested", event)
        assert event["id"] in done.stderr
        assert event["data"]["decisions"] == event["data"]["identical"] > 60
        assert event["data"]["attempt_size"][0]["size"] == len(
            RunFolder(runs, "good").segments(1, 0)[0].read_bytes().splitlines()
        )
        assert (ledger.log_dir(attempt, 0) / "checkpoint").exists()
    assert before == {path: path.read_bytes() for path in (runs / "good").rglob("*") if path.is_file()}
    assert ockham("replay", "good", "--attest", "--iter", "3", runs=runs).returncode == 2


def test_whatif_prints_a_row_per_policy(runs, tmp_path):
    """With --batches it prints a row per batch."""
    done = ockham("whatif", "good", "--set", "gate.target=0.1..0.9", "-f", "json", runs=runs)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert len(rows) == 9
    rates = [row["update_rate"] for row in rows]
    assert rates == sorted(rates)
    assert rates[0] < rates[-1]
    out = tmp_path / "each.csv"
    done = ockham("whatif", "good", "--policy", "tight", "--batches", "-o", str(out), runs=runs)
    assert done.returncode == 0, done.stderr
    with out.open() as file:
        each = list(csv.DictReader(file))
    assert len(each) == 60
    assert {row["exact"] for row in each} == {"true", "false"}


def test_whatif_output_fits_a_terminal(runs, capsys, monkeypatch):
    """Columns that state exactness and result remain."""
    asked = whatif(load_trajectory(RunFolder(runs, "good")), load_policy("tight"), "tight").summary()
    for width in (80, 100, 120):
        monkeypatch.setenv("COLUMNS", str(width))
        replay.write_rows(
            list(asked), [list(asked.values())], "table", droppable_columns=replay.DROPPABLE_COLUMNS
        )
        shown, metadata = capsys.readouterr()
        assert max(map(len, shown.splitlines())) <= width
        assert {"policy", "diverged_iter", "update_rate", "compute_saved"} <= set(shown.split())
        assert "hidden columns: batches" in metadata


def test_whatif_without_a_policy_exits_2(runs):
    """One line lists the options."""
    done = ockham("whatif", "good", runs=runs)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
