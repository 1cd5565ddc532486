"""Versions of DuckDB and sqlglot with which the rules of the guard were measured.

The allow-list names functions of one DuckDB, and the parser must read a statement as DuckDB does. Another
version can add a function or a syntax that the rules do not know.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import metadata

from ockham.errors import UnverifiableError

# Package -> first version, and the first one that is too new. pyproject.toml has the same bounds.
MEASURED = {"duckdb": ("2.0.1", "2.1"), "sqlglot": ("30.30", "31")}


def require_measured_versions(installed: Mapping[str, str] | None = None) -> None:
    """Refuse versions with which the rules were not measured.

    Args:
        installed: Version by package. None reads those of this environment.

    Raises:
        UnverifiableError: If a version is outside of its range. The message names the command to install one.

    """
    for package, (first, end) in MEASURED.items():
        version = installed[package] if installed else metadata.version(package)
        if not _numbers(first) <= _numbers(version) < _numbers(end):
            raise UnverifiableError(
                f"{package} {version}: the rules for user SQL were measured with {package}>={first},<{end}; "
                f"install such a version with `pip install '{package}>={first},<{end}'`"
            )


def _numbers(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version. A development version has the number before its suffix."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()
