"""Static files of Streamlit, compressed, and the scripts of the first page loaded in parallel.

Streamlit sends its scripts uncompressed, and asks for those of an element only when it draws the first one.
The middleware answers requests for both itself. It only reads files that were listed at the start.
"""

from __future__ import annotations

import gzip
import mimetypes
import re
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

import anyio.to_thread

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

COMPRESSED_SUFFIXES = (".js", ".css", ".svg", ".json")
COMPRESSION_LEVEL = 6
MIN_BYTES = 1_000
YEAR_SECONDS = 31_536_000
# Scripts of the elements that every page shows, by the start of their name.
EARLY_SCRIPTS = (
    "BidiComponent.",
    "serialization.",
    "recordbatch.",
    "Html.",
    "purify.es.",
    "Selectbox.",
    "useMenuTrigger.",
    "useSyncComboBoxEnterTargetFocus.",
)


class StaticFiles:
    """Compressed copies of Streamlit's static files, and its page with links to the early scripts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = {
            "/" + path.relative_to(folder).as_posix(): path
            for path in folder.rglob("*")
            if path.is_file() and path.suffix in COMPRESSED_SUFFIXES and path.stat().st_size >= MIN_BYTES
        }
        self._copies: dict[str, bytes] = {}
        self.index = _add_links(folder, list(self.files))

    def compress(self, name: str) -> bytes:
        """Return a compressed file. It is compressed once."""
        if name not in self._copies:
            self._copies[name] = gzip.compress(self.files[name].read_bytes(), COMPRESSION_LEVEL)
        return self._copies[name]

    def compress_first_page(self) -> None:
        """Compress the files that the first visit needs."""
        for name in re.findall(r'(?:src|href)="\.(/static/[^"]+)"', self.index.decode()):
            if name in self.files:
                self.compress(name)


class StaticFilesMiddleware:
    """Answer requests for static files and pages, if the browser accepts gzip.

    Args:
        app: The next application.
        files: Static files.
        pages: Paths of the pages.

    """

    def __init__(self, app: Application, files: StaticFiles, pages: frozenset[str]) -> None:
        self.app = app
        self.files = files
        self.pages = pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        name = scope.get("path", "")
        if scope["type"] == "http" and scope["method"] == "GET" and _accepts_gzip(scope):
            if name in self.files.files:
                body = await anyio.to_thread.run_sync(self.files.compress, name)
                kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
                await _respond(send, body, kind, f"public, immutable, max-age={YEAR_SECONDS}")
                return
            if name in self.pages:
                await _respond(send, gzip.compress(self.files.index), "text/html; charset=utf-8", "no-cache")
                return
        await self.app(scope, receive, send)


def _add_links(folder: Path, names: list[str]) -> bytes:
    """Return the page of Streamlit, with links that load the early scripts in parallel."""
    index = (folder / "index.html").read_text()
    chosen = [
        name
        for name in names
        if name.startswith("/static/js/") and name.rsplit("/", 1)[1].startswith(EARLY_SCRIPTS)
    ]
    links = "".join(f'<link rel="modulepreload" crossorigin href=".{name}">\n' for name in sorted(chosen))
    return index.replace("</head>", f"{links}</head>", 1).encode()


def _accepts_gzip(scope: Scope) -> bool:
    return any(name == b"accept-encoding" and b"gzip" in value for name, value in scope.get("headers", ()))


async def _respond(send: Send, body: bytes, kind: str, cache: str) -> None:
    headers = [
        (b"content-type", kind.encode()),
        (b"content-encoding", b"gzip"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", cache.encode()),
        (b"vary", b"Accept-Encoding"),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
