"""Local copy of runs on an object store, updated before each use.

The store is any that fsspec supports: s3://, gs://, abfs://. The copy contains the files that queries need:
run.json, policies, Parquet files, and segments without Parquet files. Weights, tiles and blobs are not
copied. A segment that Parquet files cover becomes a sparse file of the same size, because no query reads
it. `verify` needs the original folder. Nothing is written to the store.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import platformdirs

from ockham.errors import BadInputError, install_command
from ockham.record.durable_io import atomic_write
from ockham.record.parquet.coverage import read_sidecar, source_segments
from ockham.record.run_folder import PARQUET_TABLES, RUN_ID

SCHEMES = ("s3", "gs", "gcs", "az", "abfs", "abfss", "memory")
# A Path object reduces the two slashes of a URL to one.
_URL = re.compile(rf"({'|'.join(SCHEMES)}):/{{1,2}}([^/].*)")
_WANTED = re.compile(
    r"run\.json|policies/[0-9a-f]{64}\.json"
    r"|(?:contexts|decisions|events)/day=[0-9-]{10}/[0-9-]+\.(?:parquet|json)"
    r"|log/[0-9]+-[0-9]+/[0-9]{12}\.jsonl"
)
_ETAGS = "etags.json"
_DRIVER_MODULES = ("botocore", "aiobotocore", "s3fs", "gcsfs", "adlfs", "azure")


def sync_to_local(runs: str | Path, run: str = "", cache: Path | None = None) -> Path:
    """Return *runs* if it is a folder. For a URL, update the local copy and return its folder.

    Args:
        runs: Folder or URL.
        run: Prefix of run IDs. Only these runs are updated. Empty updates all.
        cache: Folder of the local copy. None uses the cache folder of the user.

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
        _sync(store, path.rstrip("/"), root, run)
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


def _sync(store: Any, path: str, root: Path, run: str) -> None:
    """Copy new and changed files. Names that could leave the folder are ignored."""
    remote: dict[str, Mapping[str, Any]] = {}
    for key, info in _list_files(store, path, run):
        run_id, _, rest = key[len(path) :].lstrip("/").partition("/")
        if RUN_ID.fullmatch(run_id) and _WANTED.fullmatch(rest):
            remote[f"{run_id}/{rest}"] = info
    cached = _read_etags(root)
    known = {name: etag for name, etag in cached.items() if name.startswith(run)}
    now = {name: _etag(info) for name, info in remote.items()}
    # Segments last, because the Parquet files show which segments they cover.
    for name in sorted(remote, key=lambda n: (n.endswith(".jsonl"), n)):
        target = root / name
        if target.exists() and known.get(name) == now[name]:
            continue
        if name.endswith(".jsonl") and _covered(root, name, int(remote[name]["size"])):
            # With another ETag the segment is copied if its Parquet file is removed later.
            now[name] = f"hole {now[name]}"
            if target.exists() and known.get(name) == now[name]:
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as file:
                file.truncate(int(remote[name]["size"]))
        else:
            atomic_write(target, store.cat_file(f"{path}/{name}"))
    for name in set(known) - set(now):
        (root / name).unlink(missing_ok=True)
    if now != known:
        atomic_write(root / _ETAGS, orjson.dumps({**{n: cached[n] for n in cached.keys() - known}, **now}))


def _list_files(store: Any, path: str, run: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield all files of runs whose ID starts with *run*. Folders of other runs are not listed."""
    if not run:
        yield from store.find(path, detail=True).items()
        return
    for folder in store.ls(path, detail=False):
        if folder.rstrip("/").rsplit("/", 1)[-1].startswith(run):
            yield from store.find(folder, detail=True).items()


def _covered(root: Path, segment: str, size: int) -> bool:
    """Return True if the local copy has Parquet files of a segment with this size."""
    run_id, _, log, name = segment.split("/")
    for kind in PARQUET_TABLES:
        files = (root / run_id / kind).glob(f"day=*/{log}-*.parquet")
        if not any((name, size) in (source_segments(read_sidecar(path)) or ()) for path in files):
            return False
    return True


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
