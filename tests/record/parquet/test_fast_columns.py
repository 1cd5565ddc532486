"""The columns of decoded lines equal the rows that are built line by line."""

from __future__ import annotations

import random

import orjson
import pytest

from ockham.fields import FIELDS
from ockham.record.parquet import tables
from tests.helpers.events import lines
from tests.helpers.runs import make_run
from tests.helpers.varied_runs import Plan, make_varied_run

ORDER = [*(field.name for field in FIELDS), "custom"]


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """Lines of runs with NaN, infinite values, measured examples, gradient accumulation and batch rows."""
    folder = tmp_path_factory.mktemp("columns")
    plain = make_run(folder, "plain", batches=150, nan_at=5).folder
    plan = Plan(steps=60, micro_steps=2, bad_losses=((9, float("inf")),))
    return [lines(plain), lines(make_varied_run(folder, "varied", plan, policy="balanced"))]


def changed(line, draw):
    """Return a line with other values of the types that a column can contain."""
    event = orjson.loads(line)
    data = event["data"]
    if "given" not in data and "observed" not in data:
        return line
    for part in ("given", "measured", "left", "applied", "seconds", "numbers"):
        for name, value in data.get(part, {}).items():
            if type(value) is float and draw.random() < 0.3:
                data[part][name] = draw.choice(["NaN", "-Infinity", 3, 1.25, 2**53 + 1])
    if "given" in data and draw.random() < 0.5:
        data["given"] |= {"example_losses": [1.5, "NaN", 2], "custom": {"accuracy": draw.choice([0.5, 1])}}
        data["measured"] |= draw.choice([{}, {"custom": {"loss.b": "NaN"}}])
        data["left"] |= {"example_gain": [1.0, 0.5]}
    # The fast decoder accepts only the order in which the writer writes.
    for part in {"given", "measured", "left"}.intersection(data):
        data[part] = {name: data[part][name] for name in ORDER if name in data[part]}
    for change in data.get("changes", ()):
        change["after"] = draw.choice([change["after"], True, 7, "Infinity", [1.0, "NaN"]])
    if "observed" in data:
        data["observed"] = draw.choice([None, "NaN", 2, data["observed"]])
    return orjson.dumps(event)


def compare(found, monkeypatch):
    """Compare tables with those of the slow path. Return the number of chunks that took the fast path."""
    fast, taken = tables._fast_tables, []

    def count(chunk):
        result = fast(chunk)
        taken.append(result is not None)
        return result

    with monkeypatch.context() as patch:
        patch.setattr(tables, "_fast_tables", count)
        got = tables.tables_from_lines(found)
        patch.setattr(tables, "_fast_tables", lambda _: None)
        expected = tables.tables_from_lines(found)
    for kind, table in expected.items():
        assert got[kind].schema == table.schema
        assert repr(got[kind].to_pylist()) == repr(table.to_pylist())
        assert tables.parquet_bytes(got[kind]) == tables.parquet_bytes(table)
    return sum(taken)


def test_columns_of_unchanged_logs_equal_the_rows(logs, monkeypatch):
    """All chunks take the fast path, and the Parquet bytes are equal."""
    for found in logs:
        assert compare(found, monkeypatch) == len(found) // tables.LINES_PER_CHUNK + 1


def test_columns_of_unusual_values_equal_the_rows(logs, monkeypatch):
    """Non-finite numbers, whole numbers, lists, metrics of plugins, and missing values."""
    draw = random.Random(11)
    monkeypatch.setattr(tables, "LINES_PER_CHUNK", 210)
    taken = 0
    for found in logs:
        taken += compare([changed(line, draw) for line in found], monkeypatch)
    assert taken > 0


@pytest.mark.parametrize("what", ["an extension", "another log", "no event", "a gap", "a large number"])
def test_lines_in_another_form_take_the_slow_path(logs, monkeypatch, what):
    """The result or the error is that of the slow path."""
    found = list(logs[0][:400])
    event = orjson.loads(found[300])
    if what == "an extension":
        event["data"]["ext"] = {"a": 1}
    elif what == "another log":
        event["data"]["rank"] = 3
    elif what == "no event":
        event = {}
    elif what == "a large number":
        event["data"]["seconds" if "seconds" in event["data"] else "observed"] = {"a": 1e20}
    found[300] = orjson.dumps(event)
    if what == "a gap":
        del found[300]
    if what == "no event" or (what == "a large number" and "observed" in event["data"]):
        with pytest.raises(ValueError, match="Error"):
            tables.tables_from_lines(found)
    else:
        assert compare(found, monkeypatch) == 0
