"""Page query of the newest decisions: the same rows as a plain sort of all lines."""

from __future__ import annotations

import json

import pytest

from ockham.catalog import Catalog
from ockham.catalog.views import load_page_query
from tests.helpers.runs import make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("recent"), "a", batches=300)


@pytest.mark.parametrize(
    ("low", "high", "plugin", "action"),
    [
        (0, 299, "", ""),
        (20, 60, "", ""),
        (0, 299, "gate", "SKIP"),
        (0, 299, "memory", ""),
        (7, 7, "", ""),
        (9, 3, "", ""),
    ],
)
def test_recent_decisions_are_the_newest_100_of_the_filter(run, low, high, plugin, action):
    """Recomputed from the lines of the log."""
    lines = [line for path in run.folder.segments(1, 0) for line in path.read_bytes().splitlines()]
    made = [event["data"] for event in map(json.loads, lines) if event["type"] == "ockham.decision.made.v1"]
    chosen = [
        data["sequence"]
        for data in made
        if low <= data["iter_num"] <= high
        and (not plugin or data["plugin"] == plugin)
        and (not action or data["action"] == action)
    ]
    parameters = {"run": "a", "low": low, "high": high, "plugin": plugin, "action": action}
    table = Catalog(run.folder.runs).sql(load_page_query("recent_decisions").sql, parameters)
    assert table["sequence"].to_pylist() == sorted(chosen, reverse=True)[:100]
