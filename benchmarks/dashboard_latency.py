"""Duration and data of each dashboard page in a browser.

    python -m benchmarks._lib.synthetic_runs ../runs-1m 1000000
    python -m benchmarks.dashboard_latency ../runs-1m

Measured are the times until the title, the first chart or table, and the complete page. A cold visit is the
first one after the server start, a warm visit the second one. The browser cache is empty for each visit.
Static files are sent over HTTP and are the same for each page; data are sent over the WebSocket. Needs
Chromium and Playwright.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import time
from typing import Any

from tests.helpers.dashboard_server import start_dashboard

PAGES = ("", "run", "decision", "gate", "control", "memory", "odr", "sql", "integrity")
CONTENT = (
    "[data-testid=stVegaLiteChart] canvas, [data-testid=stVegaLiteChart] svg, "
    "[data-testid=stMetric] canvas, [data-testid=stMetric] svg, "
    "[data-testid=stDataFrame], [data-testid=stCode]"
)
IDLE = "!document.querySelector('[data-testid=stStatusWidget]')"


def visit(browser: Any, address: str) -> dict[str, float]:
    """Return the seconds and bytes of one visit with an empty cache."""
    context = browser.new_context(viewport={"width": 1280, "height": 3000})
    page = context.new_page()
    sent = {"http": 0, "websocket": 0}

    def on_socket(socket_: Any) -> None:
        socket_.on("framereceived", lambda data: sent.__setitem__("websocket", sent["websocket"] + len(data)))

    page.on("websocket", on_socket)
    page.on(
        "response",
        lambda r: sent.__setitem__("http", sent["http"] + int(r.headers.get("content-length") or 0)),
    )
    began = time.perf_counter()
    page.goto(address)
    page.wait_for_selector("h1", timeout=60_000)
    title = time.perf_counter() - began
    page.wait_for_selector(CONTENT, timeout=60_000)
    first = time.perf_counter() - began
    page.wait_for_timeout(200)
    page.wait_for_function(IDLE, timeout=60_000)
    complete = time.perf_counter() - began
    context.close()
    return {
        "title_s": title,
        "first_s": first,
        "all_s": complete,
        "http_mb": sent["http"] / 1e6,
        "data_kb": sent["websocket"] / 1e3,
    }


def main(runs: str) -> None:
    """Print one JSON line for each page and visit."""
    from playwright.sync_api import sync_playwright

    server, port = start_dashboard(runs)
    try:
        with sync_playwright() as play:
            browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            for page in PAGES:
                for visited in ("cold", "warm"):
                    row = {
                        k: round(v, 2) for k, v in visit(browser, f"http://127.0.0.1:{port}/{page}").items()
                    }
                    load = round(os.getloadavg()[0], 1)
                    line = {"page": page or "overview", "visit": visited, **row, "load": load}
                    print(json.dumps(line), flush=True)
            browser.close()
    finally:
        os.killpg(server.pid, signal.SIGTERM)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", help="Folder of runs.")
    main(parser.parse_args().runs)
