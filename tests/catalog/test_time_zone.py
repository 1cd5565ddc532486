"""Times in SQL under several time zones of the machine: each connection computes in UTC."""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

from tests.helpers.events import events
from tests.helpers.runs import make_run

ZONES = ("UTC", "America/New_York", "Asia/Kolkata")
# Relative time in all directions, parts of a time, and texts of times.
COUNTS = """
select count(*) filter (time > current_timestamp - interval 10 minute) as recent,
    count(*) filter (time < current_timestamp - interval 10 minute) as old,
    count(*) filter (time > localtimestamp - interval 10 minute) as recent_local,
    count(*) filter (time <= current_timestamp) as past,
    count(*) filter (time::date = current_date) as today,
    min(extract('hour' from time)) as first_hour, max(epoch_us(time)) as newest,
    min(time)::varchar as first_text from events
"""
# Runs in another process, because TZ is read when a process starts.
SCRIPT = """
import json, pathlib, sys
import duckdb
from ockham.catalog import Catalog
from ockham.catalog.export import export_views
from ockham.guard import Guard

runs, sql, exported = sys.argv[1:]
rows = {"catalog": Catalog(runs).rows(sql)}
rows["sandboxed"] = Catalog(runs, sandboxed=True).rows(sql)
for reader in ("duckdb", "arrow"):
    with Guard(runs, reader=reader) as guard:
        rows[reader] = guard.query(sql).table.to_pylist()
export_views(runs, pathlib.Path(exported), "duckdb")
with duckdb.connect(exported, read_only=True) as connection:
    sql = sql.replace("localtimestamp", "current_timestamp")
    connection.execute("select count(*) filter (time > current_timestamp - interval 10 minute) from events")
    rows["foreign"] = connection.fetchone()[0]
    connection.execute("set timezone = 'UTC'")
    rows["exported"] = connection.sql(sql).to_arrow_table().to_pylist()
print(json.dumps(rows))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("zones"), batches=30)


@pytest.mark.parametrize("zone", ZONES)
def test_relative_time_under_time_zone_equals_log_lines(run, tmp_path, zone):
    """The catalog, the guard and the export find the numbers of the lines in each zone."""
    times = [dt.datetime.fromisoformat(event["time"]) for event in events(run.folder)]
    command = [sys.executable, "-c", SCRIPT, str(run.folder.runs), COUNTS, str(tmp_path / "a.duckdb")]
    done = subprocess.run(
        command, env={**os.environ, "TZ": zone}, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert rows.pop("foreign") == len(times)
    assert set(rows) == {"catalog", "sandboxed", "duckdb", "arrow", "exported"}
    first = min(times)
    # The log has microseconds at least; `newest` is an exact integer.
    newest = (max(times) - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1)
    for source, [row] in rows.items():
        text = row.pop("first_text")
        assert text.removesuffix("+00") == first.strftime("%Y-%m-%d %H:%M:%S.%f").rstrip("0"), source
        assert row == {
            "recent": len(times),
            "old": 0,
            "recent_local": len(times),
            "past": len(times),
            "today": len(times),
            "first_hour": first.hour,
            "newest": newest,
        }, source


def test_exported_parquet_times_have_zone_utc(run, tmp_path):
    """A program that reads the exported files does not take the times for local times."""
    from ockham.catalog.export import export_views

    export_views(run.folder.runs, tmp_path / "out", "parquet")
    for path in (tmp_path / "out").glob("*.parquet"):
        for field in pq.read_schema(path):
            if field.name in ("time", "created"):
                assert str(field.type) == "timestamp[us, tz=UTC]", path.name
    dictionary = pq.read_table(tmp_path / "out/data_dictionary.parquet").to_pylist()
    types = {row["type"] for row in dictionary if row["column"] in ("time", "created")}
    assert types == {"TIMESTAMP WITH TIME ZONE"}
