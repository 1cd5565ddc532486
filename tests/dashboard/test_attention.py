"""What the first page says needs a look, by its query."""

from __future__ import annotations

import pytest

from ockham import resources
from ockham.catalog import Catalog
from ockham.catalog.views import load_page_query
from ockham.run import Run


def attention(runs):
    return [(row["what"], row["page"]) for row in Catalog(runs).rows(load_page_query("attention").sql)]


def run(folder, policy, batches, every, overrides=()):
    """Losses that fall and rise, so that about half are updated; an evaluation every so many."""
    with Run(policy, overrides=overrides, runs=folder, run_id="a", facts={"vocab_size": 65}) as made:
        for i in range(batches):
            ctx = made.end_batch(made.start_batch(i, 3.0 + 0.1 * (i % 2), learning_rate=1e-3), grad_norm=0.5)
            if i % every == every - 1:
                made.evaluate(ctx, 3.0)


NEVER = ("never accepted a checkpoint in 20 evaluations", "memory")


@pytest.mark.parametrize(("low", "said"), [("0.05", [NEVER]), ("0.0", [])])
def test_a_memory_that_accepts_nothing(tmp_path, low, said):
    """It needs a look, unless its policy promises no more than that."""
    text = (resources.presets_dir() / "balanced.yaml").read_text()
    assert "accept_rate: [0.05, 0.15]" in text
    own = tmp_path / "own.yaml"
    own.write_text(text.replace("accept_rate: [0.05, 0.15]", f"accept_rate: [{low}, 0.15]"))
    run(tmp_path / "runs", own, 200, 10, ["memory.quality_fraction=0.01"])
    assert [row for row in attention(tmp_path / "runs") if row[1] == "memory"] == said


def test_a_rate_outside_its_band_and_one_of_few(tmp_path):
    """Every batch updated is outside 50 to 70 %; of 199 batches nobody says so."""
    run(tmp_path / "long", "balanced", 200, 500, ["gate.target=1.0"])
    assert ("update rate 100.0 % is outside its band of 50 to 70 %", "gate") in attention(tmp_path / "long")
    run(tmp_path / "short", "balanced", 199, 500, ["gate.target=1.0"])
    assert attention(tmp_path / "short") == []
