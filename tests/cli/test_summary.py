"""What a run says to type next is what works when it is typed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ockham.cli.summary import _program


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
    assert ("--runs /tmp/x" in _program(runs)) is told
