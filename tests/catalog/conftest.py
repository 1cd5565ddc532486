"""Runs of every kind, which the tests of views and saved questions share."""

from __future__ import annotations

import pytest

from ockham.catalog import Catalog
from ockham.record.run_folder import RunFolder, list_runs
from tests.helpers.varied_runs import make_all_runs, read_plain_log


@pytest.fixture(scope="session")
def varied_runs(tmp_path_factory):
    """Return a folder of runs with accumulation, ranks, a resume, plugins in shadow, NaN and infinity."""
    return make_all_runs(tmp_path_factory.mktemp("varied"))


@pytest.fixture(scope="session")
def varied_catalog(varied_runs):
    return Catalog(varied_runs)


@pytest.fixture(scope="session")
def plain_logs(varied_runs):
    """Return run ID -> lines of the run."""
    return {run_id: read_plain_log(RunFolder(varied_runs, run_id)) for run_id in list_runs(varied_runs)}
