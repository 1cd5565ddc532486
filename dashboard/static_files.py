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
    "Html.",
    "PageLink.",
    "Selectbox.",
    "TextInput.",
    "Checkbox.",
    "purify.es.",
)
SCRIPTS = "static/js"


class StaticFiles:
    """Compressed copies of Streamlit's static files, and its page with links to the early scripts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = {
            "/" + path.relative_to(folder).as_posix(): path
            for path in folder.rglob("*")
            if path.is_file() and path.suffix in COMPRESSED_SUFFIXES and path.stat().st_size >= MIN_BYTES
        }
        self.copies: dict[str, bytes] = {}
        self.index = _add_links(folder)
        self.compressed_index = gzip.compress(self.index)

    def compress(self, name: str) -> bytes:
        """Return a compressed file. It is compressed once."""
        if name not in self.copies:
            self.copies[name] = gzip.compress(self.files[name].read_bytes(), COMPRESSION_LEVEL)
        return self.copies[name]

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
                body = self.files.copies.get(name)
                if body is None:
                    body = await anyio.to_thread.run_sync(self.files.compress, name)
                kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
                await _respond(send, body, kind, f"public, immutable, max-age={YEAR_SECONDS}")
                return
            if name in self.pages:
                await _respond(send, self.files.compressed_index, "text/html; charset=utf-8", "no-cache")
                return
        await self.app(scope, receive, send)


def _add_links(folder: Path) -> bytes:
    """Return the page of Streamlit, with links that load the early scripts and their imports in parallel."""
    index = (folder / "index.html").read_text()
    waiting = [path.name for path in (folder / SCRIPTS).glob("*.js") if path.name.startswith(EARLY_SCRIPTS)]
    chosen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in chosen and f"/{SCRIPTS}/{name}" not in index:
            chosen.add(name)
            waiting += find_imports(folder / SCRIPTS / name)
    links = "".join(
        f'<link rel="modulepreload" crossorigin href="./{SCRIPTS}/{name}">\n' for name in sorted(chosen)
    )
    return index.replace("</head>", f"{links}</head>", 1).encode()


def find_imports(script: Path) -> list[str]:
    """Return the names of the scripts in the same folder that a script imports before it runs."""
    names = re.findall(r'(?:from|import)\s*"\./([^"/]+\.js)"', script.read_text())
    return [name for name in dict.fromkeys(names) if (script.parent / name).is_file()]


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
