"""Untrusted sidecars: the Parquet file is not used, and the lines are read."""

from __future__ import annotations

import hashlib
import os
import time

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ockham.catalog import Catalog
from ockham.record.parquet.builder import update_parquet
from ockham.record.parquet.coverage import COLUMNS, MAX_SIDECAR_BYTES
from ockham.record.run_folder import PARQUET_TABLES
from ockham.record.verify.run import verify_run
from tests.helpers.events import lines, log_folder
from tests.helpers.example_counts import examples

COUNT = "select count(*) as n, count(distinct sequence) as sequences from events"
NAMES = st.sampled_from(["000000000000.jsonl", "000000000010.jsonl", "000000000020.jsonl", "../x", ""])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5) | NAMES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
ENTRIES = st.lists(
    st.fixed_dictionaries({}, optional={"name": NAMES | JSON, "bytes": JSON, "sha256": JSON}) | JSON,
    max_size=4,
)
SIDECARS = JSON | st.fixed_dictionaries(
    {},
    optional={
        "columns": st.just(COLUMNS) | JSON,
        "segments": ENTRIES | JSON,
        "sha256": JSON,
        "rows": JSON,
        "first_sequence": JSON,
        "last_sequence": JSON,
    },
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = log_folder(tmp_path_factory.mktemp("runs"))
    update_parquet(folder, 1, 0, last=True)
    return folder


def list_sidecars(folder):
    return [
        path for kind in PARQUET_TABLES for path in sorted((folder.path / "sidecars" / kind).rglob("*.json"))
    ]


def assert_lines_are_read(folder):
    count = len(lines(folder))
    assert Catalog(folder.runs).rows(COUNT) == [{"n": count, "sequences": count}]


def check_sidecar(folder, change):
    """Check that readers, the builder and verify accept every sidecar that *change* returns."""
    originals = {path: path.read_bytes() for path in list_sidecars(folder)}
    try:
        changed = False
        for path, data in originals.items():
            path.write_bytes(change(orjson.loads(data)))
            changed = changed or path.read_bytes() != data
        assert_lines_are_read(folder)
        kinds = {finding.kind for finding in verify_run(folder).findings}
        assert ("derived" in kinds) == changed
    finally:
        for path, data in originals.items():
            path.write_bytes(data)


@given(SIDECARS)
@settings(max_examples=examples(60))
def test_generated_sidecar_changes_no_answer(folder, sidecar):
    """Any JSON: every event is read once, and verify reports `derived`."""
    try:
        data = orjson.dumps(sidecar)
    # An integer of more than 64 bits.
    except TypeError:
        data = str(sidecar).encode()
    check_sidecar(folder, lambda _: data)


@given(st.dictionaries(st.sampled_from(["segments", "sha256", "columns", "rows", "last_sequence"]), JSON))
@settings(max_examples=examples(40))
def test_changed_values_of_a_sidecar_change_no_answer(folder, values):
    """Values of a valid sidecar with another type or size."""

    def change(sidecar):
        try:
            return orjson.dumps({**sidecar, **values}, option=orjson.OPT_INDENT_2)
        except TypeError:
            return b"{}"

    check_sidecar(folder, change)


@pytest.mark.parametrize(
    "change",
    [
        lambda sidecar: {**sidecar, "segments": sidecar["segments"] * 2},
        lambda sidecar: {**sidecar, "segments": sidecar["segments"][:-1]},
        lambda sidecar: {**sidecar, "segments": sidecar["segments"][::-1]},
        lambda sidecar: {**sidecar, "segments": [{"name": "000000000099.jsonl", "bytes": 7}]},
        lambda sidecar: {k: v for k, v in sidecar.items() if k != "segments"},
    ],
)
def test_sidecar_with_wrong_segments_changes_no_answer(folder, change):
    """A segment that is named twice ended verify, runs and doctor with a KeyError."""
    check_sidecar(folder, lambda sidecar: orjson.dumps(change(sidecar)))


@pytest.mark.parametrize("data", [b"[" * 100_000, b'{"a":' * 50_000, b" " * (MAX_SIDECAR_BYTES + 1), b"\xff"])
def test_sidecar_that_is_not_json_changes_no_answer(folder, data):
    """Deep nesting and large files."""
    check_sidecar(folder, lambda _: data)


@pytest.mark.parametrize("kind", PARQUET_TABLES)
def test_parquet_with_other_digest_is_not_read(folder, kind):
    """One changed byte of one kind: all kinds are read from the lines, also in an open catalog."""
    path = next((folder.path / kind).rglob("*.parquet"))
    data = path.read_bytes()
    catalog = Catalog(folder.runs)
    assert catalog.connection.execute("select count(*) from raw_events_tail").fetchall() == [(0,)]
    try:
        path.write_bytes(data[:100] + bytes([data[100] ^ 1]) + data[101:])
        for reader in (catalog, Catalog(folder.runs)):
            count = len(lines(folder))
            assert reader.rows(COUNT) == [{"n": count, "sequences": count}]
            assert reader.connection.execute("select count(*) from raw_events_tail").fetchall() == [(count,)]
    finally:
        path.write_bytes(data)


def test_unchanged_parquet_is_hashed_once(folder, monkeypatch):
    """A second query reads no file to check its digest."""
    for path in folder.path.rglob("*"):
        if path.suffix in {".parquet", ".json"}:
            os.utime(path, ns=(10**18, 10**18))
    time.sleep(0.15)
    catalog = Catalog(folder.runs)
    calls, digest = [], hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda *words: calls.append(words) or digest(*words))
    catalog.rows(COUNT)
    assert calls == []
    os.utime(next((folder.path / "events").rglob("*.parquet")))
    catalog.rows(COUNT)
    assert len(calls) == 1
