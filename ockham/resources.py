"""Paths of shipped files: the top of a checkout, or `_shipped` of an installed wheel."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent

# SQL views in order of creation: each view is listed after the views that it reads.
VIEWS = (
    "events",
    "decisions",
    "contexts",
    "decision_contexts",
    "acting_decisions",
    "current_batches",
    "current_steps",
    "measured_gauges",
    "runs",
    "policies",
    "reason_codes",
    "gate_decisions",
    "compressor_decisions",
    "limiter_decisions",
    "memory_decisions",
    "hyperparameter_changes",
    "evaluations",
    "people",
    "checkpoints",
    "log_gaps",
    "rollbacks",
    "run_savings",
    "skipped_data",
    "run_summary",
)


def data_root() -> Path:
    """Return the folder that contains `schemas/`, `dashboard/` and `train.py`."""
    installed = PACKAGE / "_shipped"
    return installed if installed.is_dir() else PACKAGE.parent


def schemas_dir() -> Path:
    """Return the folder of the JSON Schemas."""
    return data_root() / "schemas"


def presets_dir() -> Path:
    """Return the folder of the shipped policies, `*.yaml`."""
    return PACKAGE / "presets"


def sql_dir() -> Path:
    """Return the folder of the views and saved questions, `*.sql`."""
    return PACKAGE / "sql"
