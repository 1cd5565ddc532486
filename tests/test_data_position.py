"""Data position: what a loop may pass about the rows of a batch, and where the record stores it."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ockham.catalog import Catalog
from ockham.data_position import MAX_INDICES, digest_rows, parse_data_position
from ockham.errors import BadInputError
from ockham.record.run_folder import RunFolder
from ockham.record.verify.run import verify_run
from ockham.replay.runner import replay_run
from ockham.run import Run
from tests.helpers.events import events, plain_validator


def record(runs, positions):
    """Record one batch for each data position, with an evaluation at the end."""
    with Run("observe", runs=runs, run_id="a", facts={"vocab_size": 256}) as run:
        for position in positions:
            ctx = run.end_batch(run.start_batch(loss=2.5, data=position))
        run.evaluate(ctx, 2.0)
    return [e for e in events(RunFolder(runs, "a")) if e["type"] == "ockham.context.recorded.v1"]


def test_own_loop_records_indices_position_and_digest_of_a_batch(tmp_path):
    """The events are valid by jsonschema, the run verifies, replays, and has the values as columns."""
    positions = [
        {"indices": [7, 3]},
        {"indices": np.array([4, 5]), "digest": "crc32:0a1b2c3d"},
        {"indices": torch.tensor([1]), "position": 12},
        None,
    ]
    contexts = record(tmp_path, positions)
    for event in contexts:
        plain_validator("context.recorded").validate(event)
    assert [event["data"].get("rows") for event in contexts] == [
        {"indices": [7, 3]},
        {"indices": [4, 5], "digest": "crc32:0a1b2c3d"},
        {"indices": [1], "position": 12},
        None,
        None,
    ]
    assert not any("rows" in event["data"]["given"] for event in contexts)
    assert verify_run(RunFolder(tmp_path, "a")).sound
    assert replay_run(RunFolder(tmp_path, "a")).identical
    sql = "select data_position, data_indices, data_digest from contexts order by sequence"
    assert [tuple(row.values()) for row in Catalog(tmp_path).rows(sql)] == [
        (None, [7, 3], None),
        (None, [4, 5], "crc32:0a1b2c3d"),
        (12, [1], None),
        (None, None, None),
        (None, None, None),
    ]


def test_largest_list_of_indices_fits_a_line(tmp_path):
    """The largest numbers in the longest list that is accepted are recorded."""
    contexts = record(tmp_path, [{"indices": [2**53 - 1] * MAX_INDICES, "digest": "a" * 128}])
    assert len(contexts[0]["data"]["rows"]["indices"]) == MAX_INDICES
    assert verify_run(RunFolder(tmp_path, "a")).sound


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "accepted: a mapping with position, indices, digest"),
        ([3], "accepted: a mapping with position, indices, digest"),
        ({"index": [1]}, "no key 'index'; did you mean 'indices'"),
        ({"indices": 3}, "indices is 3; accepted: a list of whole numbers"),
        ({"indices": [1.5]}, "indices has 1.5; accepted: whole numbers"),
        ({"indices": [True]}, "indices has True; accepted: whole numbers"),
        ({"indices": [-1]}, "indices has -1; accepted: whole numbers"),
        ({"indices": [0] * 1025}, "indices has 1025 numbers; accepted: at most 1,024"),
        ({"position": 2**53}, "position has 9007199254740992; accepted: whole numbers"),
        ({"digest": b"12345678"}, "digest is b'12345678'; accepted: text of 8 to 128"),
        ({"digest": "short"}, "digest is 'short'; accepted: text of 8 to 128"),
        ({"digest": "12345678\n"}, "accepted: text of 8 to 128"),
    ],
)
def test_other_data_is_refused_with_what_is_accepted(tmp_path, data, message):
    """The batch is not started, so the loop can pass it again."""
    with Run("observe", runs=tmp_path, run_id="a") as run:
        with pytest.raises(BadInputError) as raised:
            run.start_batch(loss=2.5, data=data)
        assert message in str(raised.value)
        run.end_batch(run.start_batch(loss=2.5))


keys = st.sampled_from(["position", "indices", "digest", "rows"])
values = st.one_of(
    st.none(),
    st.integers(-3, 2**54),
    st.text(max_size=140),
    st.lists(st.one_of(st.integers(-1, 2**54), st.floats(), st.none(), st.text(max_size=3)), max_size=4),
)


@given(data=st.dictionaries(keys, values, max_size=3))
def test_data_is_refused_or_valid_by_the_schema(data):
    """Any mapping raises BadInputError, or gives a value that the schema accepts."""
    try:
        rows = parse_data_position(data)
    except BadInputError:
        return
    schema = plain_validator("context.recorded")
    assert schema.evolve(schema=schema.schema["properties"]["data"]["properties"]["rows"]).is_valid(rows)


def test_digest_of_rows_is_the_start_of_their_sha256():
    """Anyone can recompute it."""
    assert digest_rows(b"abc") == hashlib.sha256(b"abc").hexdigest()[:32]
