"""Time to the first curve of dashboard pages and of other tools, in turns in one browser.

    python -m benchmarks._lib.synthetic_runs ../runs-1m 1000000
    python -m benchmarks.dashboard_latency ../runs-1m --page run --rounds 5
    python -m benchmarks.dashboard_latency ../runs-1m --other tensorboard=http://127.0.0.1:6006/#timeseries

A cold visit has a new browser context, so its cache is empty. A warm visit is the second one in the same
context. Measured are the seconds until the first curve is drawn and until it can be used, the bytes of HTTP
bodies as sent, those of WebSocket messages, the requests, and the seconds of the server start. The page Runs
(`--page runs`) has its table in place of a curve. Each line has the load of the machine.
Needs Chromium and Playwright.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import time
from pathlib import Path
from typing import Any, NamedTuple

from tests.helpers.dashboard_server import start_dashboard

# Tool -> selector of its first curve. Playwright also searches open shadow roots.
CURVES = {
    "ockham": "[data-drawn] .panel canvas, [data-testid=stVegaLiteChart] :is(canvas, svg)",
    # Without data the axis ends at 1.
    "tensorboard": "line-chart :text-matches('^ *[0-9]+k')",
    "trackio": "canvas.marks",
}
# Selector of what Streamlit has drawn. Other tools have one drawing only.
LIVE = {"runs": "[data-testid=stDataFrame] canvas"}
FIRST_TABLE = "#first-view .content table"
LIVE_CURVE = (
    "[data-testid^=stBidi] [data-drawn] .panel canvas, [data-testid=stVegaLiteChart] :is(canvas, svg)"
)
LIMIT_MILLISECONDS = 60_000


class Target(NamedTuple):
    """Address of a page, and selectors of its first drawing and of the one that can be used."""

    address: str
    first: str
    live: str


class Traffic:
    """Bytes and requests of one tab."""

    def __init__(self, context: Any, tab: Any) -> None:
        self.http_bytes = 0
        self.socket_bytes = 0
        self.requests = 0
        session = context.new_cdp_session(tab)
        session.send("Network.enable")
        session.on("Network.loadingFinished", self._on_finished)
        session.on("Network.requestWillBeSent", self._on_request)
        session.on("Network.webSocketFrameReceived", self._on_frame)

    def _on_request(self, event: dict[str, Any]) -> None:
        self.requests += event["request"]["url"].startswith("http")

    def _on_finished(self, event: dict[str, Any]) -> None:
        self.http_bytes += int(event["encodedDataLength"])

    def _on_frame(self, event: dict[str, Any]) -> None:
        text = event["response"]["payloadData"]
        # Binary messages are shown in base64.
        self.socket_bytes += len(text) * 3 // 4 if event["response"]["opcode"] == 2 else len(text)


def visit(context: Any, target: Target) -> dict[str, float]:
    """Return seconds, bytes and requests until the first curve, with the load of the machine."""
    tab = context.new_page()
    traffic = Traffic(context, tab)
    began = time.perf_counter()
    tab.goto(target.address, wait_until="commit")
    tab.wait_for_selector(target.first, timeout=LIMIT_MILLISECONDS)
    # The frame with the curve is on the screen.
    tab.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    seconds = time.perf_counter() - began
    first_bytes = traffic.http_bytes + traffic.socket_bytes
    tab.wait_for_selector(target.live, timeout=LIMIT_MILLISECONDS)
    live_seconds = time.perf_counter() - began
    tab.wait_for_timeout(3_000)
    row = {
        "first_curve_s": round(seconds, 2),
        "live_s": round(max(seconds, live_seconds), 2),
        "sent_kb": round(first_bytes / 1e3),
        "all_kb": round((traffic.http_bytes + traffic.socket_bytes) / 1e3),
        "socket_kb": round(traffic.socket_bytes / 1e3),
        "requests": traffic.requests,
        "load": round(os.getloadavg()[0], 1),
    }
    tab.close()
    return row


def measure(browser: Any, targets: dict[str, Target], rounds: int) -> list[dict[str, Any]]:
    """Visit all targets in turns, cold and warm, print one line for each visit, and return them."""
    rows = []
    for number in range(rounds):
        for name, target in targets.items():
            context = browser.new_context(viewport={"width": 1280, "height": 900})
            for kind in ("cold", "warm"):
                row = {"tool": name, "round": number, "visit": kind, **visit(context, target)}
                print(json.dumps(row), flush=True)
                rows.append(row)
            context.close()
    return rows


def print_table(rows: list[dict[str, Any]]) -> None:
    """Print the median, the lowest and the highest time of each tool as a Markdown table."""
    print("\n| tool | visit | first curve, median (range) | usable | sent until first | all | requests |")
    print("|---|---|---|---|---|---|---|")
    for name, kind in dict.fromkeys((row["tool"], row["visit"]) for row in rows):
        group = [row for row in rows if (row["tool"], row["visit"]) == (name, kind)]
        seconds = [row["first_curve_s"] for row in group]
        middle = {
            key: statistics.median(row[key] for row in group) for key in ("sent_kb", "all_kb", "requests")
        }
        print(
            f"| {name} | {kind} | {statistics.median(seconds):.2f} s ({min(seconds)}-{max(seconds)}) "
            f"| {statistics.median(row['live_s'] for row in group):.2f} s "
            f"| {middle['sent_kb']:,.0f} kB | {middle['all_kb']:,.0f} kB | {middle['requests']:.0f} |"
        )


def parse_other(text: str) -> tuple[str, Target]:
    """Return name and target of `NAME=ADDRESS`. A name can have a suffix: `ockham-before`."""
    name, _, address = text.partition("=")
    selector = CURVES.get(name.split("-")[0])
    if selector is None or not address.startswith("http"):
        raise SystemExit(f"--other {text}: not NAME=ADDRESS; names: {', '.join(CURVES)}")
    return name, Target(address, selector, LIVE_CURVE if name.startswith("ockham") else selector)


def page_target(port: int, page: str) -> Target:
    """Return the target of a page of this version."""
    path = "" if page == "runs" else page
    live = LIVE.get(page, LIVE_CURVE)
    first = f"{FIRST_TABLE}, {live}" if page in LIVE else CURVES["ockham"]
    return Target(f"http://127.0.0.1:{port}/{path}", first, live)


def main(options: argparse.Namespace) -> None:
    """Start the dashboard, and measure all targets."""
    from playwright.sync_api import sync_playwright

    began = time.perf_counter()
    server, port = start_dashboard(Path(options.runs).resolve())
    print(json.dumps({"server_start_s": round(time.perf_counter() - began, 1)}), flush=True)
    targets = {f"ockham {page}": page_target(port, page) for page in options.page}
    targets |= dict(parse_other(text) for text in options.other)
    try:
        with sync_playwright() as play:
            browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            print_table(measure(browser, targets, options.rounds))
            browser.close()
    finally:
        os.killpg(server.pid, signal.SIGTERM)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", help="Folder of runs.")
    parser.add_argument("--page", action="append", help="Page of the dashboard. Default: run.")
    parser.add_argument("--other", action="append", default=[], help="NAME=ADDRESS of another tool.")
    parser.add_argument("--rounds", type=int, default=5, help="Number of visits, cold and warm.")
    arguments = parser.parse_args()
    arguments.page = arguments.page or ["run"]
    main(arguments)
