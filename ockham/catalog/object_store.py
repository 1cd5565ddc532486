"""Runs on an object store: what questions need of them, as a local copy that is brought up to date before each use.

Whatever fsspec knows by its scheme: s3://, gs://, abfs://. Copied are run.json, policies, Parquet, and the lines of segments
that have no Parquet yet; weights, tiles and blobs stay where they are. A sealed segment that its Parquet stands for becomes
a hole of its size: no question reads it, and `verify` is for the folder itself. Nothing is written to the store.
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
from ockham.record.parquet.coverage import read_sidecar, source_segments
from ockham.record.run_folder import PARQUET_TABLES, RUN_ID, atomic_write

SCHEMES = ("s3", "gs", "gcs", "az", "abfs", "abfss", "memory")
# As typed, or as a Path leaves it: one slash.
_URL = re.compile(rf"({'|'.join(SCHEMES)}):/{{1,2}}([^/].*)")
_WANTED = re.compile(
    r"run\.json|policies/[0-9a-f]{64}\.json|(?:contexts|decisions|events)/day=[0-9-]{10}/[0-9-]+\.(?:parquet|json)"
    r"|log/[0-9]+-[0-9]+/[0-9]{12}\.jsonl"
)
_ETAGS = "etags.json"


def sync_to_local(runs: str | Path, run: str = "", cache: Path | None = None) -> Path:
    """A folder to read: the given one, or for a URL its copy, brought up to date.

    Args:
        runs: a folder, or a URL of one.
        run: only the runs whose IDs begin so are brought up to date; empty: all.
        cache: where the copy lies; default: in the user's cache folder.

    Raises:
        BadInputError: if the store can't be read, or there is no driver for it.

    """
    found = _URL.fullmatch(str(runs))
    if found is None:
        return Path(runs)
    url = f"{found[1]}://{found[2].rstrip('/')}"
    name = hashlib.sha256(url.encode()).hexdigest()[:32]
    root = cache or Path(platformdirs.user_cache_dir("ockham")) / "remote" / name
    try:
        import fsspec

        store, path = fsspec.core.url_to_fs(url)
        store.invalidate_cache()
        _sync(store, path.rstrip("/"), root, run)
    except ImportError as error:
        raise BadInputError(f"{url}: {error}; for s3:// run {install_command('s3')}") from None
    except (OSError, ValueError) as error:
        raise BadInputError(f"cannot read {url}: {str(error) or type(error).__name__:.300}") from None
    except Exception as error:  # the drivers have error trees of their own
        if type(error).__module__.split(".")[0] in (
            "botocore",
            "aiobotocore",
            "s3fs",
            "gcsfs",
            "adlfs",
            "azure",
        ):
            raise BadInputError(f"cannot read {url}: {str(error)[:300]}") from None
        raise
    return root


def _sync(store: Any, path: str, root: Path, run: str) -> None:
    """Copy what is new or has changed; a name that could leave the folder is passed over."""
    there: dict[str, Mapping[str, Any]] = {}
    for key, about in _listed(store, path, run):
        run_id, _, rest = key[len(path) :].lstrip("/").partition("/")
        if RUN_ID.fullmatch(run_id) and _WANTED.fullmatch(rest):
            there[f"{run_id}/{rest}"] = about
    cached = _known(root)
    known = {name: mark for name, mark in cached.items() if name.startswith(run)}
    now = {name: _etag(about) for name, about in there.items()}
    # Segments last: by then it is known which of them Parquet stands for.
    for name in sorted(there, key=lambda n: (n.endswith(".jsonl"), n)):
        target = root / name
        if target.exists() and known.get(name) == now[name]:
            continue
        if name.endswith(".jsonl") and _covered(root, name, int(there[name]["size"])):
            now[name] = f"hole {now[name]}"  # brought after all, should its Parquet go
            if target.exists() and known.get(name) == now[name]:
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as file:
                file.truncate(int(there[name]["size"]))
        else:
            atomic_write(target, store.cat_file(f"{path}/{name}"))
    for name in set(known) - set(now):
        (root / name).unlink(missing_ok=True)
    if now != known:
        atomic_write(root / _ETAGS, orjson.dumps({**{n: cached[n] for n in cached.keys() - known}, **now}))


def _listed(store: Any, path: str, run: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every file of the runs whose IDs begin so; of the others only the folder's name is asked for."""
    if not run:
        yield from store.find(path, detail=True).items()
        return
    for folder in store.ls(path, detail=False):
        if folder.rstrip("/").rsplit("/", 1)[-1].startswith(run):
            yield from store.find(folder, detail=True).items()


def _covered(root: Path, segment: str, size: int) -> bool:
    """Whether Parquet of a segment of this size has been brought."""
    run_id, _, log, name = segment.split("/")
    for kind in PARQUET_TABLES:
        found = (root / run_id / kind).glob(f"day=*/{log}-*.parquet")
        if not any((name, size) in (source_segments(read_sidecar(path)) or ()) for path in found):
            return False
    return True


def _known(root: Path) -> dict[str, str]:
    try:
        cached: dict[str, str] = orjson.loads((root / _ETAGS).read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return {}
    return cached


def _etag(about: Mapping[str, Any]) -> str:
    """What changes when an object does."""
    when = about.get("LastModified") or about.get("mtime") or about.get("created") or ""
    return f"{about.get('ETag') or about.get('etag') or when} {about['size']}"
