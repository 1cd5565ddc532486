"""Local copy of runs on an object store, updated before each use.

The store is any that fsspec supports: s3://, gs://, abfs://. The copy contains the files that queries need:
run.json, policies, Parquet files, tree heads, and segments without Parquet files. Weights, tiles and blobs
are not copied. A segment that Parquet files cover becomes a sparse file of the same size, because no query
reads it. `verify` needs the original folder. Nothing is written to the store.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import platformdirs

from ockham.catalog.file_index import FileIndex
from ockham.errors import BadInputError, install_command
from ockham.record.durable_io import atomic_write
from ockham.record.run_folder import RUN_ID, RunFolder

SCHEMES = ("s3", "gs", "gcs", "az", "abfs", "abfss", "memory")
# A Path object reduces the two slashes of a URL to one.
_URL = re.compile(rf"({'|'.join(SCHEMES)}):/{{1,2}}([^/].*)")
_WANTED = re.compile(
    r"run\.json|policies/[0-9a-f]{64}\.json"
    r"|(?:contexts|decisions|events)/day=[0-9-]{10}/[0-9-]+\.parquet"
    r"|sidecars/(?:contexts|decisions|events)/day=[0-9-]{10}/[0-9-]+\.json"
    r"|log/[0-9]+-[0-9]+/(?:[0-9]{12}\.jsonl|checkpoints?)"
)
_ETAGS = "etags.json"
# Before the ETag of a segment whose copy is sparse.
_HOLE = "hole "
_DRIVER_MODULES = ("botocore", "aiobotocore", "s3fs", "gcsfs", "adlfs", "azure")


def sync_to_local(runs: str | Path, run: str = "", cache: Path | None = None, *, lines: bool = False) -> Path:
    """Return *runs* if it is a folder. For a URL, update the local copy and return its folder.

    Args:
        runs: Folder or URL.
        run: Prefix of run IDs. Only these runs are updated. Empty updates all.
        cache: Folder of the local copy. None uses the cache folder of the user.
        lines: Copy all segments, including segments that Parquet files cover.

    Raises:
        BadInputError: If the store cannot be read, or its driver is not installed.

    """
    match = _URL.fullmatch(str(runs))
    if match is None:
        return Path(runs)
    url = f"{match[1]}://{match[2].rstrip('/')}"
    name = hashlib.sha256(url.encode()).hexdigest()[:32]
    root = cache or Path(platformdirs.user_cache_dir("ockham")) / "remote" / name
    try:
        import fsspec

        store, path = fsspec.core.url_to_fs(url)
        store.invalidate_cache()
        _sync(store, path.rstrip("/"), root, run, lines=lines)
    except ImportError as error:
        raise BadInputError(
            f"{url}: {error}; install the driver, for s3:// with {install_command('s3')}"
        ) from None
    except (OSError, ValueError) as error:
        raise BadInputError(f"cannot read {url}: {str(error) or type(error).__name__:.300}") from None
    # The drivers raise their own exception classes.
    except Exception as error:
        if type(error).__module__.split(".")[0] in _DRIVER_MODULES:
            raise BadInputError(f"cannot read {url}: {str(error)[:300]}") from None
        raise
    return root


def _sync(store: Any, path: str, root: Path, run: str, *, lines: bool) -> None:
    """Copy new and changed files. Names that could leave the folder are ignored."""
    remote: dict[str, Mapping[str, Any]] = {}
    for key, info in _list_files(store, path, run):
        run_id, _, rest = key[len(path) :].lstrip("/").partition("/")
        if RUN_ID.fullmatch(run_id) and _WANTED.fullmatch(rest):
            remote[f"{run_id}/{rest}"] = info
    cached = _read_etags(root)
    known = {name: etag for name, etag in cached.items() if name.startswith(run)}
    now = {name: _etag(info) for name, info in remote.items()}

    def copy(name: str) -> None:
        atomic_write(root / name, store.cat_file(f"{path}/{name}"))

    for name in sorted(remote):
        if (root / name).exists() and known.get(name) == now[name]:
            continue
        if name.endswith(".jsonl") and (name not in known or known[name].startswith(_HOLE)):
            # The Parquet files, which follow, show whether the lines are needed.
            _make_sparse(root / name, int(remote[name]["size"]))
            now[name] = _HOLE + now[name]
        else:
            copy(name)
    for name in set(known) - set(now):
        (root / name).unlink(missing_ok=True)
    for name in _segments_to_read(root, {name.partition("/")[0] for name in remote}, lines=lines):
        if now.get(name, "").startswith(_HOLE):
            copy(name)
            now[name] = now[name].removeprefix(_HOLE)
    if now != known:
        atomic_write(root / _ETAGS, orjson.dumps({**{n: cached[n] for n in cached.keys() - known}, **now}))


def _make_sparse(path: Path, size: int) -> None:
    """Create a file of *size* bytes that uses no space. An existing file of this size stays."""
    if path.exists() and path.stat().st_size == size:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(size)


def _segments_to_read(root: Path, run_ids: set[str], *, lines: bool) -> list[str]:
    """Return the segments whose lines a catalog reads, relative to *root*."""
    folders = [RunFolder(root, run_id) for run_id in sorted(run_ids)]
    listing = FileIndex(use_parquet=not lines).scan(folders)
    return [segment.path.relative_to(root).as_posix() for segment in listing.segments]


def _list_files(store: Any, path: str, run: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield all files of runs whose ID starts with *run*. Folders of other runs are not listed."""
    if not run:
        yield from store.find(path, detail=True).items()
        return
    for folder in store.ls(path, detail=False):
        if folder.rstrip("/").rsplit("/", 1)[-1].startswith(run):
            yield from store.find(folder, detail=True).items()


def _read_etags(root: Path) -> dict[str, str]:
    try:
        cached: dict[str, str] = orjson.loads((root / _ETAGS).read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return {}
    return cached


def _etag(info: Mapping[str, Any]) -> str:
    """Return a text that changes when an object changes."""
    modified = info.get("LastModified") or info.get("mtime") or info.get("created") or ""
    return f"{info.get('ETag') or info.get('etag') or modified} {info['size']}"
