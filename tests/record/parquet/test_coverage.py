"""Coverage: the Parquet files that cover the segments of a log."""

from __future__ import annotations

from ockham.record.parquet.coverage import (
    COLUMNS,
    is_compacted,
    log_of_file,
    read_sidecar,
    select_coverage,
    sidecar_bytes,
    source_segments,
)


def test_compacted_file_takes_precedence_over_single_files():
    """Files whose segments have other sizes cover nothing."""
    log = {"a": 1, "b": 2, "c": 3}
    made = {
        "1-0-000000000000.parquet": (("a", 1),),
        "1-0-000000000001.parquet": (("b", 2),),
        "1-0-000000000002.parquet": (("c", 4),),
        "1-0-000000000000-000000000001.parquet": (("a", 1), ("b", 2)),
        "1-0-000000000001-000000000002.parquet": (("b", 2), ("c", 3)),
        "1-0-000000000000-000000000009.parquet": (("a", 1), ("x", 2)),
        "1-0-000000000003.parquet": None,
    }
    assert select_coverage(made, log, made.get) == (["1-0-000000000000-000000000001.parquet"], ["c"])
    single = [name for name in made if not is_compacted(name)]
    assert select_coverage(single, log, made.get) == (single[:2], ["c"])
    assert select_coverage([], log, made.get) == ([], ["a", "b", "c"])


def test_log_of_file_returns_attempt_and_rank():
    """Other names return nothing."""
    assert (
        log_of_file("2-13-000000000000.parquet")
        == log_of_file("2-13-000000000000-000000000009.parquet")
        == "2-13"
    )
    for name in ("", "2-13-000000000000.json", "x-000000000000.parquet", "2-13-0.parquet"):
        assert log_of_file(name) == ""


def test_read_sidecar_returns_an_object_or_none(tmp_path):
    """Missing, invalid and other JSON return None."""
    parquet = tmp_path / "events" / "day=1" / "a.parquet"
    sidecar = tmp_path / "sidecars" / "events" / "day=1" / "a.json"
    sidecar.parent.mkdir(parents=True)
    for data in (None, b"{", b"[]", b"7"):
        if data is not None:
            sidecar.write_bytes(data)
        assert read_sidecar(parquet) is None
    sidecar.write_bytes(sidecar_bytes(b"p", {"rows": 0}, []))
    assert read_sidecar(parquet)["segments"] == []
    assert source_segments(read_sidecar(parquet)) == ()
    assert source_segments({"columns": COLUMNS, "segments": [{"name": "s"}]}) is None
    assert source_segments({"columns": "others", "segments": []}) is source_segments(None) is None
