"""Check Python files for the layout and naming rules that the formatter cannot enforce.

Usage: `python -m tests.helpers.layout_rules [PATH...]`. Without paths, the whole project is checked.
Hints, such as short test names, are printed for named paths only and are not counted.
"""

from __future__ import annotations

import ast
import io
import json
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.helpers.wording import expand_paths, is_test_path, list_files, to_relative

MAX_LINE_CHARACTERS = 110
MIN_TEST_NAME_WORDS = 4
ALIGNED_TABLES = ("ockham/odr/code_table.py", "ockham/fields.py")
SPLIT_BY_COMMENT = re.compile(r"\s*[)\]}]+:?\s+#(?!\s*(?:noqa|type:|fmt:|pragma))")
MAX_CONSTANT = re.compile(r"_?MOST_\w*")


class LayoutViolation(NamedTuple):
    """One violation of a layout or naming rule."""

    path: str
    line: int
    rule: str
    text: str
    is_hint: bool = False


def check_lines(text: str, path: str) -> Iterator[LayoutViolation]:
    """Yield lines over 110 characters and expressions that a trailing comment splits."""
    for number, line in enumerate(text.split("\n"), 1):
        if len(line) > MAX_LINE_CHARACTERS and "noqa: E501" not in line:
            yield LayoutViolation(path, number, "line-length", f"{len(line)} characters")
        if SPLIT_BY_COMMENT.match(line):
            yield LayoutViolation(path, number, "split-by-comment", line.strip())


def check_comments(text: str, path: str) -> Iterator[LayoutViolation]:
    """Yield each `fmt: skip` outside of aligned tables."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT and re.search(r"#\s*fmt:\s*(?:skip|off)", token.string):
            if path not in ALIGNED_TABLES:
                yield LayoutViolation(path, token.start[0], "fmt-skip", token.line.strip())


def check_tree(tree: ast.AST, path: str) -> Iterator[LayoutViolation]:
    """Yield nested conditionals, logic inside f-strings and names that the style guide bans."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            for part in (p for p in node.values if isinstance(p, ast.FormattedValue)):
                inner = list(ast.walk(part.value))
                if any(isinstance(n, ast.IfExp) for n in inner):
                    yield LayoutViolation(
                        path, part.lineno, "conditional-in-fstring", ast.unparse(part.value)
                    )
                if any(isinstance(n, ast.JoinedStr) for n in inner):
                    yield LayoutViolation(path, part.lineno, "nested-fstring", ast.unparse(part.value))
        elif isinstance(node, ast.IfExp):
            if any(isinstance(n, ast.IfExp) for n in ast.walk(node) if n is not node):
                yield LayoutViolation(path, node.lineno, "nested-conditional", ast.unparse(node))
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from _check_function_name(node, path)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            if MAX_CONSTANT.fullmatch(node.id):
                yield LayoutViolation(path, node.lineno, "constant-name", node.id)


def _check_function_name(
    node: ast.FunctionDef | ast.AsyncFunctionDef, path: str
) -> Iterator[LayoutViolation]:
    if node.name.endswith("_of"):
        yield LayoutViolation(path, node.lineno, "function-name", node.name)
    words = node.name.removeprefix("test_").split("_")
    if is_test_path(path) and node.name.startswith("test_") and len(words) < MIN_TEST_NAME_WORDS:
        yield LayoutViolation(path, node.lineno, "test-name", node.name, is_hint=True)


def check_docstrings(files: list[Path]) -> Iterator[LayoutViolation]:
    """Yield functions of the source whose docstring does not start in the imperative (ruff D401)."""
    names = [str(path) for path in files if not is_test_path(to_relative(path))]
    if not names:
        return
    options = ["--isolated", "--no-cache", "--select=D401", "--output-format=json", "--exit-zero"]
    command = [sys.executable, "-m", "ruff", "check", *options, *names]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for item in json.loads(output):
        path = to_relative(Path(item["filename"]))
        yield LayoutViolation(path, item["location"]["row"], "imperative-docstring", item["message"])


def check_files(files: list[Path]) -> list[LayoutViolation]:
    """Return all violations and hints of the given Python files."""
    violations = list(check_docstrings(files))
    for file in files:
        text, path = file.read_text(encoding="utf-8"), to_relative(file)
        violations += check_lines(text, path)
        violations += check_comments(text, path)
        violations += check_tree(ast.parse(text), path)
    return sorted(violations)


def list_python_files() -> list[Path]:
    """Return all Python files of the project."""
    return [path for path in list_files() if path.suffix == ".py"]


def main(arguments: list[str]) -> int:
    """Print all violations and their number. Return 1 if there are any."""
    files = expand_paths(arguments, (".py",)) if arguments else list_python_files()
    items = check_files(files)
    violations = [item for item in items if not item.is_hint]
    for item in items if arguments else violations:
        label = f"hint: {item.rule}" if item.is_hint else item.rule
        print(f"{item.path}:{item.line}: {label}: {item.text[:100]}")
    print(f"{len(violations)} violations in {len(files)} files")
    return int(bool(violations))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
