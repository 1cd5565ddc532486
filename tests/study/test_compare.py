"""The commands compare and roi: results that can be calculated by hand."""

from __future__ import annotations

import shutil

import pytest

from ockham.errors import BadInputError, RunError, UnverifiableError
from ockham.run import Run
from ockham.study.compare import compare
from ockham.study.roi import Prices, roi
from ockham.study.run_data import load_run_data
from tests.study.synthetic_runs import planned


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    planned(folder, "always", [3.0, 2.0, 1.0], skipping=False)
    planned(folder, "half", [3.0, 2.5, 1.005], skipping=True)
    planned(folder, "worse", [3.0, 2.5, 2.4], skipping=True)
    planned(folder, "seeded", [3.0, 2.5, 2.4], skipping=True, seed=8)
    planned(folder, "other-tokens", [3.0, 2.5, 2.4], skipping=False, tokens=99)
    return folder


def metadata(rows):
    return {row.name if hasattr(row, "name") else row.figure: row for row in rows}


def test_figures_of_two_runs_match_a_manual_calculation(runs):
    """30 batches at 3 forwards are 90; 30 + 15 x 2 are 60."""
    rows, _ = compare(load_run_data(runs, "always"), load_run_data(runs, "half"))
    found = metadata(rows)
    assert (found["updated_batches"].a, found["updated_batches"].b) == (30, 15)
    assert (found["optimizer_steps"].a, found["optimizer_steps"].b) == (30, 15)
    assert (found["compute_forwards"].a, found["compute_forwards"].b) == (90, 60)
    assert found["update_rate"].difference == pytest.approx(-0.5)
    assert found["last_val_loss"].difference == pytest.approx(0.005)
    # After 60 forwards, run a is at batch 20, where its loss was 2.0.
    assert found["val_loss_at_equal_compute"].a == pytest.approx(2.0)
    assert found["val_loss_at_equal_compute"].b == pytest.approx(1.005)
    assert found["iter 19"].difference == pytest.approx(0.5)
    assert found["occam_quotient"].relative_difference == pytest.approx(1 / 1.005 - 1)


def test_comparison_lists_different_policy_settings_only(runs):
    """And the order of the plugins."""
    rows, _ = compare(load_run_data(runs, "always"), load_run_data(runs, "half"))
    differing = {row.name for row in rows if row.section == "policy"}
    assert "plugins" in differing
    assert not any(name.startswith("finite.") for name in differing)
    same, _ = compare(load_run_data(runs, "half"), load_run_data(runs, "worse"))
    assert not [row for row in same if row.section == "policy"]


def test_unknown_data_counts_as_different(runs, tmp_path):
    """Own loops can leave it out."""
    planned(tmp_path, "a", [3.0], skipping=False, digest="")
    planned(tmp_path, "b", [3.0], skipping=True, digest="")
    rows, notes = compare(load_run_data(tmp_path, "a"), load_run_data(tmp_path, "b"))
    assert not [row for row in rows if row.section == "verdicts"]
    assert any("no digest of the data" in note for note in notes)


def test_comparison_lists_different_trainer_settings(runs):
    """Length and batch size are part of an experiment."""
    one, other = load_run_data(runs, "half"), load_run_data(runs, "worse")
    assert not [row for row in compare(one, other)[0] if row.section == "settings"]
    other.settings["batch_size"] = 3
    rows = [row for row in compare(one, other)[0] if row.section == "settings"]
    assert rows == [("settings", "batch_size", 2, 3, 1, None)]


def test_verdicts_are_compared_on_the_same_batches_only(runs):
    """Otherwise a note replaces the matrix."""
    rows, _ = compare(load_run_data(runs, "always"), load_run_data(runs, "half"))
    found = metadata(rows)
    assert (found["both update"].a, found["only a updates"].a, found["only b updates"].b) == (15, 15, 0)
    assert found["share that differs"].a == 0.5
    rows, notes = compare(load_run_data(runs, "half"), load_run_data(runs, "seeded"))
    assert not [row for row in rows if row.section == "verdicts"]
    assert any("seed" in note for note in notes)


def test_quotients_of_other_specs_are_not_compared(runs):
    """FLOPs over another number of tokens."""
    rows, notes = compare(load_run_data(runs, "always"), load_run_data(runs, "other-tokens"))
    assert "occam_quotient" not in metadata(rows)
    assert any("Quotient" in note for note in notes)


def test_losses_of_steps_with_other_tokens_are_compared_at_the_same_tokens(runs, tmp_path):
    """A step of 4 micro-batches has 40 tokens, one without accumulation 10. Losses are interpolated."""
    planned(tmp_path, "one", [4.0, 3.0, 2.0, 1.0, 0.5], skipping=False)
    planned(tmp_path, "four", [3.0], skipping=False, micro_steps=4)
    one, four = load_run_data(tmp_path, "one"), load_run_data(tmp_path, "four")
    assert (one.tokens_per_step, four.tokens_per_step) == (10, 40)
    rows, notes = compare(four, one)
    # The evaluation of `four` is after 400 tokens, and `one` was evaluated after 400 too.
    [row] = [row for row in rows if row.section == "losses"]
    assert (row.name, row.a, row.b) == ("tokens 400", 3.0, 1.0)
    assert row.relative_difference == pytest.approx(1 / 3 - 1)
    assert any("40 tokens in a and 10 in b" in note for note in notes)
    same, notes = compare(load_run_data(runs, "always"), load_run_data(runs, "half"))
    assert [row.name for row in same if row.section == "losses"] == ["iter 9", "iter 19", "iter 29"]
    assert not any("tokens" in note for note in notes)


def test_interpolated_loss_is_between_two_evaluations(tmp_path):
    """At 150 of the evaluations at 100 and 200 tokens. Outside of them there is no loss."""
    planned(tmp_path, "a", [4.0, 3.0], skipping=False)
    run = load_run_data(tmp_path, "a")
    assert run.loss_at_tokens(150) == pytest.approx(3.5)
    assert run.loss_at_tokens(99) is run.loss_at_tokens(201) is None


def test_both_differences_are_named(runs):
    """`difference` is b - a and `relative_difference` b/a - 1, for losses and quotients alike."""
    found = metadata(compare(load_run_data(runs, "always"), load_run_data(runs, "half"))[0])
    for name in ("last_val_loss", "occam_quotient", "compute_forwards"):
        row = found[name]
        assert row.difference == pytest.approx(row.b - row.a)
        assert row.relative_difference == pytest.approx(row.b / row.a - 1)


def test_compute_of_accumulated_steps_counts_each_optimizer_step_once(tmp_path):
    """40 micro-batches, 20 updated: 40 forwards, 20 backwards of 1.5 and 10 steps of 0.5."""
    planned(tmp_path, "a", [3.0], skipping=True, micro_steps=4)
    run = load_run_data(tmp_path, "a")
    costs = run.savings_counter.forward_costs()
    assert costs == pytest.approx((1.5, 0.5))
    assert run.optimizer_steps == 10
    assert run.compute_cost(costs) == pytest.approx(40 + 20 * 1.5 + 10 * 0.5)


def test_roi_counts_the_savings_of_skips(runs):
    """15 skips save 15 x 2 s of 90 s. All times are equal, so the interval has no width."""
    found = metadata(roi(load_run_data(runs, "half"), Prices(hour=3600.0, gigabyte=1000.0)))
    assert found["backward_over_forward"].value == pytest.approx(2.0)
    assert found["seconds_saved"].value == pytest.approx(30)
    for name in ("compute_saved", "compute_saved_low", "compute_saved_high"):
        assert found[name].value == pytest.approx(30 / 90)
    assert found["chain_seconds"].value == pytest.approx(3)
    assert found["chain_share"].value == pytest.approx(3 / 90)
    assert found["flops_saved"].value == 4 * 100 * 10 * 15
    assert found["bytes_saved"].value == 0
    assert found["compute_money_saved"].value == pytest.approx(30.0)
    assert found["storage_saved"].value == 0
    assert {row.kind for row in found.values()} == {"measured", "derived", "assumed"}
    assert found["verdict"].value == "GROSS"


def test_roi_with_a_baseline_counts_compute_up_to_the_floor(runs):
    """60 forwards in place of 90."""
    found = metadata(roi(load_run_data(runs, "half"), Prices(), baseline=load_run_data(runs, "always")))
    assert found["compute_saved_to_floor"].value == pytest.approx(1 / 3)
    assert found["verdict"].value == "SAVED"


def test_roi_below_the_floor_saves_nothing(runs):
    """The number of skips does not matter."""
    found = metadata(roi(load_run_data(runs, "worse"), Prices(), baseline=load_run_data(runs, "always")))
    assert found["reached_at"].value is None
    assert found["verdict"].value == "NOTHING_SAVED"
    assert (
        metadata(roi(load_run_data(runs, "worse"), Prices(), quality_floor=2.45))["verdict"].value
        == "FLOOR_REACHED"
    )


def test_roi_with_a_given_floor_is_not_called_measured(runs):
    """A baseline has its own loss."""
    one, rival = load_run_data(runs, "half"), load_run_data(runs, "always")
    asked = metadata(roi(one, Prices(), quality_floor=2.0, baseline=rival))["quality_floor"]
    assert (asked.value, asked.kind, asked.derivation) == (2.0, "assumed", "asked for")
    measured = metadata(roi(one, Prices(), baseline=rival))["quality_floor"]
    assert (measured.kind, measured.derivation) == ("measured", "best of always + tolerance")


def test_invalid_study_input_is_refused(runs, tmp_path):
    """A negative price, a missing run, an empty run."""
    with pytest.raises(BadInputError):
        roi(load_run_data(runs, "half"), Prices(hour=-1.0))
    with pytest.raises(RunError):
        load_run_data(runs, "nope")
    with Run("balanced", runs=tmp_path, run_id="a"):
        pass
    with pytest.raises(UnverifiableError):
        load_run_data(tmp_path, "a")


@pytest.mark.parametrize("about", [b"[]", b'{"data":[1]}', b'{"data":null}', b"7", b""])
def test_run_json_that_was_not_signed_is_an_error(runs, tmp_path, about):
    """The error names it."""
    shutil.copytree(runs / "half", tmp_path / "half")
    (tmp_path / "half" / "run.json").write_bytes(about)
    with pytest.raises(UnverifiableError, match=r"run\.json: (differs from|holds no|cannot be read)"):
        load_run_data(tmp_path, "half")


def test_changed_digest_of_the_data_is_an_error(runs, tmp_path):
    """Otherwise two runs on other data could be compared as runs on the same."""
    shutil.copytree(runs / "half", tmp_path / "half")
    path = tmp_path / "half" / "run.json"
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"sha256": "', b'"sha256": "f'))
    assert path.read_bytes() != content
    with pytest.raises(UnverifiableError, match=r"run\.json: differs from the signed digest"):
        load_run_data(tmp_path, "half")
