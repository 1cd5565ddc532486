"""Page query of the newest decisions: the same rows as a plain sort of all lines."""

from __future__ import annotations

import json

import pytest

from ockham.catalog import Catalog
from ockham.catalog.views import load_page_query
from ockham.record.run_folder import RunFolder
from tests.helpers.runs import make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    runs = tmp_path_factory.mktemp("recent")
    make_run(runs, "shadow", batches=300, policy="observe")
    return make_run(runs, "a", batches=300)


@pytest.mark.parametrize(
    ("low", "high", "plugin", "action", "shadow"),
    [
        (0, 299, "", "", ""),
        (20, 60, "", "", "false"),
        (0, 299, "gate", "SKIP", "false"),
        (0, 299, "", "", "true"),
        (0, 299, "memory", "", ""),
        (7, 7, "", "", ""),
        (9, 3, "", "", ""),
    ],
)
@pytest.mark.parametrize("run_id", ["a", "shadow"])
def test_recent_decisions_are_the_newest_100_of_the_filter(run, run_id, low, high, plugin, action, shadow):
    """Recomputed from the lines of the log."""
    folder = RunFolder(run.folder.runs, run_id)
    lines = [line for path in folder.segments(1, 0) for line in path.read_bytes().splitlines()]
    made = [event["data"] for event in map(json.loads, lines) if event["type"] == "ockham.decision.made.v1"]
    chosen = [
        data["sequence"]
        for data in made
        if low <= data["iter_num"] <= high
        and (not plugin or data["plugin"] == plugin)
        and (not action or data["action"] == action)
        and (not shadow or data["shadow"] == (shadow == "true"))
    ]
    parameters = {
        "run": run_id,
        "low": low,
        "high": high,
        "plugin": plugin,
        "action": action,
        "shadow": shadow,
    }
    table = Catalog(run.folder.runs).sql(load_page_query("recent_decisions").sql, parameters)
    assert table["sequence"].to_pylist() == sorted(chosen, reverse=True)[:100]
