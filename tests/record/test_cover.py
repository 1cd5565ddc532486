"""Which files stand for which segments."""

from __future__ import annotations

from ockham.record.cover import COLUMNS, beside, beside_bytes, cover, is_compacted, log_of, made_of


def test_what_covers_what():
    """A compacted file before single ones; never one whose segments have other sizes, or are covered already."""
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
    assert cover(made, log, made.get) == (["1-0-000000000000-000000000001.parquet"], ["c"])
    single = [name for name in made if not is_compacted(name)]
    assert cover(single, log, made.get) == (single[:2], ["c"])
    assert cover([], log, made.get) == ([], ["a", "b", "c"])


def test_names_say_of_which_log_they_are():
    """Attempt and rank; other names are of none."""
    assert log_of("2-13-000000000000.parquet") == log_of("2-13-000000000000-000000000009.parquet") == "2-13"
    for name in ("", "2-13-000000000000.json", "x-000000000000.parquet", "2-13-0.parquet"):
        assert log_of(name) == ""


def test_what_stands_beside_is_an_object_or_nothing(tmp_path):
    """Missing, no JSON, a list: nothing, and so the lines are read."""
    for data in (None, b"{", b"[]", b"7"):
        if data is not None:
            (tmp_path / "a.json").write_bytes(data)
        assert beside(tmp_path / "a.parquet") is None
    (tmp_path / "a.json").write_bytes(beside_bytes(b"p", {"rows": 0}, []))
    assert beside(tmp_path / "a.parquet")["segments"] == []
    assert made_of(beside(tmp_path / "a.parquet")) == ()
    assert made_of({"columns": COLUMNS, "segments": [{"name": "s"}]}) is None
    assert made_of({"columns": "others", "segments": []}) is made_of(None) is None
