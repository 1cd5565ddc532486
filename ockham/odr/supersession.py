"""Rules across the records of a folder: numbers, links, cycles."""

from __future__ import annotations

import graphlib
from collections import defaultdict
from collections.abc import Iterable, Sequence

from ockham.errors import suggest_name
from ockham.odr.record import DecisionRecord


def check_relations(records: Sequence[DecisionRecord]) -> None:
    """Add findings about relations, in each record that must change."""
    by_id: dict[str, list[DecisionRecord]] = defaultdict(list)
    for record in records:
        if record.claims.id:
            by_id[record.claims.id].append(record)
    for same in by_id.values():
        for record in same[1:]:
            first = same[0].file.name
            record.add_finding_at("ODR301", f"{record.claims.id} is also the id of {first}", ("id",))
    successors = find_successors(records)
    for record in records:
        _links(record, by_id)
        _backlinks(record, successors.get(record.claims.id, []))
    _cycles(records, by_id)


def find_successors(records: Iterable[DecisionRecord]) -> dict[str, list[str]]:
    """Return the IDs of the superseding records by ID, in order. A draft does not supersede yet."""
    found: dict[str, set[str]] = defaultdict(set)
    for record in records:
        if record.claims.id and record.claims.status not in {"draft", "proposed", "rejected"}:
            for old in record.claims.supersedes:
                if old != record.claims.id:
                    found[old].add(record.claims.id)
    return {old: sorted(new) for old, new in found.items()}


def _links(record: DecisionRecord, by_id: dict[str, list[DecisionRecord]]) -> None:
    for index, old in enumerate(record.claims.supersedes):
        if old == record.claims.id:
            record.add_finding_at("ODR303", f"{old} supersedes itself", ("supersedes", index))
        elif old not in by_id:
            message = f"supersedes {old!r:.40}, which is not in this folder{suggest_name(old, by_id)}"
            record.add_finding_at("ODR302", message, ("supersedes", index))
    for index, new in enumerate(record.claims.superseded_by):
        if new not in by_id:
            message = f"superseded_by {new!r:.40}, which is not in this folder{suggest_name(new, by_id)}"
            record.add_finding_at("ODR302", message, ("superseded_by", index))


def _backlinks(record: DecisionRecord, successors: list[str]) -> None:
    claims = record.claims
    if sorted(claims.superseded_by) != successors:
        should = f"[{', '.join(successors)}]"
        given = f"[{', '.join(sorted(claims.superseded_by))}]"
        record.add_finding_at(
            "ODR304", f"superseded_by is {given}; by the other records it is {should}", ("superseded_by",)
        )
    if claims.status == "superseded" and not successors:
        record.add_finding_at(
            "ODR305", "status is superseded, but no record in force supersedes it", ("status",)
        )
    if successors and claims.status == "accepted":
        record.add_finding_at("ODR305", f"status is accepted, but {successors[0]} supersedes it", ("status",))


def _cycles(records: Sequence[DecisionRecord], by_id: dict[str, list[DecisionRecord]]) -> None:
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
            record.add_finding_at("ODR306", f"supersedes in a circle: {' -> '.join(around)}", ("supersedes",))
            # reported: look for the next one.
            edges[around[0]] = []
        else:
            return
