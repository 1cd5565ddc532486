"""First view of a page as part of its HTML, so that it is shown before Streamlit has started.

Streamlit needs about a second until it shows its first element. The chart of a run and the newest rows of the
table of runs are drawn meanwhile, from the same queries. The state of the logs is above them, so that no
figure of a broken log is shown without warning.
"""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any

import anyio
import anyio.to_thread
from streamlit import config

from dashboard.chart_kinds import CHART_KINDS
from dashboard.data_source import PageSnapshot, store
from dashboard.first_chart import read_first_chart
from dashboard.first_table import read_first_table
from ockham.errors import OckhamError

Reader = Callable[[PageSnapshot, str, Mapping[str, str]], dict[str, Any] | None]
# Name of the page -> function that reads its first view. The start page has no name.
READERS: dict[str, Reader] = {"": read_first_table, **dict.fromkeys(CHART_KINDS, read_first_chart)}
LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
# Options of Streamlit with the address of the server.
HOST_OPTIONS = ("server.address", "browser.serverAddress")
# A page that takes longer is sent without its first view.
LIMIT_SECONDS = 0.25
ELEMENT = '<script type="application/json" id="first-view-data">%s</script>\n'


async def first_element(page: str, query: str, host: str) -> bytes:
    """Return the HTML element with the first view of a page, or nothing if the page has none yet.

    Another site must not read it under a name that leads to this machine, so the host must be known.

    Args:
        page: Name of the page.
        query: Query of the address.
        host: Host that the browser asked for.

    """
    if page not in READERS or not _is_known_host(host):
        return b""
    parameters = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
    view = None
    with anyio.move_on_after(LIMIT_SECONDS):
        view = await anyio.to_thread.run_sync(read_view, page, parameters, abandon_on_cancel=True)
    return b"" if view is None else make_element(view)


def read_view(page: str, parameters: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the first view of a page, or None if it has none. An error is shown by the page, not here."""
    snapshot = store().snapshot()
    try:
        return READERS[page](snapshot, page, parameters)
    except OckhamError:
        return None
    finally:
        snapshot.catalog.close()


def make_element(view: Mapping[str, Any]) -> bytes:
    """Return the HTML element with *view*. No text in it can end the element."""
    return (ELEMENT % json.dumps(view).replace("<", "\\u003c")).encode()


def _is_known_host(host: str) -> bool:
    try:
        name = urllib.parse.urlsplit(f"//{host}").hostname
    except ValueError:
        return False
    known = (*LOCAL_HOSTS, *(config.get_option(option) for option in HOST_OPTIONS))
    return name is not None and name in known
