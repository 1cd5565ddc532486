"""The summary at the end of a run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ockham.cli.summary import _command_name, _format_rate
from ockham.record.counters import RunCounters


@pytest.mark.parametrize(
    ("words", "variable", "has_option"),
    [
        (["train"], None, False),
        # The option before the command sets the variable.
        (["--runs", "/tmp/x", "train"], "/tmp/x", True),
        (["--runs=/tmp/x", "train"], "/tmp/x", True),
        (["train", "--runs", "/tmp/x"], None, True),
        # The shell set the variable.
        (["train"], "/tmp/x", False),
    ],
)
def test_command_name_contains_runs_option_only_if_needed(monkeypatch, words, variable, has_option):
    """The printed commands reach this run from the user's shell."""
    monkeypatch.setattr(sys, "argv", ["ockham", *words])
    monkeypatch.delenv("OCKHAM_RUNS", raising=False)
    if variable:
        monkeypatch.setenv("OCKHAM_RUNS", variable)
    runs = Path("/tmp/x" if has_option or variable else "runs")
    assert ("--runs /tmp/x" in _command_name(runs)) is has_option


@pytest.mark.parametrize(
    ("name", "counts", "rating"),
    [
        ("update_rate", RunCounters(batches=199), "few batches: not rated; target"),
        ("update_rate", RunCounters(batches=200), "outside target"),
        (
            "accept_rate",
            RunCounters(batches=20, evaluations=20),
            "few evaluations: not rated; target",
        ),
        ("accept_rate", RunCounters(batches=200, evaluations=19), "few evaluations: not rated; target"),
        ("accept_rate", RunCounters(batches=200, evaluations=20), "outside target"),
    ],
)
def test_format_rate_of_few_batches_is_not_rated(name, counts, rating):
    """A rate of few batches is outside its target by chance."""
    assert f", {rating} 5% to 15%" in _format_rate(name, 0.5, (0.05, 0.15), counts)


def test_format_rate_without_target_has_no_rating():
    """Adapted runs have no target."""
    assert (
        _format_rate("update_rate", 0.325, None, RunCounters(batches=40, finite=40)) == "32.5% of 40 batches"
    )


def test_format_rate_counts_finite_batches_only():
    """Batches with a non-finite loss are in no rate."""
    counts = RunCounters(batches=10, finite=5, updated=5)
    assert (
        _format_rate("update_rate", counts.rates()["update_rate"], None, counts)
        == "100.0% of 5 finite batches"
    )
