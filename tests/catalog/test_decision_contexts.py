"""The view that joins each decision with the context on which it was made."""

from __future__ import annotations

import pytest

from ockham.catalog import Catalog
from ockham.record.run_folder import RunFolder, list_runs
from tests.helpers.varied_runs import make_all_runs, number, read_plain_log


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return make_all_runs(tmp_path_factory.mktemp("varied"))


@pytest.fixture(scope="module")
def catalog(runs):
    return Catalog(runs)


def test_every_decision_has_one_row(runs, catalog):
    """Accumulation, ranks, a resume and repeated evaluations neither repeat nor lose a decision."""
    for run_id in list_runs(runs):
        decisions = [
            event["id"]
            for event in read_plain_log(RunFolder(runs, run_id)).events
            if event["type"] == "ockham.decision.made.v1"
        ]
        rows = catalog.rows(
            "select decision_id, context_id from decision_contexts where run_id = $run", {"run": run_id}
        )
        assert sorted(row["decision_id"] for row in rows) == sorted(decisions), run_id
        assert all(row["context_id"] for row in rows), run_id


def test_context_of_decision_is_the_next_context_of_its_log(runs, catalog):
    """The lines show it: a context follows its decisions."""
    rows = {row["decision_id"]: row for row in catalog.rows("from decision_contexts")}
    for run_id in list_runs(runs):
        logs = {}
        for event in read_plain_log(RunFolder(runs, run_id)).events:
            data = event["data"]
            waiting = logs.setdefault((data["attempt"], data["rank"]), [])
            if event["type"] == "ockham.decision.made.v1":
                waiting.append(event["id"])
            elif event["type"] == "ockham.context.recorded.v1":
                assert len(waiting) == data["decisions"]["count"]
                for decision_id in waiting:
                    row = rows[decision_id]
                    assert row["context_id"] == event["id"]
                    assert row["context_sequence"] == data["sequence"]
                    assert str(row["task_loss"]) == str(number(data["given"]["task_loss"]))
                waiting.clear()


def test_decision_without_context_has_a_row(tmp_path):
    """A run that ends between a decision and its context keeps the decision."""
    from ockham.errors import PluginError
    from ockham.plugin import OccamPlugin
    from ockham.run import Run

    class Failing(OccamPlugin):
        name = "failing"

        def on_batch_start(self, ctx):
            ctx.decide("NOTE", "BEFORE")

        def on_batch_end(self, ctx):
            raise ValueError(ctx.iter_num)

    with pytest.raises(PluginError), Run(plugins=[Failing()], runs=tmp_path, run_id="a") as run:
        run.end_batch(run.start_batch(0, 2.0))
    rows = Catalog(tmp_path).rows("select reason_code, context_id from decision_contexts")
    assert rows == [{"reason_code": "BEFORE", "context_id": None}]


def test_columns_of_plugin_views_are_the_same(catalog):
    """Each view of one kind of plugin has hook, margin and numbers."""
    for name in ("gate", "compressor", "limiter", "memory"):
        columns = catalog.sql(f"from {name}_decisions limit 0").column_names
        assert {"hook", "micro_step", "margin", "numbers", "shadow", "superseded", "signed"} <= set(columns)
    mismatches = "select count(*) n from memory_decisions where numbers['oq'] is distinct from occam_quotient"
    assert catalog.rows(mismatches) == [{"n": 0}]


def test_comments_of_gauges_contain_carried_or_fresh(catalog):
    """The comment of each gauge in `contexts` names the column that shows which gauges are fresh."""
    from ockham.context import GAUGES

    comments = {
        row["column"]: row["comment"] for row in catalog.rows("from data_dictionary where view = 'contexts'")
    }
    for gauge in GAUGES:
        assert ("unless measured_gauges contains it" in comments[gauge]) != (
            "never carried over" in comments[gauge]
        )
    assert "never carried over" in comments["kl_to_anchor"]
    assert "nats/token" in comments["val_loss"]
