"""Fixtures of the browser tests of the time-series component: its server, and a tab that shows the chart."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.dashboard.components.chart_tabs import open_chart
from tests.helpers.dashboard_server import find_free_port

PAGE = Path(__file__).with_name("timeseries_server.py")


@pytest.fixture(scope="module")
def address():
    port = find_free_port()
    command = [sys.executable, "-m", "streamlit", "run", str(PAGE), "--server.headless=true"]
    options = [f"--server.port={port}", "--browser.gatherUsageStats=false", "--server.fileWatcherType=none"]
    root = Path(__file__).resolve().parents[3]
    server = subprocess.Popen(
        [*command, *options],
        env={**os.environ, "PYTHONPATH": str(root)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=1).close()
            break
        except OSError:
            time.sleep(0.1)
    yield f"http://127.0.0.1:{port}"
    os.killpg(server.pid, signal.SIGTERM)
    server.wait(20)


@pytest.fixture(scope="module")
def desktop(chromium):
    return chromium.new_context(viewport={"width": 1000, "height": 1000})


@pytest.fixture
def page(desktop, address):
    tab = open_chart(desktop, address)
    yield tab
    assert tab.failures == []
    tab.close()
