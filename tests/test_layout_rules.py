"""Python files follow the layout and naming rules."""

from __future__ import annotations

import ast

import pytest

from tests.helpers.layout_rules import (
    check_comments,
    check_files,
    check_lines,
    check_tree,
    list_python_files,
)
from tests.helpers.wording import ROOT

pytestmark = pytest.mark.skipif(not (ROOT / "pyproject.toml").exists(), reason="needs a checkout")


def test_python_files_have_no_layout_violations():
    """Run `python -m tests.helpers.layout_rules FILE` to see the violations of a file."""
    violations = [item for item in check_files(list_python_files()) if not item.is_hint]
    assert [str(item) for item in violations] == []


@pytest.mark.parametrize(
    ("source", "rule"),
    [
        ("x = 1 if a else 2 if b else 3", "nested-conditional"),
        ("x = f'{1 if a else 2}'", "conditional-in-fstring"),
        ("x = f'{f(f\"{a}\")}'", "nested-fstring"),
        ("def name_of(path): ...", "function-name"),
        ("MOST_LINES = 3", "constant-name"),
    ],
)
def test_tree_rule_reports_its_example(source, rule):
    """Each rule on the syntax tree has one example."""
    assert [item.rule for item in check_tree(ast.parse(source), "module.py")] == [rule]


def test_line_rules_report_their_examples():
    """Long lines and expressions that a trailing comment splits are reported."""
    source = f"x = '{'a' * 110}'\nif (\n    x\n):  # reason\n    pass\n)  # noqa: E702\n"
    assert [item.rule for item in check_lines(source, "m.py")] == ["line-length", "split-by-comment"]


def test_fmt_skip_is_accepted_in_aligned_tables_only():
    """Two modules contain aligned tables."""
    source = "x = 1  # fmt: skip\n"
    assert [item.rule for item in check_comments(source, "ockham/run.py")] == ["fmt-skip"]
    assert list(check_comments(source, "ockham/fields.py")) == []
