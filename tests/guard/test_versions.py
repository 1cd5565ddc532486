"""The guard runs only with the versions of DuckDB and sqlglot that its rules were measured with."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from ockham.errors import UnverifiableError
from ockham.guard import Guard
from ockham.guard.versions import MEASURED, require_measured_versions

PYPROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"


@pytest.mark.skipif(not PYPROJECT.exists(), reason="an installed package has no pyproject.toml")
@pytest.mark.parametrize("package", sorted(MEASURED))
def test_bounds_of_the_project_are_the_measured_versions(package):
    """A wider bound would install a version that the guard refuses."""
    listed = tomllib.loads(PYPROJECT.read_text())["project"]["dependencies"]
    [bounds] = [re.sub(r"\s*(?:;.*)?$", "", each) for each in listed if re.match(rf"{package}\b", each)]
    assert bounds == "{}>={},<{}".format(package, *MEASURED[package])


def test_installed_versions_are_measured():
    """This environment can run the guard."""
    require_measured_versions()


@pytest.mark.parametrize(
    ("package", "version", "accepted"),
    [
        ("duckdb", "1.4.9", False),
        ("duckdb", "2.0.0", False),
        ("duckdb", "2.0.1", True),
        ("duckdb", "2.0.10", True),
        ("duckdb", "2.1.0.dev12", False),
        ("duckdb", "10.0", False),
        ("sqlglot", "26.0", False),
        ("sqlglot", "30.30.0", True),
        ("sqlglot", "31.0.0", False),
        ("sqlglot", "unknown", False),
    ],
)
def test_version_outside_of_the_measured_range_is_refused(package, version, accepted):
    """The message names the range and the command."""
    installed = {"duckdb": "2.0.1", "sqlglot": "30.30.0", package: version}
    if accepted:
        require_measured_versions(installed)
        return
    with pytest.raises(UnverifiableError, match=f"{package} {re.escape(version)}: .*pip install"):
        require_measured_versions(installed)


def test_guard_with_another_version_runs_no_query(tmp_path, monkeypatch):
    """It is refused before any SQL is read."""
    monkeypatch.setattr("ockham.guard.versions.metadata.version", lambda _: "3.0.0")
    with pytest.raises(UnverifiableError, match=r"duckdb 3\.0\.0"):
        Guard(tmp_path)
