"""Saved questions about several ranks, which log the same decisions: each decision counts once."""

from __future__ import annotations

import pytest

from ockham.catalog import Catalog
from ockham.catalog.views import load_question, question_names
from ockham.cli.why import explain_iteration
from ockham.errors import PluginError
from ockham.plugin import OccamPlugin
from ockham.record.run_folder import RunFolder
from tests.helpers.figure_runs import add_second_rank
from tests.helpers.runs import make_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Return runs of one rank, and the same runs with a second rank. One run is ended by a plugin error."""
    root = tmp_path_factory.mktemp("ranks")
    for name in ("one", "two"):
        make_run(root / name, "a", batches=240)
        with pytest.raises(PluginError):
            make_run(root / name, "failed", plugins=[FailingPlugin()])
    for run in ("a", "failed"):
        add_second_rank(RunFolder(root / "two", run))
    return root


class FailingPlugin(OccamPlugin):
    """Raises at its first batch."""

    def on_batch_start(self, ctx):
        raise ValueError(ctx.iter_num)


def _without_volatile_columns(rows):
    """Return the rows without IDs and times, which differ between runs."""
    volatile = {"decision_id", "seconds", "median_ms", "p99_ms", "total_seconds", "state"}
    volatile |= {"first_time", "last_time", "batches_per_second"}
    return [{k: v for k, v in row.items() if k not in volatile} for row in rows]


def test_saved_questions_with_two_ranks_count_decisions_once(runs):
    """Questions about two ranks return the values of one rank. Only why_skipped lists both."""
    one, two = Catalog(runs / "one"), Catalog(runs / "two")
    names = [name for name in question_names() if not load_question(name).parameters]
    assert len(names) > 15
    for name in names:
        expected, actual = (
            _without_volatile_columns(catalog.ask(name).to_pylist()) for catalog in (one, two)
        )
        assert actual == expected, name
    assert {"run_id": "failed", "kind": "plugin failed", "n": 1} in two.ask("trouble").to_pylist()
    rows = two.ask("why_skipped", run="a", iter=30).to_pylist()
    assert {row["rank"] for row in rows} == {0, 1}


def test_why_with_several_ranks_names_the_rank(runs):
    """With more than one rank the output contains the rank."""
    two, one = (explain_iteration(Catalog(runs / name), "a", 30) for name in ("two", "one"))
    assert [line for line in two if line.startswith("Rank")] == ["Rank 0", "Rank 1"]
    assert not [line for line in one if line.startswith("Rank")]
