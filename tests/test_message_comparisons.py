"""No behaviour depends on the text of a message: conditions are error classes or fields."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TEXT_METHODS = {"startswith", "endswith", "find", "index", "count", "partition", "rpartition"}
MATCH_FUNCTIONS = {"match", "search", "fullmatch", "findall"}
MESSAGE_FIELDS = {"message", "reason", "text"}
# Conditions that other libraries report by text only, with the reason.
THIRD_PARTY = {
    ("ockham/cli/__init__.py", "str(error) != INTERRUPTED_QUERY"): "DuckDB raises RuntimeError at Ctrl-C",
    ("ockham/nano/distributed.py", "'gloo' in str(error)"): "gloo raises RuntimeError, not DistError",
    ("ockham/nano/distributed.py", "str(error).strip().partition('\\n')"): "gloo puts its source line first",
}


def source_files():
    """Return every Python file of the package, the dashboard, the benchmarks and train.py."""
    folders = [ROOT / name for name in ("ockham", "dashboard", "benchmarks")]
    return [ROOT / "train.py", *(path for folder in folders for path in sorted(folder.rglob("*.py")))]


def caught_names(tree):
    """Return the names that `except ... as NAME` binds anywhere in the module."""
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler) and node.name}


def is_message(node, errors):
    """Return True if *node* is the text of a caught error, or the prose field of a finding or row."""
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Name) and node.func.id in {"str", "repr"} and node.args:
            return isinstance(node.args[0], ast.Name) and node.args[0].id in errors
        return isinstance(node.func, ast.Attribute) and is_message(node.func.value, errors)
    if isinstance(node, ast.JoinedStr):
        values = [part.value for part in node.values if isinstance(part, ast.FormattedValue)]
        return any(isinstance(value, ast.Name) and value.id in errors for value in values)
    if isinstance(node, ast.Attribute) and node.attr in MESSAGE_FIELDS:
        return isinstance(node.value, ast.Name) and node.value.id in {*errors, "row", "finding"}
    return False


def comparisons(tree):
    """Yield the expressions in which the text of a message decides."""
    errors = caught_names(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            if any(is_message(side, errors) for side in (node.left, *node.comparators)):
                yield node
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            method = node.func.attr in TEXT_METHODS and is_message(node.func.value, errors)
            pattern = node.func.attr in MATCH_FUNCTIONS and any(is_message(a, errors) for a in node.args)
            if method or pattern:
                yield node


def test_no_condition_reads_the_text_of_a_message():
    """Rewording a message changes no behaviour."""
    found = {}
    for path in source_files():
        name = path.relative_to(ROOT).as_posix()
        for node in comparisons(ast.parse(path.read_text(encoding="utf-8"))):
            if (name, ast.unparse(node)) not in THIRD_PARTY:
                found[f"{name}:{node.lineno}"] = ast.unparse(node)
    assert found == {}


def test_every_third_party_exception_is_still_in_the_source():
    """The list of exceptions names no comparison that is gone."""
    sources = {path.relative_to(ROOT).as_posix(): path for path in source_files()}
    missing = []
    for name, expression in THIRD_PARTY:
        tree = ast.parse(sources[name].read_text(encoding="utf-8"))
        if expression not in [ast.unparse(node) for node in comparisons(tree)]:
            missing.append((name, expression))
    assert missing == []


@pytest.mark.parametrize(
    "condition",
    [
        "'took longer' in str(error)",
        "str(error) == 'x'",
        "str(error).startswith('x')",
        "str(error).lower().find('x')",
        "re.search('x', str(error))",
        "'x' in f'{error}'",
        "'being written' in row.message",
    ],
)
def test_search_finds_a_comparison_of_a_message(condition):
    """Each form of the comparison is reported."""
    code = f"try:\n    work()\nexcept OSError as error:\n    if {condition}:\n        pass\n"
    assert len(list(comparisons(ast.parse(code)))) == 1
