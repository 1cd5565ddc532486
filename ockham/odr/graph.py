"""Index of a folder, and the graph of superseded records."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from ockham.odr.record import DecisionRecord
from ockham.odr.record_rules import claimed_verdict
from ockham.odr.records_folder import INDEX

_OPEN = "<!-- made by `ockham odr index`: change the records, not this list -->"
_CLOSE = "<!-- end of the list -->"


def render_index(records: Sequence[DecisionRecord], before: str = "") -> str:
    """Return the text of the index. The table of all records replaces the text between the two marks."""
    rows = [_OPEN, "| record | title | status | verdict | date |", "|---|---|---|---|---|"]
    for record in sorted(records, key=lambda r: (r.claims.id, r.file.name)):
        claims = record.claims
        name = claims.id or record.file.name
        status = claims.status + (f" by {', '.join(claims.superseded_by)}" if claims.superseded_by else "")
        verdict = claimed_verdict(record)
        cells = (claims.title or "(cannot be read)", status, verdict or "not measured", claims.date)
        link = quote(os.fsencode(record.file.name))
        rows.append(f"| [{_cell(name)}]({link}) | " + " | ".join(_cell(cell) for cell in cells) + " |")
    rows.append(_CLOSE)
    table = "\n".join(rows)
    head, opened, rest = before.partition(_OPEN)
    _, closed, tail = rest.partition(_CLOSE)
    if opened and closed:
        return f"{head}{table}{tail}"
    return f"{before.rstrip()}\n\n{table}\n" if before.strip() else f"# Decision records\n\n{table}\n"


def check_index(folder: Path, records: Sequence[DecisionRecord]) -> list[DecisionRecord]:
    """Return README.md of the folder with a finding if its index is out of date. Empty without an index."""
    file = folder / INDEX
    try:
        current = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return []
    if _OPEN not in current or render_index(records, current) == current:
        return []
    index = DecisionRecord(file, str(file), current.encode())
    line = current[: current.index(_OPEN)].count("\n") + 1
    index.add_finding("ODR801", "index is out of date: `ockham odr index` writes it", line)
    return [index]


def _cell(text: str) -> str:
    """Return untrusted text escaped for a table cell: no link, image or element can start in it."""
    return re.sub(r"([\\|\[\]])", r"\\\1", _line(text)).replace("<", "&lt;")


def _line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def nodes_and_edges(
    records: Sequence[DecisionRecord],
) -> tuple[dict[str, DecisionRecord], list[tuple[str, str]]]:
    """Return records by ID, and (new, old) for each that supersedes another.

    Links to missing records are omitted.
    """
    nodes = {record.claims.id: record for record in records if record.claims.id}
    edges = [(new, old) for new, record in nodes.items() for old in record.claims.supersedes if old in nodes]
    return nodes, sorted(edges)


def mermaid(records: Sequence[DecisionRecord]) -> str:
    """Return the graph as a Mermaid flow chart."""
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
    """Return the graph for Graphviz."""
    nodes, edges = nodes_and_edges(records)
    rows = ["digraph odr {", "  rankdir=LR; node [shape=box];"]
    for name, record in sorted(nodes.items()):
        label = json.dumps(f"{name} {record.claims.title} ({record.claims.status})", ensure_ascii=False)
        rows.append(f"  {_node_id(name)} [label={label}];")
    rows += [f'  {_node_id(new)} -> {_node_id(old)} [label="supersedes"];' for new, old in edges]
    return "\n".join([*rows, "}"])


def as_json(records: Sequence[DecisionRecord]) -> str:
    """Return nodes and edges as JSON."""
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
    """Return an ID that is a valid word in both graph languages."""
    return "".join(c if c.isascii() and c.isalnum() else "_" for c in name) or "_"


def _plain(text: str) -> str:
    return "".join(c for c in text if c.isalnum())


GRAPHS: Mapping[str, Callable[[Sequence[DecisionRecord]], str]] = {
    "mermaid": mermaid,
    "dot": dot,
    "json": as_json,
}
