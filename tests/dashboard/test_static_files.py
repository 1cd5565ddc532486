"""Static files of the server: compressed copies are exact, and only listed files are sent."""

from __future__ import annotations

import asyncio
import gzip
from pathlib import Path

import pytest
from streamlit import file_util

from dashboard.components.scripts import component_files
from dashboard.static_files import EARLY_SCRIPTS, StaticFiles, StaticFilesMiddleware, find_imports, no_element

FOLDER = Path(file_util.get_static_dir())


@pytest.fixture(scope="module")
def files():
    return StaticFiles(FOLDER, component_files())


def request(files, path, *, encoding=b"gzip, br", method="GET", query=b"", element=no_element):
    """Send a request, and return status, headers and body. The next application answers with 299."""
    messages = []

    async def next_app(_scope, _receive, send):
        await send({"type": "http.response.start", "status": 299, "headers": []})

    async def send(message):
        messages.append(message)

    middleware = StaticFilesMiddleware(next_app, files, frozenset({"/", "/run"}), element)
    headers = [(b"accept-encoding", encoding), (b"host", b"host:1")]
    scope = {"type": "http", "method": method, "path": path, "headers": headers, "query_string": query}
    asyncio.run(middleware(scope, None, send))
    body = b"".join(message.get("body", b"") for message in messages)
    return messages[0]["status"], dict(messages[0]["headers"]), body


def test_script_is_sent_compressed_with_the_same_content(files):
    """The browser gets the file of Streamlit in less than half of the bytes, and keeps it for a year."""
    name = max(
        (name for name in files.files if name.endswith(".js")), key=lambda n: files.files[n].stat().st_size
    )
    status, headers, body = request(files, name)
    original = files.files[name].read_bytes()
    assert (status, headers[b"content-encoding"]) == (200, b"gzip")
    assert int(headers[b"content-length"]) == len(body) < len(original) / 2
    assert b"immutable" in headers[b"cache-control"]
    assert b"javascript" in headers[b"content-type"]
    assert gzip.decompress(body) == original


def test_page_loads_early_scripts_in_parallel(files):
    """The page of Streamlit is unchanged except for links to scripts that exist."""
    status, headers, body = request(files, "/run")
    page = gzip.decompress(body).decode()
    assert (status, headers[b"cache-control"]) == (200, b"no-cache")
    original = (FOLDER / "index.html").read_text()
    added = [line for line in page.splitlines() if line not in original.splitlines()]
    linked = [line.split('"')[3].removeprefix(".") for line in added if "modulepreload" in line]
    assert set(component_files()) <= set(linked)
    linked = [name for name in linked if name not in component_files()]
    assert all((FOLDER / name.removeprefix("/")).is_file() for name in linked)
    assert len(linked) >= len(EARLY_SCRIPTS)
    # Nothing that a linked script needs is requested after it has arrived.
    for name in linked:
        for imported in find_imports(FOLDER / name.removeprefix("/")):
            assert f"/{imported}" in page
    rest = [line for line in page.splitlines() if line not in added]
    assert [line.strip() for line in original.splitlines() if "</head>" not in line] == [
        line.strip() for line in rest
    ]


def test_first_modules_and_element_are_before_the_scripts_of_streamlit(files):
    """The browser asks for files in the order of the page, and six at a time."""
    paths = list(component_files())
    first = StaticFiles(FOLDER, files.modules, paths[:2])
    page = first.index.decode()
    positions = [page.index(path) for path in (paths[1], paths[0])]
    assert positions == sorted(positions)
    assert positions[-1] < page.index("./static/js/index.")
    assert all(page.count(path) == 1 for path in paths)
    asked = []

    async def element(*arguments):
        asked.append(arguments)
        return b"<i>chart</i>"

    status, _, body = request(first, "/run", query=b"run=a", element=element)
    text = gzip.decompress(body).decode()
    assert (status, asked) == (200, [("run", "run=a", "host:1")])
    assert text.replace("<i>chart</i>", "") == page
    assert text.index(paths[1]) < text.index("<i>chart</i>") < text.index(paths[0])


@pytest.mark.parametrize("prefix", EARLY_SCRIPTS)
def test_early_script_exists_in_streamlit(files, prefix):
    """Another version of Streamlit can have other names. This test then names the one to change."""
    assert any(name.startswith(f"/static/js/{prefix}") for name in files.files)


@pytest.mark.parametrize(
    "path",
    ["/static/../index.html", "/static/js/none.js", "/_stcore/health", "/etc/passwd", "/static/js/..%2f"],
)
def test_other_paths_are_left_to_streamlit(files, path):
    """Only files that were listed at the start are read."""
    assert request(files, path)[0] == 299


@pytest.mark.parametrize("encoding", [b"gzip", b"identity"])
def test_script_of_a_component_is_sent_to_every_browser(files, encoding):
    """Streamlit does not have it, so there is no other sender."""
    for name, content in component_files().items():
        status, headers, body = request(files, name, encoding=encoding)
        assert (status, headers[b"cache-control"]) == (200, b"public, immutable, max-age=31536000")
        assert (gzip.decompress(body) if encoding == b"gzip" else body) == content


@pytest.mark.parametrize("options", [{"encoding": b"identity"}, {"method": "POST"}])
def test_requests_without_gzip_are_left_to_streamlit(files, options):
    """A browser that does not accept gzip gets the original."""
    assert request(files, "/run", **options)[0] == 299


def test_compress_first_page_compresses_linked_files_only(tmp_path):
    """Other files are compressed when they are requested."""
    (tmp_path / "static" / "js").mkdir(parents=True)
    for name in ("index.a.js", "other.b.js"):
        (tmp_path / "static" / "js" / name).write_text("x" * 2_000)
    page = '<html><head><script src="./static/js/index.a.js"></script></head></html>'
    (tmp_path / "index.html").write_text(page)
    files = StaticFiles(tmp_path, {})
    files.compress_first_page()
    assert list(files.copies) == ["/static/js/index.a.js"]
