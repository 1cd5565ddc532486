"""Server of the dashboard: the pages of `app.py`, with compressed files and a prepared first visit."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from streamlit import file_util
from streamlit.starlette import App

from dashboard.address import RUNS_PAGE
from dashboard.components.scripts import FIRST_VIEW, component_files, module_path
from dashboard.first_element import first_element
from dashboard.prewarm import start_prewarm
from dashboard.static_files import StaticFiles, StaticFilesMiddleware
from dashboard.verifier import start_verifier

SCREENS = Path(__file__).with_name("screens")
# The start page has the path /.
PAGE_NAMES = {path.stem for path in SCREENS.glob("*.py")} - {"__init__", RUNS_PAGE}
PAGE_PATHS = frozenset({"/", *(f"/{name}" for name in PAGE_NAMES)})
FILES = StaticFiles(
    Path(file_util.get_static_dir()), component_files(), (module_path(FIRST_VIEW), module_path("timeseries"))
)


@contextlib.asynccontextmanager
async def prepare(_app: Any) -> AsyncIterator[dict[str, Any]]:
    """Start the work of the first visit in a thread. The server accepts visits meanwhile."""
    start_prewarm(FILES.compress_first_page, start_verifier)
    yield {}


async def open_start_page(request: Request) -> Response:
    """Lead from the name of the start page to its path. Streamlit would show that the page was not found."""
    return RedirectResponse(f"./?{request.url.query}" if request.url.query else "./")


app = App(
    Path(__file__).with_name("app.py"),
    lifespan=prepare,
    routes=[Route(f"/{RUNS_PAGE}", open_start_page)],
    middleware=[
        Middleware(StaticFilesMiddleware, files=FILES, pages=PAGE_PATHS, first_element=first_element)
    ],
)
