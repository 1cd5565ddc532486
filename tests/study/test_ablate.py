"""Ablation: arms, a table that was calculated by hand, and a study that continues after a stop."""

from __future__ import annotations

import csv
import subprocess
import sys

import pytest

from ockham.cli import main
from ockham.errors import BadInputError, UnverifiableError
from ockham.policy import load_policy
from ockham.record.run_folder import RunFolder
from ockham.study.ablation_table import build_table
from ockham.study.arms import build_arms, resolve_control_arm
from ockham.study.run_data import load_run_data
from ockham.study.training_process import resume, write_policy
from tests.helpers import forked_cli
from tests.helpers.tiny_trainer import TINY, text
from tests.study.synthetic_runs import planned


def named(chosen=()):
    return {arm.name: arm for arm in build_arms(load_policy("balanced"), chosen)}


def test_arms_remove_and_isolate_each_plugin():
    """`finite` is in every arm."""
    arms = named()
    plugins = [entry["name"] for entry in load_policy("balanced").content["plugins"]]
    for plugin in plugins[1:]:
        assert list(arms[f"without-{plugin}"].document["plugins"]) == [p for p in plugins if p != plugin]
        assert plugin in arms[f"only-{plugin}"].document["plugins"]
    assert list(arms["full"].document["plugins"]) == plugins
    assert list(arms["none"].document["plugins"]) == ["finite"]
    assert list(arms["only-gate"].document["plugins"]) == ["finite", "gate"]
    assert list(arms["only-compressor"].document["plugins"]) == ["finite", "compressor", "anchor"]


def test_arms_without_an_anchor_have_no_pull():
    """Only the updated batches differ."""
    arms = named()
    for name in ("none", "only-gate", "random-skip", "none-equal-compute"):
        parameters = arms[name].document["hyperparameters"]
        assert (parameters["pull"], parameters["lambda_ockham"]) == ("none", 0.0)
    assert arms["full"].document["hyperparameters"]["pull"] == "decoupled"


@pytest.mark.parametrize("arm", build_arms(load_policy("tight")), ids=lambda arm: arm.name)
def test_every_arm_is_a_valid_policy_file(tmp_path, arm):
    """The completed control too."""
    whole = resolve_control_arm(arm, 0.3, 2.0, 300) if arm.after else arm
    write_policy(tmp_path / "arm.yaml", whole.document)
    policy = load_policy(tmp_path / "arm.yaml")
    assert [entry["name"] for entry in policy.content["plugins"]] == list(whole.document["plugins"])
    assert [plugin.name for plugin in policy.build()] == list(whole.document["plugins"])


def test_control_arms_follow_the_gate():
    """They have its rate or its compute."""
    arms = named(["random-skip", "none-equal-compute"])
    assert set(arms) == {"only-gate", "random-skip", "none-equal-compute"}
    gate = resolve_control_arm(arms["random-skip"], 0.5, 2.0, 300).document["plugins"]["gate"]
    assert (gate["mode"], gate["target"]) == ("random", 0.5)
    assert resolve_control_arm(arms["none-equal-compute"], 0.5, 2.0, 300).trainer == {"max_iters": 200}


def test_unknown_arm_is_refused_with_a_suggestion():
    """The nearest name is shown."""
    with pytest.raises(BadInputError, match="only-gate"):
        named(["only-gait"])


def test_ablation_table_matches_a_manual_calculation(tmp_path):
    """Student's t for two seeds is 12.7062."""
    runs = [planned(tmp_path, f"n{i}", [3.0, 2.0, 1.0 + i], skipping=False) for i in range(2)]
    half = [planned(tmp_path, f"h{i}", [3.0, 2.5, 1.5 + 2 * i], skipping=True) for i in range(2)]
    rows = {
        row.arm: row
        for row in build_table(
            {
                "none": [load_run_data(tmp_path, r) for r in runs],
                "gate": [load_run_data(tmp_path, r) for r in half],
            }
        )
    }
    none, gate = rows["none"], rows["gate"]
    assert (none.loss, gate.loss) == (1.5, 2.5)
    assert gate.delta_vs_none == pytest.approx(1.0)
    assert gate.delta_vs_none_pm == pytest.approx(12.70620473617471 * 0.5)
    assert none.delta_vs_none is None
    assert (none.compute, gate.compute) == (1.0, pytest.approx(60 / 90))
    assert (gate.update_rate, none.update_rate) == (0.5, 1.0)
    # 60 forwards are 20 batches of always updating, where its loss was 2.0 in both seeds.
    assert none.loss_at_equal_compute == pytest.approx(2.0)
    assert gate.loss_at_equal_compute == pytest.approx(2.5)
    one = build_table({"gate": [load_run_data(tmp_path, "h0")]})[0]
    assert one.loss_pm is None


@pytest.fixture
def ablate(monkeypatch, capsys):
    """The command in this process, with forked arms. The test of a rerun starts arms in new processes."""
    # The command sets this variable.
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    monkeypatch.setattr(subprocess, "run", lambda program, **_: forked_cli.run("ockham", *program[3:]))
    sets = [word for setting in (*TINY, "device=cpu") for word in ("--set", setting)]

    def typed(runs, *words):
        monkeypatch.setattr(
            sys, "argv", ["ockham", "ablate", "--runs", str(runs), "-f", "csv", *sets, *words]
        )
        with pytest.raises(SystemExit) as left:
            main()
        return left.value.code, *capsys.readouterr()

    return typed


def test_failed_arm_reports_its_last_line(tmp_path, monkeypatch):
    """From the start of the line."""
    line = "ockham: --set 'foo=1': no setting 'foo'; known: " + "activation, " * 60
    failed = subprocess.CompletedProcess([], 2, "", f"a warning\n{line}\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(UnverifiableError, match="ended with 2: ockham: --set 'foo=1': no setting 'foo'"):
        resume(RunFolder(tmp_path, "a"))


def test_study_trains_each_arm_once(ablate, tmp_path):
    """Another study of that name is refused."""
    words = ["--data", str(text(tmp_path)), "--seeds", "5", "--arms", "none,only-gate"]
    status, first, metadata = ablate(tmp_path / "runs", *words)
    assert status == 0, metadata
    rows = {row["arm"]: row for row in csv.DictReader(first.splitlines())}
    assert set(rows) == {"none", "only-gate"}
    assert float(rows["none"]["update_rate"]) == 1.0
    assert float(rows["only-gate"]["compute"]) < 1.0
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"ablate.none.s5", "ablate.only-gate.s5"}
    seen = load_run_data(tmp_path / "runs", "ablate.only-gate.s5")
    assert seen.settings["seed"] == 5
    assert ablate(tmp_path / "runs", *words)[1] == first
    assert [attempt for leg in seen.legs for attempt in {s.data["attempt"] for s in leg.steps}] == [1]
    status, _, metadata = ablate(tmp_path / "runs", *words, "--set", "n_embd=32")
    assert status == 2
    assert "n_embd=16" in metadata


def test_rerun_confirms_the_exact_part(tmp_path):
    """Losses and verdicts are equal bit for bit."""
    words = ["--data", str(text(tmp_path)), "--run", "a", "--set", "gate.warmup=5"]
    sets = [word for setting in (*TINY, "device=cpu") for word in ("--set", setting)]

    def run(*more):
        return forked_cli.run("ockham", "--runs", str(tmp_path / "runs"), *more)

    assert run("train", *words, *sets).returncode == 0
    done = run("whatif", "a", "--set", "gate.target=0.2", "--rerun", "-f", "csv")
    assert done.returncode == 0, done.stderr
    row = next(csv.DictReader(done.stdout.splitlines()))
    assert 5 <= int(row["exact_batches"]) < 40
    assert float(row["exact_identical"]) == 1.0
    assert row["rerun"].startswith("a.whatif-")
    assert run("replay", row["rerun"]).returncode == 0
