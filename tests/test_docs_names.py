"""Files and modules that the documentation names exist, and its measurements are on one page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))] if DOCS.is_dir() else []
pytestmark = pytest.mark.skipif(not PAGES, reason="an installed package has no docs")
_FOLDERS = "ockham|tests|benchmarks|schemas|dashboard|odr|examples"
_PATH = re.compile(rf"(?<![\w/.])(?:{_FOLDERS})/[\w./-]*[\w/](?!\w)")
_MODULE = re.compile(r"python -m ((?:benchmarks|tests|ockham)(?:\.\w+)+)")


def name_page(page):
    """Return the path of a page relative to the repository, as its test ID."""
    return page.relative_to(ROOT).as_posix()


def list_paths(text):
    """Return the repository paths in the inline code and the commands of a page."""
    code = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return [match for words in code for match in _PATH.findall(words) if "NAME" not in match]


@pytest.mark.parametrize("page", PAGES, ids=name_page)
def test_paths_of_page_exist(page):
    """A file that is moved or renamed is renamed in the documentation too."""
    missing = [path for path in list_paths(page.read_text(encoding="utf-8")) if not (ROOT / path).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=name_page)
def test_modules_of_page_exist(page):
    """A module that is run by `python -m` is a file or a package."""
    for module in _MODULE.findall(page.read_text(encoding="utf-8")):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").is_file() or path.is_dir(), f"{page.name}: {module}"


def test_every_benchmark_is_named_with_its_figures():
    """Each benchmark has its command on the page of measurements."""
    text = (DOCS / "measurements.md").read_text(encoding="utf-8")
    names = {path.stem for path in (ROOT / "benchmarks").glob("*.py") if not path.stem.startswith("_")}
    # These two have no command of their own: one is an option of log_throughput, one draws a figure.
    assert {name for name in names if name not in text} <= {"tracker_overhead", "plot_query_times"}


def test_python_of_scale_page_runs(tmp_path, monkeypatch):
    """The example of a subscription runs as it is written."""
    monkeypatch.chdir(tmp_path)
    text = (DOCS / "scale.md").read_text(encoding="utf-8")
    for body in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(compile(body, "scale.md", "exec"), {"__name__": "scale"})
    assert (tmp_path / "runs" / "notify-1" / "run.json").is_file()
