"""Concurrent readers for the soak test: two query loops, one `tail -F`, and one browser on the dashboard."""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import psutil

OCKHAM = [sys.executable, "-c", "import sys; from ockham.cli import main; sys.argv[0] = 'ockham'; main()"]
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
PAUSE_SECONDS = 5.0
# Every sequence must exist exactly once, also while segments are sealed, compacted or resumed.
DUPLICATE_OR_MISSING = """
select coalesce(sum(abs(n - distinct_n) + abs(last + 1 - n)), 0) as wrong, sum(n) as events from (
  select count(*) as n, count(distinct sequence) as distinct_n, max(sequence) as last
  from events group by attempt, rank)
"""
PAGES = ("", "run", "gate", "memory", "integrity")


class ObserverSample(NamedTuple):
    """Values since the last call: memory of the dashboard, and duration of the slowest page."""

    dashboard_mb: float
    page_seconds: float


class Observers:
    """Readers of a run, as `ockham` processes. Use it as a context manager.

    Args:
        runs: Folder of all runs.
        run_id: ID of the run to read.
        browser: Open the dashboard in Chromium.

    """

    def __init__(self, runs: Path, run_id: str, *, browser: bool) -> None:
        self._runs = runs
        self._run_id = run_id
        self._browser = browser
        self._over = threading.Event()
        self._question_mb = self._tail_mb = self._slowest = 0.0
        self._pages: list[float] = []
        self._counts = dict.fromkeys(("questions", "failed", "wrong rows", "followed", "pages"), 0)
        self._failures: list[str] = []

    def __enter__(self) -> Self:
        """Start all readers."""
        work = [self._question, self._count, self._follow] + ([self._look] if self._browser else [])
        self._threads = [threading.Thread(target=each, daemon=True) for each in work]
        self._server = self._serve() if self._browser else None
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop all readers."""
        self._over.set()
        for thread in self._threads:
            thread.join(120)
        if self._server is not None:
            self._server.terminate()
            self._server.wait(30)

    def since_last(self) -> ObserverSample:
        """Return the current memory of the dashboard, and the slowest page since the last call."""
        slowest, self._slowest = self._slowest, 0.0
        return ObserverSample(resident_mb(self._server.pid) if self._server else 0.0, slowest)

    def summary(self) -> str:
        """Return the counts, memory and page times of all readers as text."""
        counts = ", ".join(f"{name} {count:,}" for name, count in self._counts.items())
        pages = sorted(self._pages)
        middle = f", page median {pages[len(pages) // 2]:.1f} s, slowest {pages[-1]:.1f} s" if pages else ""
        return (
            f"observers: {counts}; at most {self._question_mb:.0f} MB for a question, "
            f"{self._tail_mb:.0f} MB for tail{middle}"
            + "".join(f"\n  {failure}" for failure in self._failures[:5])
        )

    def _ask(self, *words: str) -> str | None:
        with tempfile.TemporaryFile("w+") as stderr:
            process = subprocess.Popen(
                [*OCKHAM, "--runs", str(self._runs), *words], stdout=subprocess.PIPE, stderr=stderr, text=True
            )
            assert process.stdout is not None
            out = process.stdout.read()
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            self._question_mb = max(self._question_mb, used.ru_maxrss / 1e3)
            self._counts["questions"] += 1
            if process.returncode == 0:
                return out
            stderr.seek(0)
            self._failed(f"{words[0]}: {stderr.read().strip()[-300:]}")
            return None

    def _failed(self, message: str) -> None:
        self._counts["failed"] += 1
        self._failures.append(message)

    def _has_log(self) -> bool:
        return next(self._runs.glob(f"{self._run_id}/log/*/*.jsonl"), None) is not None

    def _question(self) -> None:
        while not self._over.wait(PAUSE_SECONDS):
            if self._has_log():
                self._ask("ask", "update_rate", "--run", self._run_id)

    def _count(self) -> None:
        while not self._over.wait(PAUSE_SECONDS):
            if self._has_log() and (out := self._ask("query", DUPLICATE_OR_MISSING, "--run", self._run_id)):
                self._counts["wrong rows"] += int(float(out.splitlines()[1].split("\t")[0]))

    def _follow(self) -> None:
        """Run `tail -F` for each attempt, because it ends with the attempt."""
        while not self._over.wait(1.0):
            if not self._has_log():
                continue
            words = [*OCKHAM, "--runs", str(self._runs), "tail", self._run_id, "-F", "-n", "0"]
            process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            threading.Thread(target=self._stop_when_over, args=(process,), daemon=True).start()
            assert process.stdout is not None
            for _ in process.stdout:
                self._counts["followed"] += 1
                if self._counts["followed"] % 1000 == 0:
                    self._tail_mb = max(self._tail_mb, resident_mb(process.pid))
            process.wait()

    def _stop_when_over(self, process: subprocess.Popen[str]) -> None:
        while process.poll() is None:
            if self._over.wait(1.0):
                process.terminate()
                return

    def _look(self) -> None:
        from playwright.sync_api import sync_playwright

        with sync_playwright() as play:
            chromium = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            page = chromium.new_page()
            page.set_default_timeout(120_000)
            for name in itertools.cycle(PAGES):
                if self._over.wait(PAUSE_SECONDS):
                    return
                if self._has_log():
                    self._open(page, name)

    def _open(self, page: Any, name: str) -> None:
        began = time.monotonic()
        try:
            page.goto(f"http://127.0.0.1:{self._port}/{name}")
            page.wait_for_selector("h1")
            page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]')
        except Exception as error:
            if not self._over.is_set():
                self._failed(f"page {name!r}: {str(error)[:200]}")
            return
        self._pages.append(time.monotonic() - began)
        self._slowest = max(self._slowest, self._pages[-1])
        self._counts["pages"] += 1
        if page.locator('[data-testid="stException"]').count():
            self._failed(
                f"page {name!r}: {page.locator('[data-testid=stException]').first.inner_text()[:300]}"
            )

    def _serve(self) -> subprocess.Popen[bytes]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        return subprocess.Popen(
            [*OCKHAM, "--runs", str(self._runs), "dashboard", "--port", str(self._port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


def resident_mb(pid: int) -> float:
    """Return the resident memory of a process and its children in 1e6 bytes, or 0 if it has ended."""
    try:
        process = psutil.Process(pid)
        return sum(each.memory_info().rss for each in (process, *process.children(recursive=True))) / 1e6
    except psutil.Error:
        return 0.0
