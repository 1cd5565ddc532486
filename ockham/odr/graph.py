"""The index of a folder, and who superseded whom as a picture."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import quote

from ockham.odr.record import DecisionRecord

_OPEN = "<!-- made by `ockham odr index`: change the records, not this list -->"
_CLOSE = "<!-- end of the list -->"


def render_index(records: Sequence[DecisionRecord], before: str = "") -> str:
    """The text of the index: what stood outside of the two marks, and between them a table of all records."""
    rows = [_OPEN, "| record | title | status | verdict | date |", "|---|---|---|---|---|"]
    for record in sorted(records, key=lambda r: (r.claims.id, r.file.name)):
        claims = record.claims
        name = claims.id or record.file.name
        status = claims.status + (f" by {', '.join(claims.superseded_by)}" if claims.superseded_by else "")
        cells = (claims.title or "(cannot be read)", status, claims.verdict or "not measured", claims.date)
        link = quote(os.fsencode(record.file.name))
        rows.append(f"| [{_cell(name)}]({link}) | " + " | ".join(_cell(cell) for cell in cells) + " |")
    rows.append(_CLOSE)
    table = "\n".join(rows)
    head, opened, rest = before.partition(_OPEN)
    _, closed, tail = rest.partition(_CLOSE)
    if opened and closed:
        return f"{head}{table}{tail}"
    return f"{before.rstrip()}\n\n{table}\n" if before.strip() else f"# Decision records\n\n{table}\n"


def _cell(text: str) -> str:
    """Text of a stranger as text: no cell, link, image or element begins in it."""
    return re.sub(r"([\\|\[\]])", r"\\\1", _line(text)).replace("<", "&lt;")


def _line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def nodes_and_edges(
    records: Sequence[DecisionRecord],
) -> tuple[dict[str, DecisionRecord], list[tuple[str, str]]]:
    """Records by id, and (new, old) for each that supersedes another; links to nowhere are left out."""
    nodes = {record.claims.id: record for record in records if record.claims.id}
    edges = [(new, old) for new, record in nodes.items() for old in record.claims.supersedes if old in nodes]
    return nodes, sorted(edges)


def mermaid(records: Sequence[DecisionRecord]) -> str:
    """A Mermaid flow chart."""
    nodes, edges = nodes_and_edges(records)
    rows = ["graph LR"]
    for name, record in sorted(nodes.items()):
        label = (
            _line(f"{name} {record.claims.title}")
            .replace('"', "#quot;")
            .replace("<", "#lt;")
            .replace(">", "#gt;")
        )
        rows.append(f'  {_node_id(name)}["{label}<br/>{_plain(record.claims.status)}"]')
    rows += [f"  {_node_id(new)} -->|supersedes| {_node_id(old)}" for new, old in edges]
    return "\n".join(rows)


def dot(records: Sequence[DecisionRecord]) -> str:
    """A graph for Graphviz."""
    nodes, edges = nodes_and_edges(records)
    rows = ["digraph odr {", "  rankdir=LR; node [shape=box];"]
    for name, record in sorted(nodes.items()):
        label = json.dumps(f"{name} {record.claims.title} ({record.claims.status})", ensure_ascii=False)
        rows.append(f"  {_node_id(name)} [label={label}];")
    rows += [f'  {_node_id(new)} -> {_node_id(old)} [label="supersedes"];' for new, old in edges]
    return "\n".join([*rows, "}"])


def as_json(records: Sequence[DecisionRecord]) -> str:
    """Nodes and edges as JSON."""
    nodes, edges = nodes_and_edges(records)
    document = {
        "nodes": [
            {"id": n, "title": r.claims.title, "status": r.claims.status, "file": r.display_path}
            for n, r in sorted(nodes.items())
        ],
        "edges": [{"from": new, "to": old, "kind": "supersedes"} for new, old in edges],
    }
    return json.dumps(document, indent=2, ensure_ascii=False)


def _node_id(name: str) -> str:
    """An id as a bare word of both languages, whatever a broken record has for an id."""
    return "".join(c if c.isascii() and c.isalnum() else "_" for c in name) or "_"


def _plain(text: str) -> str:
    return "".join(c for c in text if c.isalnum())


GRAPHS: Mapping[str, Callable[[Sequence[DecisionRecord]], str]] = {
    "mermaid": mermaid,
    "dot": dot,
    "json": as_json,
}
