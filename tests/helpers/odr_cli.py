"""Calls of `ockham odr` in the test process."""

from __future__ import annotations

from click.testing import Result
from typer.testing import CliRunner

from ockham.cli.odr import app


def run_odr(*arguments: str, status: int = 0) -> Result:
    """Run `ockham odr` and return its result. The exit status must equal *status*."""
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == status, result.output
    return result
