import math

import orjson
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ockham.context import FIELDS
from ockham.record import snapshots
from ockham.record.log import LogWriter
from tests.samples import REVISION, context_record, decision, lines, run_folder


@pytest.fixture
def folder(tmp_path):
    folder = run_folder(tmp_path)
    writer = LogWriter(folder, 1, 0, policy_revision=REVISION, segment_events=10)
    for i in range(12):
        writer.append("decision.made", decision(i, observed=math.nan if i == 3 else float(i)), iter_num=i)
        writer.append("context.recorded", context_record(i), iter_num=i)
    writer.close()
    return folder


def test_parquet_holds_what_the_lines_say(folder):
    """Each kind's Parquet equals the table made from the lines."""
    snapshots.derive(folder, 1, 0, last=True)

    covered = snapshots.coverage(folder, 1, 0)
    assert covered.segments == []
    for kind, table in snapshots.tables(lines(folder)).items():
        rows = [
            row
            for path in covered.parquet[kind]
            for row in pq.read_table(path, partitioning=None).to_pylist()
        ]
        assert repr(rows) == repr(table.to_pylist())


def test_a_live_segment_is_read_as_lines(folder):
    """The segment that may still grow has no Parquet."""
    snapshots.derive(folder, 1, 0)

    covered = snapshots.coverage(folder, 1, 0)
    assert [path.name for path in covered.segments] == ["000000000020.jsonl"]
    assert len(covered.parquet["decisions"]) == 2


def test_a_segment_that_grew_is_read_as_lines_again(folder):
    """Parquet counts only as long as it was made from all the bytes that are there."""
    snapshots.derive(folder, 1, 0, last=True)
    with folder.segments(1, 0)[-1].open("ab") as file:
        file.write(b'{"torn')

    assert [path.name for path in snapshots.coverage(folder, 1, 0).segments] == ["000000000020.jsonl"]


def test_deriving_twice_writes_nothing(folder):
    """What is there and fits is left alone."""
    assert snapshots.derive(folder, 1, 0, last=True) == 3
    assert snapshots.derive(folder, 1, 0, last=True) == 0


@given(st.binary(max_size=200))
def test_a_torn_tail_is_never_a_line(tmp_path_factory, tail):
    """Only bytes up to the last newline are lines."""
    path = tmp_path_factory.mktemp("s") / "x"
    path.write_bytes(b'{"a":1}\n' + tail)

    found, size = snapshots.complete_lines(path)
    assert b"".join(line + b"\n" for line in found) == path.read_bytes()[:size]
    assert b"\n" not in path.read_bytes()[size:]


def test_contexts_have_every_field(folder):
    """Facts, knobs before and after, and gauges: each field of the table is a column with its value."""
    table = snapshots.tables(lines(folder))["contexts"]
    row = table.to_pylist()[0]

    for field in FIELDS:
        assert field.name in row
        if field.role == "knob":
            assert f"base_{field.name}" in row
    assert (row["base_updated"], row["updated"], row["applied_update"]) == (True, False, False)
    assert (row["grad_norm"], row["model_params"], row["drift_ceiling"]) == (0.75, 124, math.inf)


def test_day_and_sidecar(folder):
    """The file lies under its day, and what stands beside it names range and digest."""
    snapshots.derive(folder, 1, 0, last=True)
    path = snapshots.coverage(folder, 1, 0).parquet["decisions"][0]

    about = snapshots.sidecar(path)
    assert path.parent.name == "day=" + orjson.loads(lines(folder)[0])["time"][:10]
    assert (about["first_sequence"], about["last_sequence"], about["rows"]) == (0, 8, 5)
