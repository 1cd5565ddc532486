"""Static files of Streamlit and scripts of components, compressed, and loaded in parallel by the first page.

Streamlit sends its scripts uncompressed, and asks for those of an element only when it draws the first one.
The middleware answers requests for both itself. It only reads files that were listed at the start.
"""

from __future__ import annotations

import gzip
import mimetypes
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any

import anyio.to_thread

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
Element = Callable[[str, str, str], Awaitable[bytes]]

COMPRESSED_SUFFIXES = (".js", ".css", ".svg", ".json")
COMPRESSION_LEVEL = 6
MIN_BYTES = 1_000
YEAR_SECONDS = 31_536_000
# The name of a file contains a digest of its content.
CACHED = f"public, immutable, max-age={YEAR_SECONDS}"
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


async def no_element(_page: str, _query: str, _host: str) -> bytes:
    """Return nothing: the page is sent as it is."""
    return b""


class StaticFiles:
    """Compressed copies of Streamlit's static files, and its page with links to the early scripts.

    Args:
        folder: Static files of Streamlit.
        modules: Path -> content of scripts that are not in the folder. The page loads them early.
        first: Paths of the modules that the page loads first. It runs the first one.

    """

    def __init__(self, folder: Path, modules: Mapping[str, bytes], first: Sequence[str] = ()) -> None:
        self.folder = folder
        self.modules = dict(modules)
        self.files = {
            "/" + path.relative_to(folder).as_posix(): path
            for path in folder.rglob("*")
            if path.is_file() and path.suffix in COMPRESSED_SUFFIXES and path.stat().st_size >= MIN_BYTES
        }
        self.copies: dict[str, bytes] = {}
        self.index = _add_links(folder, self.modules, first)
        self.compressed_index = gzip.compress(self.index)

    def compress(self, name: str) -> bytes:
        """Return a compressed file. It is compressed once."""
        if name not in self.copies:
            content = self.modules.get(name) or self.files[name].read_bytes()
            self.copies[name] = gzip.compress(content, COMPRESSION_LEVEL)
        return self.copies[name]

    def compress_first_page(self) -> None:
        """Compress the files that the first visit needs."""
        for name in re.findall(r'(?:src|href)="\.(/static/[^"]+)"', self.index.decode()):
            if name in self.files or name in self.modules:
                self.compress(name)


class StaticFilesMiddleware:
    """Answer requests for static files and pages, if the browser accepts gzip.

    Args:
        app: The next application.
        files: Static files.
        pages: Paths of the pages.
        first_element: Returns the HTML element for name, query and host of a page, or nothing.

    """

    def __init__(
        self, app: Application, files: StaticFiles, pages: frozenset[str], first_element: Element = no_element
    ) -> None:
        self.app = app
        self.files = files
        self.pages = pages
        self.first_element = first_element

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        name, files = scope.get("path", ""), self.files
        if scope["type"] != "http" or scope["method"] != "GET":
            await self.app(scope, receive, send)
        elif not _accepts_gzip(scope):
            if name in files.modules:
                await _respond(send, files.modules[name], "text/javascript", CACHED, encoding=None)
            else:
                await self.app(scope, receive, send)
        elif name in files.files or name in files.modules:
            body = files.copies.get(name)
            if body is None:
                body = await anyio.to_thread.run_sync(files.compress, name)
            kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
            await _respond(send, body, kind, CACHED)
        elif name in self.pages:
            body = await self._page(scope)
            await _respond(send, body, "text/html; charset=utf-8", "no-cache")
        else:
            await self.app(scope, receive, send)

    async def _page(self, scope: Scope) -> bytes:
        query = scope.get("query_string", b"").decode("latin-1")
        host = dict(scope.get("headers", ())).get(b"host", b"").decode("latin-1")
        element = await self.first_element(scope["path"].rpartition("/")[2], query, host)
        if not element:
            return self.files.compressed_index
        return gzip.compress(self.files.index.replace(b"<script", element + b"<script", 1))


def _add_links(folder: Path, modules: Iterable[str], first: Sequence[str]) -> bytes:
    """Return the page of Streamlit, with links that load the early scripts and their imports in parallel.

    The first modules are before those of Streamlit, because the browser asks for them in this order.
    """
    index = (folder / "index.html").read_text()
    waiting = [path.name for path in (folder / SCRIPTS).glob("*.js") if path.name.startswith(EARLY_SCRIPTS)]
    chosen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in chosen and f"/{SCRIPTS}/{name}" not in index:
            chosen.add(name)
            waiting += find_imports(folder / SCRIPTS / name)
    early = [f"/{SCRIPTS}/{name}" for name in sorted(chosen)]
    links = _preload_links([*early, *(path for path in modules if path not in first)])
    if first:
        script = f'<script type="module" async crossorigin src=".{first[0]}"></script>\n'
        index = index.replace("<script", f"{_preload_links(first[1:])}{script}<script", 1)
    return index.replace("</head>", f"{links}</head>", 1).encode()


def _preload_links(paths: Iterable[str]) -> str:
    return "".join(f'<link rel="modulepreload" crossorigin href=".{path}">\n' for path in paths)


def find_imports(script: Path) -> list[str]:
    """Return the names of the scripts in the same folder that a script imports before it runs."""
    names = re.findall(r'(?:from|import)\s*"\./([^"/]+\.js)"', script.read_text())
    return [name for name in dict.fromkeys(names) if (script.parent / name).is_file()]


def _accepts_gzip(scope: Scope) -> bool:
    return any(name == b"accept-encoding" and b"gzip" in value for name, value in scope.get("headers", ()))


async def _respond(send: Send, body: bytes, kind: str, cache: str, encoding: str | None = "gzip") -> None:
    headers = [
        (b"content-type", kind.encode()),
        *([(b"content-encoding", encoding.encode())] if encoding else []),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", cache.encode()),
        (b"vary", b"Accept-Encoding"),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
