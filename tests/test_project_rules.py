"""Rules of the project: sizes, layers, light import, allowed words, and test folders that mirror it."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(
    not (ROOT / "pyproject.toml").exists(), reason="a checkout is judged, not a wheel"
)

FILE_LINES, FUNCTION_LINES = 400, 40
HEAVY = (
    "torch",
    "duckdb",
    "streamlit",
    "altair",
    "pyarrow",
    "numpy",
    "pandas",
    "safetensors",
    "typer",
    "rich",
)


def source_files():
    folders = [ROOT / name for name in ("ockham", "dashboard", "benchmarks")]
    return [ROOT / "train.py", *(path for folder in folders for path in sorted(folder.rglob("*.py")))]


def text_files():
    """Return the files that are written by hand: code, tests, docs, schemas, SQL, presets, build files."""
    kinds = {".py", ".md", ".json", ".sql", ".yaml", ".toml", ".css", ".js", ".html", ".j2"}
    folders = ("ockham", "schemas", "dashboard", "odr", "tests", "docs", "benchmarks")
    inside = [path for name in folders for path in (ROOT / name).rglob("*") if path.suffix in kinds]
    return [
        *inside,
        *(path for path in ROOT.iterdir() if path.is_file() and path.suffix in kinds),
        ROOT / "Makefile",
    ]


def relative_name(path):
    return path.relative_to(ROOT).as_posix()


def code_lines(function):
    """Return the number of lines of a function without its docstring."""
    metadata = ast.get_docstring(function) is not None
    body = function.body[1:] if metadata else function.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def test_files_have_at_most_400_lines():
    """Without an exception."""
    lines = {relative_name(path): len(path.read_text().splitlines()) for path in source_files()}
    assert len(lines) > 80
    assert {name: n for name, n in lines.items() if n > FILE_LINES} == {}


def test_functions_have_at_most_40_lines():
    """Docstrings are not counted."""
    long = {}
    for path in source_files():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                name = f"{relative_name(path)}:{node.name}"
                if code_lines(node) > FUNCTION_LINES:
                    long[name] = code_lines(node)
    assert long == {}


def test_every_module_has_a_docstring():
    """It is at the top of the file."""
    silent = [relative_name(p) for p in source_files() if not ast.get_docstring(ast.parse(p.read_text()))]
    assert [name for name in silent if not name.endswith("__init__.py")] == []


def test_every_test_has_a_docstring():
    """It states the expected behaviour."""
    silent = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.FunctionDef)
                and node.name.startswith("test_")
                and not ast.get_docstring(node)
            ):
                silent.append(f"{relative_name(path)}:{node.name}")
    assert silent == []


def test_imports_only_point_down():
    """import-linter checks the contracts of pyproject.toml."""
    command = Path(sys.executable).with_name("lint-imports")
    if not command.exists() and not shutil.which("lint-imports"):
        pytest.skip("import-linter is not installed")
    done = subprocess.run(
        [command, "--no-logo", "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout


def packages_imported_by(code):
    """Return the packages of the environment that a new process has imported after *code*."""
    listing = (
        "import json, pathlib, sys;"
        "files = {name: getattr(module, '__file__', None) or '' for name, module in [*sys.modules.items()]};"
        "print(json.dumps([n.partition('.')[0] for n, f in files.items() if 'site-packages' in f]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{listing}"], capture_output=True, text=True, timeout=60
    )
    return set(json.loads(done.stdout))


def test_import_of_ockham_imports_no_other_package():
    """`import ockham` loads only modules of the standard library in addition."""
    assert packages_imported_by("import ockham") == packages_imported_by("pass")


def test_command_line_imports_only_typer():
    """Building all commands loads typer and what typer needs, but no package of a single command."""
    added = packages_imported_by("from ockham.cli import build_app; build_app()") - packages_imported_by(
        "pass"
    )
    assert added == packages_imported_by("import typer, typer.main, typer.completion") - packages_imported_by(
        "pass"
    )


def test_import_of_ockham_is_light():
    """Plugins, chain and policy load no heavy package."""
    code = (
        "import sys, ockham; light = set(sys.modules);"
        "ockham.PluginChain, ockham.OckhamGatePlugin, ockham.OckhamMemory;"
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


def test_public_names_match_their_table():
    """TYPE_CHECKING and the lazy table agree."""
    import ockham

    tree = ast.parse((ROOT / "ockham" / "__init__.py").read_text())
    seen = {
        alias.asname: node.module
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == ockham._LAZY_IMPORTS


def test_project_has_no_machine_paths_or_notes():
    """Nor versions under another name."""
    machine = re.compile(r"/(?:root|home|work|Users)/[a-z]")
    notes = re.compile(r"\b(?:" + "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK")) + r")\b")
    second = re.compile(r"\b[a-z]\w*_(?:v2|new|old|final|copy)\.(?:py|md|sql|json)\b")
    found = []
    for path in text_files():
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if machine.search(line) or notes.search(line) or second.search(line):
                found.append(f"{relative_name(path)}:{number}: {line.strip():.100}")
    assert found == []


def test_folders_mirror_the_package():
    """Other folders are listed."""
    rooms = {path.name for path in (ROOT / "ockham").iterdir() if path.is_dir()}
    extra = {"dashboard", "fault_injection", "benchmarks", "odr", "fixtures", "data", "helpers", "reference"}
    extra |= {"attacks", "oracle"}
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and path.name[0] not in "_."}
    assert folders - rooms - extra == set()
