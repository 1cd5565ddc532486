import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ockham.context import FIELDS
from ockham.record.parquet import tables
from ockham.record.segment_reader import read_complete_lines
from tests.helpers.events import lines, log_folder


@pytest.fixture
def folder(tmp_path):
    return log_folder(tmp_path)


@pytest.mark.parametrize("group", [1, 5, 7, 1000])
def test_buffer_joins_the_rows_of_all_parts(folder, monkeypatch, group):
    """Row groups and empty parts do not matter."""
    monkeypatch.setattr(tables, "ROWS_PER_ROW_GROUP", group)
    found = lines(folder)
    for kind, whole in tables.tables_from_lines(found).items():
        writer = tables.ParquetBuffer(whole.schema)
        for start in range(0, len(found), 9):
            writer.add(tables.tables_from_lines(found[start : start + 9])[kind])
        writer.add(whole.schema.empty_table())
        data, rows = writer.close()
        assert repr(pq.read_table(pa.BufferReader(data)).to_pylist()) == repr(whole.to_pylist())
        assert rows == tables.row_range(whole)
        assert pq.ParquetFile(pa.BufferReader(data)).num_row_groups == -(-whole.num_rows // group)


def test_buffer_without_rows_has_typed_columns(folder):
    """The file is empty."""
    empty = tables.DECISIONS.empty_table()
    assert pq.read_table(pa.BufferReader(tables.parquet_bytes(empty))).schema == tables.DECISIONS


@given(st.binary(max_size=200))
def test_torn_tail_is_never_a_line(tmp_path_factory, tail):
    """Only bytes up to the last newline are lines."""
    path = tmp_path_factory.mktemp("s") / "x"
    path.write_bytes(b'{"a":1}\n' + tail)

    found, size = read_complete_lines(path)
    assert b"".join(line + b"\n" for line in found) == path.read_bytes()[:size]
    assert b"\n" not in path.read_bytes()[size:]


def test_context_rows_have_every_field(folder):
    """Facts, knobs before and after, and gauges are columns."""
    table = tables.tables_from_lines(lines(folder))["contexts"]
    row = table.to_pylist()[0]

    for field in FIELDS:
        assert field.name in row
        if field.role == "knob":
            assert f"base_{field.name}" in row
    assert (row["base_updated"], row["updated"], row["applied_update"]) == (True, False, False)
    assert (row["grad_norm"], row["model_params"], row["drift_ceiling"]) == (0.75, 124, math.inf)
