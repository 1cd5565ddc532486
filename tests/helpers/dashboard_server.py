"""Start the dashboard as a separate process, for browser tests and benchmarks."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

OCKHAM_CODE = "import sys; from ockham.cli import main; sys.argv[0] = 'ockham'; main()"
START_SECONDS = 120


def find_free_port() -> int:
    """Return a port that no other process listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def start_dashboard(runs: str | Path, folder: Path | None = None) -> tuple[subprocess.Popen[bytes], int]:
    """Start the dashboard on a free port, wait until it responds, and return its process and port.

    Args:
        runs: Folder of runs.
        folder: Working folder of the process. None uses the current folder.

    Raises:
        TimeoutError: If it does not respond.

    """
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        port = find_free_port()
        server = subprocess.Popen(
            [sys.executable, "-P", "-c", OCKHAM_CODE, "--runs", str(runs), "dashboard", "--port", str(port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            start_new_session=True,
        )
        # The server ends if another program has taken the port. Then another port is tried.
        while server.poll() is None and time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=10).close()
            except OSError:
                time.sleep(0.1)
            else:
                return server, port
    raise TimeoutError(f"the dashboard did not respond within {START_SECONDS} s")


@contextlib.contextmanager
def serve_dashboard(runs: str | Path, folder: Path | None = None) -> Iterator[str]:
    """Context manager with the address of a dashboard that ends with it. See `start_dashboard`."""
    server, port = start_dashboard(runs, folder)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(20)
