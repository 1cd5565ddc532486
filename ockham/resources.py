"""Where schemas, dashboard and train.py lie: at the top of a checkout, in `_shipped` of an installed wheel."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def data_root() -> Path:
    """The folder that holds `schemas/`, `dashboard/` and `train.py`."""
    installed = PACKAGE / "_shipped"
    return installed if installed.is_dir() else PACKAGE.parent


def schemas_dir() -> Path:
    """The folder of the JSON Schemas."""
    return data_root() / "schemas"


def presets_dir() -> Path:
    """The folder of the shipped policies, `*.yaml`."""
    return PACKAGE / "presets"


def sql_dir() -> Path:
    """The folder of the views and saved questions, `*.sql`."""
    return PACKAGE / "sql"
