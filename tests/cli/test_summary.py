"""What a run says to type next is what works when it is typed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ockham.cli.summary import _command_name, _format_rate
from ockham.record.counters import RunCounters


@pytest.mark.parametrize(
    ("words", "variable", "told"),
    [
        (["train"], None, False),
        (
            ["--runs", "/tmp/x", "train"],
            "/tmp/x",
            True,
        ),  # the verb reads it from the variable that this one sets
        (["--runs=/tmp/x", "train"], "/tmp/x", True),
        (["train", "--runs", "/tmp/x"], None, True),
        (["train"], "/tmp/x", False),  # the shell's own
    ],
)
def test_the_folder_of_runs_is_told_unless_it_is_the_default_or_the_shells(
    monkeypatch, words, variable, told
):
    """Whoever types what is shown reaches this run, and reads no option that changes nothing."""
    monkeypatch.setattr(sys, "argv", ["ockham", *words])
    monkeypatch.delenv("OCKHAM_RUNS", raising=False)
    if variable:
        monkeypatch.setenv("OCKHAM_RUNS", variable)
    runs = Path("/tmp/x" if told or variable else "runs")
    assert ("--runs /tmp/x" in _command_name(runs)) is told


@pytest.mark.parametrize(
    ("name", "counts", "told"),
    [
        ("update_rate", RunCounters(batches=199), "too few to judge; band"),
        ("update_rate", RunCounters(batches=200), "outside its band"),
        (
            "accept_rate",
            RunCounters(batches=20, evaluations=20),
            "too few to judge; band",
        ),  # one after each batch
        ("accept_rate", RunCounters(batches=200, evaluations=19), "too few to judge; band"),
        ("accept_rate", RunCounters(batches=200, evaluations=20), "outside its band"),
    ],
)
def test_a_rate_of_few_is_not_judged(name, counts, told):
    """It lies outside of its band by chance alone."""
    assert f", {told} 5% to 15%" in _format_rate(name, 0.5, (0.05, 0.15), counts)


def test_a_rate_that_nobody_promised_is_told_alone():
    """Of an adapted run it is what was paid for."""
    assert (
        _format_rate("update_rate", 0.325, None, RunCounters(batches=40, finite=40)) == "32.5% of 40 batches"
    )


def test_a_rate_names_what_it_is_a_share_of():
    """A batch whose loss is not finite is judged by nobody, and in no rate."""
    counts = RunCounters(batches=10, finite=5, updated=5)
    assert (
        _format_rate("update_rate", counts.rates()["update_rate"], None, counts)
        == "100.0% of 5 finite batches"
    )
