"""Runs that the page Runs marks as "needs attention"."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from ockham.catalog import Catalog
from ockham.catalog.views import load_page_query
from ockham.errors import OckhamWarning
from ockham.record.run_folder import RunFolder
from ockham.run import Run

NEVER_ACCEPTED = ("never accepted a checkpoint in 20 evaluations", "memory")


def query_attention(runs):
    rows = Catalog(runs).rows(load_page_query("workbench").sql)
    return [pair for row in rows for pair in zip(row["attention"], row["attention_pages"], strict=True)]


def train(folder, policy, batches, evaluation_interval, overrides=()):
    """Create a run with alternating losses, so that about half of its batches are updates."""
    facts = {"vocab_size": 65}
    with Run(policy, overrides=overrides, runs=folder, run_id="a", facts=facts) as run:
        for i in range(batches):
            ctx = run.start_batch(i, 3.0 + 0.1 * (i % 2), learning_rate=1e-3)
            run.end_batch(ctx, grad_norm=0.5)
            if i % evaluation_interval == evaluation_interval - 1:
                run.evaluate(ctx, 3.0)


@pytest.mark.parametrize(("low", "expected"), [("0.05", [NEVER_ACCEPTED]), ("0.0", [])])
def test_memory_without_accepted_checkpoint_is_listed_unless_band_starts_at_zero(tmp_path, low, expected):
    """A memory that never accepts is listed, unless the band of its policy allows it."""
    policy = tmp_path / "policy.yaml"
    policy.write_text(f"extends: balanced\ntargets: {{accept_rate: [{low}, 0.15]}}\n")
    with pytest.warns(OckhamWarning) if expected else nullcontext():
        train(tmp_path / "runs", policy, 200, 10, ["memory.quality_fraction=0.01"])
    assert [row for row in query_attention(tmp_path / "runs") if row[1] == "memory"] == expected


def test_update_rate_outside_band_is_listed_from_200_batches(tmp_path):
    """A rate of 100 % is outside the band of 50 to 70 %. With 199 batches it is not compared."""
    train(tmp_path / "long", "balanced", 200, 500, ["gate.target=1.0"])
    expected = ("update rate 100.0 % is outside its band of 50 to 70 %", "gate")
    assert expected in query_attention(tmp_path / "long")
    train(tmp_path / "short", "balanced", 199, 500, ["gate.target=1.0"])
    assert query_attention(tmp_path / "short") == []


def test_unsigned_events_of_a_finished_run_are_listed(tmp_path):
    """They are not counted on any page, so their number is shown."""
    train(tmp_path, "balanced", 20, 500)
    assert query_attention(tmp_path) == []
    segment = RunFolder(tmp_path, "a").segments(1, 0)[-1]
    with segment.open("ab") as file:
        file.write(segment.read_bytes().splitlines()[-1] + b"\n")
    assert query_attention(tmp_path) == [("unsigned events are not counted: 1", "integrity")]
