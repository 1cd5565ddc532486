"""Which files stand for which segments."""

from __future__ import annotations

from ockham.record.cover import cover, is_compacted


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
