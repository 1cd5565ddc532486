"""Fixtures of the dashboard tests: pages, and verification that runs only when a test calls it."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import pytest
from streamlit.components.v2 import manifest_scanner
from streamlit.testing.v1 import AppTest

from dashboard import verifier
from dashboard.verifier import RunVerifier
from ockham import resources
from tests.helpers.chromium import open_chromium


@pytest.fixture(autouse=True)
def _main_module(monkeypatch):
    """Restore the main module, which an AppTest replaces. New processes of later tests would run its page."""
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])


@pytest.fixture(autouse=True)
def _verification_on_request(monkeypatch):
    """Use a verifier without a thread, so that its result does not depend on timing."""
    monkeypatch.setattr(verifier, "_verifier", functools.cache(lambda runs: RunVerifier(Path(runs))))


@pytest.fixture
def verify_all():
    """Function that verifies all runs of the folder of the last page."""
    return lambda: verifier.run_verifier().verify_changed()


@pytest.fixture(scope="module", autouse=True)
def _cached_component_scan():
    """Scan the installed packages for components once. Each AppTest would take 0.4 s for it."""
    with pytest.MonkeyPatch.context() as patch:
        scan = functools.cache(manifest_scanner.scan_component_manifests)
        patch.setattr(manifest_scanner, "scan_component_manifests", scan)
        yield


@pytest.fixture(scope="module")
def chromium():
    with open_chromium() as browser:
        yield browser


@pytest.fixture
def open_page(monkeypatch, tmp_path):
    def open_app(runs, page, **query):
        monkeypatch.setenv("OCKHAM_RUNS", str(runs))
        monkeypatch.setenv("OCKHAM_ODR", str(tmp_path / "no-odr"))
        test = AppTest.from_file(str(resources.data_root() / "dashboard" / "app.py"), default_timeout=60)
        if page != "runs":
            test.switch_page(f"screens/{page}.py")
        for key, value in query.items():
            test.query_params[key] = value
        return test.run()

    return open_app
