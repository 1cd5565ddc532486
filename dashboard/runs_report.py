"""HTML report of chosen runs: one file without scripts and without links to other hosts."""

from __future__ import annotations

import html
from collections.abc import Sequence

import pyarrow as pa

from dashboard.words import column_heading
from ockham.formatting import format_cell

STYLE = (
    "body{font:16px sans-serif;max-width:70em;margin:2em auto}"
    "table{border-collapse:collapse;margin:1em 0}"
    "td,th{border:1px solid #888;padding:.3em .6em;text-align:left}"
)


def report_html(sentences: Sequence[str], tables: Sequence[tuple[str, pa.Table]]) -> bytes:
    """Return the report. All text is escaped.

    Args:
        sentences: Paragraphs before the tables.
        tables: Title and rows of each table.

    """
    parts = [f"<p>{html.escape(text)}</p>" for text in sentences]
    for title, table in tables:
        heads = "".join(f"<th>{html.escape(column_heading(name))}</th>" for name in table.column_names)
        lines = [
            "".join(f"<td>{html.escape(_text(value))}</td>" for value in row.values())
            for row in table.to_pylist()
        ]
        body = "".join(f"<tr>{line}</tr>" for line in lines)
        parts.append(f"<h2>{html.escape(title)}</h2><table><tr>{heads}</tr>{body}</table>")
    head = f'<meta charset="utf-8"><title>Ockham: runs</title><style>{STYLE}</style>'
    page = (
        f'<!doctype html><html lang="en"><head>{head}</head><body><h1>Runs</h1>{"".join(parts)}</body></html>'
    )
    return page.encode()


def _text(value: object) -> str:
    return f"{value:.5g}" if isinstance(value, float) else format_cell(value)
