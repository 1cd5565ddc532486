"""Published table of trainers and situations."""

from __future__ import annotations

import re

from ockham import resources
from tests.integrations.matrix_table import rows

PAGE = resources.data_root() / "docs" / "measurements.md"


def test_published_table_has_every_cell():
    """Rows and totals are updated with the output of `python -m tests.integrations.matrix_table`."""
    text = PAGE.read_text(encoding="utf-8").partition("## Trainers compared with independent truth")[2]
    cells = [f"| {row.trainer} | {row.situation} | {row.processes} |" for row in rows()]
    table = text.partition("<summary>All cells</summary>")[2].partition("</details>")[0].splitlines()
    lines = [line for line in table if line.startswith("| ")][1:]
    assert [re.match(r"(\|[^|]*){3}\|", line)[0] for line in lines] == cells
    batches, skips = (sum(int(line.split("|")[column]) for line in lines) for column in (4, 5))
    assert f"{len(cells)} cells, {batches:,} batches, {skips:,} skips," in text
