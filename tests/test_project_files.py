"""The project files: licence, metadata, workflows, documentation site and the content of the wheel."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from ruamel.yaml import YAML

import ockham
from ockham.errors import DISTRIBUTION, MissingExtraError

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(not (ROOT / "pyproject.toml").exists(), reason="needs a checkout")
TEXT_SUFFIXES = {".py", ".md", ".toml", ".yaml", ".yml", ".sql", ".json", ".cff", ""}
# `pip install ockham`, `ockham[train]` and `ockham==0.1` name the unrelated project on PyPI.
OTHER_PROJECT = re.compile(
    r"(?:pip3?|pipx|uv|uv pip|uv tool|poetry|conda) (?:install|add|run|inject) [^\n]*?"
    r"(?<![\w./-])ockham(?![\w./-]|-audit)"
    r"|(?<![\w-])ockham\[\w"
    r"|(?:version|distribution|metadata|requires)\([\"']ockham[\"']\)"
)


def metadata():
    """Return the parsed pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def tracked_text_files():
    """Return the text files of the checkout."""
    listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    names = listing.stdout.splitlines() or [str(p.relative_to(ROOT)) for p in ROOT.rglob("*.md")]
    paths = [ROOT / name for name in names]
    return [path for path in paths if path.suffix in TEXT_SUFFIXES and path.is_file()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Return the names in a wheel that is built from the checkout without build isolation."""
    folder = tmp_path_factory.mktemp("wheel")
    code = f"import hatchling.build as b; print(b.build_wheel({str(folder)!r}))"
    pytest.importorskip("hatchling")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    [path] = folder.glob("*.whl")
    return path.name, zipfile.ZipFile(path).namelist()


def test_no_file_installs_the_unrelated_project_of_the_same_name():
    """Every install command and extra names `ockham-audit`."""
    found = {}
    for path in tracked_text_files():
        if path.name in {"test_project_files.py", "uv.lock"}:
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            warning = "Do not run" in line or "unrelated" in line
            if OTHER_PROJECT.search(line) and not warning:
                found[f"{path.relative_to(ROOT)}:{number}"] = line.strip()
    assert found == {}


@pytest.mark.parametrize(
    "line",
    [
        'pip install "ockham[train]"',
        "pip install ockham",
        "pip install -U 'ockham[all]'",
        "pip install ockham==0.1",
        "needs ockham[spark]",
        "pipx install ockham",
        "uv add ockham",
        "uv pip install ockham",
        "uv tool install ockham",
        'importlib.metadata.version("ockham")',
    ],
)
def test_search_finds_the_unrelated_project(line):
    """The pattern matches each form of the wrong name."""
    assert OTHER_PROJECT.search(line)


@pytest.mark.parametrize(
    "line", ['pip install "ockham-audit[train]"', "pip install dist/ockham_audit-0.1.whl"]
)
def test_search_accepts_the_distribution(line):
    """The pattern does not match the right name."""
    assert not OTHER_PROJECT.search(line)


def test_missing_extra_error_names_the_distribution():
    """The message contains a command that installs this project."""
    assert 'pip install "ockham-audit[train]"' in str(MissingExtraError("torch", "train"))


def test_distribution_name_is_the_one_in_the_metadata():
    """Code and pyproject.toml agree on the name."""
    assert metadata()["project"]["name"] == DISTRIBUTION


def test_licence_is_the_apache_text():
    """The licence file has the text that the metadata names."""
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert metadata()["project"]["license"] == "Apache-2.0"


def test_version_has_one_source():
    """pyproject.toml reads the version from the package; the citation repeats it."""
    project = metadata()["project"]
    assert "version" not in project
    assert project["dynamic"] == ["version"]
    citation = YAML(typ="safe").load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == ockham.__version__


def test_metadata_has_no_invented_address():
    """`project.urls` is added with the first public repository."""
    assert "urls" not in metadata()["project"]


def test_every_dependency_has_a_comment_with_its_reason():
    """Each requirement follows a comment line, except references to own extras."""
    lines = (ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    requirement = re.compile(r'^    "(?!ockham-audit)[A-Za-z0-9_.\[\],-]+([<>=].*)?",$')
    start, end = lines.index("[project]"), lines.index("[tool.hatch.version]")
    missing = []
    section = ""
    for number in range(start, end):
        if " = [" in lines[number] or lines[number].startswith("["):
            section = lines[number]
        commented = lines[number - 1].strip().startswith("#")
        if requirement.match(lines[number]) and "classifiers" not in section and not commented:
            missing.append(lines[number].strip())
    assert missing == []


@pytest.mark.parametrize("name", ["ci.yml", "release.yml"])
def test_workflow_is_valid_yaml_with_jobs(name):
    """Each workflow parses and has at least one job."""
    workflow = YAML(typ="safe").load((ROOT / ".github/workflows" / name).read_text(encoding="utf-8"))
    assert workflow["jobs"]


def test_workflow_runs_the_ci_script_on_all_supported_versions():
    """CI calls .ci/run on 3.11 to 3.14, the versions of the classifiers."""
    workflow = YAML(typ="safe").load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    job = workflow["jobs"]["test"]
    versions = [c.rpartition(" ")[2] for c in metadata()["project"]["classifiers"] if "Python :: 3." in c]
    assert job["strategy"]["matrix"]["python"] == versions
    assert ".ci/run" in [step.get("run") for step in job["steps"]]


@pytest.mark.parametrize(
    "name",
    [
        "CONTRIBUTING.md",
        "SECURITY.md",
        "CODE_OF_CONDUCT.md",
        ".editorconfig",
        ".gitattributes",
        ".pre-commit-config.yaml",
        ".github/dependabot.yml",
        ".github/pull_request_template.md",
        "mkdocs.yml",
    ],
)
def test_usual_project_file_exists_in_checkout(name):
    """Each file of the list is at the top of the checkout or below it."""
    assert (ROOT / name).is_file()


@pytest.mark.parametrize(
    "name",
    [".github/dependabot.yml", *(f".github/ISSUE_TEMPLATE/{n}.yml" for n in ("bug", "config", "feature"))],
)
def test_github_file_is_valid_yaml(name):
    """The file parses as a mapping with content."""
    document = YAML(typ="safe").load((ROOT / name).read_text(encoding="utf-8"))
    assert isinstance(document, dict)
    assert document


def navigation_pages(entry):
    """Return the pages below an entry of the navigation in mkdocs.yml."""
    if isinstance(entry, str):
        return [entry]
    children = entry.values() if isinstance(entry, dict) else entry
    return [page for child in children for page in navigation_pages(child)]


def test_documentation_site_lists_existing_pages_and_all_of_them():
    """Every page of the navigation exists, and every page in docs/ is in the navigation."""
    text = re.sub(r"!!python/\S+", "", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    pages = navigation_pages(YAML(typ="safe").load(text)["nav"])
    existing = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    assert set(pages) - existing == set()
    assert existing - set(pages) == set()


def test_contributing_names_existing_files():
    """Every path in backticks exists, so that the instructions can be followed."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    paths = re.findall(r"`((?:ockham|tests|schemas|dashboard|docs|benchmarks|examples)/[\w/.-]+)`", text)
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_wheel_contains_licence_and_type_marker(wheel):
    """Users get the licence text and the types."""
    _, names = wheel
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert "ockham/py.typed" in names


def test_wheel_contains_schemas_dashboard_and_trainer(wheel):
    """The files at the top of the checkout are part of the wheel."""
    _, names = wheel
    assert "ockham/_shipped/train.py" in names
    assert "ockham/_shipped/dashboard/app.py" in names
    assert "ockham/_shipped/dashboard/components/assets/timeseries.js" in names
    assert any(name.startswith("ockham/_shipped/schemas/") for name in names)


def test_wheel_is_named_for_distribution_and_version(wheel):
    """The file name has the normalised distribution name."""
    name, _ = wheel
    assert name.startswith(f"ockham_audit-{ockham.__version__}-")
