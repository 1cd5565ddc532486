"""Rules over all records of a folder: numbers, links, circles."""

from __future__ import annotations

import graphlib
from collections import defaultdict
from collections.abc import Iterable, Sequence

from ockham.errors import nearest
from ockham.odr.record import Record


def check_relations(records: Sequence[Record]) -> None:
    """Note what is wrong between records, in each record that must change."""
    by_id: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        if record.claims.id:
            by_id[record.claims.id].append(record)
    for same in by_id.values():
        for record in same[1:]:
            first = same[0].file.name
            record.add_at("ODR301", f"{record.claims.id} is also the id of {first}", ("id",))
    successors = successors_of(records)
    for record in records:
        _links(record, by_id)
        _two_sided(record, successors.get(record.claims.id, []))
    _circles(records, by_id)


def successors_of(records: Iterable[Record]) -> dict[str, list[str]]:
    """By id, the ids of the records that supersede it, in order. A superseding draft supersedes nothing yet."""
    found: dict[str, set[str]] = defaultdict(set)
    for record in records:
        if record.claims.id and record.claims.status not in {"draft", "proposed", "rejected"}:
            for old in record.claims.supersedes:
                if old != record.claims.id:
                    found[old].add(record.claims.id)
    return {old: sorted(new) for old, new in found.items()}


def _links(record: Record, by_id: dict[str, list[Record]]) -> None:
    for index, old in enumerate(record.claims.supersedes):
        if old == record.claims.id:
            record.add_at("ODR303", f"{old} supersedes itself", ("supersedes", index))
        elif old not in by_id:
            message = f"supersedes {old!r:.40}, which is not in this folder{nearest(old, by_id)}"
            record.add_at("ODR302", message, ("supersedes", index))
    for index, new in enumerate(record.claims.superseded_by):
        if new not in by_id:
            message = f"superseded_by {new!r:.40}, which is not in this folder{nearest(new, by_id)}"
            record.add_at("ODR302", message, ("superseded_by", index))


def _two_sided(record: Record, successors: list[str]) -> None:
    claims = record.claims
    if sorted(claims.superseded_by) != successors:
        should = f"[{', '.join(successors)}]"
        given = f"[{', '.join(sorted(claims.superseded_by))}]"
        record.add_at(
            "ODR304", f"superseded_by is {given}; by the other records it is {should}", ("superseded_by",)
        )
    if claims.status == "superseded" and not successors:
        record.add_at("ODR305", "status is superseded, but no record in force supersedes it", ("status",))
    if successors and claims.status == "accepted":
        record.add_at("ODR305", f"status is accepted, but {successors[0]} supersedes it", ("status",))


def _circles(records: Sequence[Record], by_id: dict[str, list[Record]]) -> None:
    edges = {
        r.claims.id: [old for old in r.claims.supersedes if old in by_id and old != r.claims.id]
        for r in records
    }
    while True:
        try:
            graphlib.TopologicalSorter(edges).prepare()
        except graphlib.CycleError as error:
            around = list(reversed(error.args[1]))
            record = by_id[around[0]][0]
            record.add_at("ODR306", f"supersedes in a circle: {' -> '.join(around)}", ("supersedes",))
            edges[around[0]] = []  # reported: look for the next one
        else:
            return
