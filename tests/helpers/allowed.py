"""Read and compare the lists of files that still have violations. Both lists shrink until they are empty.

Usage: `python -m tests.helpers.allowed` writes both lists for the present tree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from tests.helpers import layout_rules, wording

FOLDER = Path(__file__).resolve().parent
WORDING_LIST = FOLDER / "allowed_wording.txt"
LAYOUT_LIST = FOLDER / "allowed_layout.txt"


def count_wording() -> Counter[str]:
    """Return the number of banned words per file, and of the help texts."""
    violations = [item for path in wording.list_files() for item in wording.check_file(path)]
    return Counter(item.path for item in [*violations, *wording.check_help()])


def count_layout() -> Counter[str]:
    """Return the number of layout violations per file."""
    items = layout_rules.check_files(layout_rules.list_python_files())
    return Counter(item.path for item in items if not item.is_hint)


def read_list(path: Path) -> dict[str, int]:
    """Return file -> number of allowed violations. A missing list allows none."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {name: int(count) for name, count in (line.split("\t") for line in lines)}


def write_list(path: Path, counts: Iterable[tuple[str, int]]) -> None:
    """Write one `file<TAB>count` per line."""
    path.write_text("".join(f"{name}\t{count}\n" for name, count in sorted(counts)), encoding="utf-8")


def list_excess(counts: Counter[str], allowed: dict[str, int]) -> dict[str, str]:
    """Return the files with more violations than allowed."""
    return {
        name: f"{count} violations, {allowed.get(name, 0)} allowed"
        for name, count in sorted(counts.items())
        if count > allowed.get(name, 0)
    }


if __name__ == "__main__":
    write_list(WORDING_LIST, count_wording().items())
    write_list(LAYOUT_LIST, count_layout().items())
