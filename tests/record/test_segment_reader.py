"""Lines and first event of a segment, also if the file is damaged."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ockham.record.segment_reader import read_complete_lines, read_first_event


def test_torn_tail_is_not_returned(tmp_path):
    """Only lines with an end are returned, with the number of their bytes."""
    segment = tmp_path / "0.jsonl"
    segment.write_bytes(b"a\nbc\nd")
    assert read_complete_lines(segment) == ([b"a", b"bc"], 5)


def test_first_event_of_a_log_is_returned(tmp_path):
    """Later lines are not read."""
    segment = tmp_path / "0.jsonl"
    segment.write_text('{"data":{"x":1}}\nno event\n')
    assert read_first_event(segment) == {"data": {"x": 1}}


@given(content=st.binary(max_size=60))
def test_first_event_of_any_bytes_is_an_event_or_a_value_error(tmp_path_factory, content):
    """Arbitrary bytes raise no other error."""
    segment = tmp_path_factory.mktemp("segment") / "0.jsonl"
    segment.write_bytes(content)
    try:
        event = read_first_event(segment)
    except ValueError:
        return
    assert isinstance(event["data"], dict)


@pytest.mark.parametrize("value", [[], 7, {}, {"data": 7}, {"data": []}, None])
def test_first_line_without_data_is_a_value_error(tmp_path, value):
    """Valid JSON that is not an event is an error."""
    segment = tmp_path / "0.jsonl"
    segment.write_text(json.dumps(value) + "\n")
    with pytest.raises(ValueError, match="not an event"):
        read_first_event(segment)
