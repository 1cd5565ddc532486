"""Server of the page with one chart, which sends the scripts of the components."""

from __future__ import annotations

from pathlib import Path

from starlette.middleware import Middleware
from streamlit import file_util
from streamlit.starlette import App

from dashboard.components.scripts import component_files
from dashboard.static_files import StaticFiles, StaticFilesMiddleware

FILES = StaticFiles(Path(file_util.get_static_dir()), component_files())
app = App(
    Path(__file__).with_name("timeseries_page.py"),
    middleware=[Middleware(StaticFilesMiddleware, files=FILES, pages=frozenset({"/"}))],
)
