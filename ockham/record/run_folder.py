"""Layout of a run folder. All paths in it are built here.

runs/<run_id>/
  run.json                                    who, when, code, seeds, data, verifier key
  policies/<sha256>.json                      resolved policies, canonical JSON
  log/<attempt>-<rank>/<first sequence>.jsonl segments; one writer per folder, which holds `lock`
  log/<attempt>-<rank>/checkpoint, tile/      signed tree head and Merkle tiles (C2SP)
  blobs/<sha256>                              values that are too large for a line
  contexts/ decisions/ events/                Parquet files in folders day=YYYY-MM-DD/
    <attempt>-<rank>-<first>.parquet          of one segment
    <attempt>-<rank>-<first>-<last>.parquet   compacted
  sidecars/<kind>/day=YYYY-MM-DD/<name>.json  source segments of each Parquet file
  checkpoints/<snapshot_id>/                  weights (safetensors) and state (JSON)
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import stat
import time
from collections.abc import Mapping
from io import BufferedReader
from pathlib import Path

from ockham.errors import RunError
from ockham.record.durable_io import atomic_path, fsync_dir, make_dirs, temporary_target, write_synced
from ockham.record.lock_support import require_locks

RUN_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
LEDGER = "_ledger"
PARQUET_TABLES = ("contexts", "decisions", "events")
# Not next to the Parquet files: pandas, Polars and others read all files of a folder as Parquet.
SIDECARS = "sidecars"
_LOG = re.compile(r"([1-9][0-9]{0,8})-(0|[1-9][0-9]{0,5})")
_SEGMENT = re.compile(r"[0-9]{12}\.jsonl")
_HEX = re.compile(r"[0-9a-f]{64}")
SNAPSHOT_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,95}")
# Files that are written under a temporary name first.
_WRITTEN = re.compile(
    rf"policies/{_HEX.pattern}\.json|blobs/{_HEX.pattern}|log/{_LOG.pattern}/"
    r"(?:checkpoint|torn/[0-9]{12}\.[0-9]+|tile/[0-9]/(?:x[0-9]{3}/)*[0-9]{3}(?:\.p/[0-9]+)?)"
)


def check_run_id(run_id: str) -> str:
    """Return the run ID if it is valid.

    Raises:
        RunError: If it could leave the runs folder, or is not a valid name on every file system.

    """
    if run_id != LEDGER and not RUN_ID.fullmatch(run_id):
        raise RunError(
            f"run ID {run_id!r:.80} is not valid; "
            "use 1 to 64 of a-z, 0-9, '.', '_', '-', starting with a letter or digit"
        )
    return run_id


def new_run_id() -> str:
    """Return a run ID made from the time. All ranks of a run use the ID of rank 0."""
    return time.strftime("run-%Y%m%d-%H%M%S", time.gmtime()) + f"-{os.getpid()}"


class RunFolder:
    """The paths of one run. Creating the object touches no file.

    Raises:
        RunError: If the run ID is not valid.

    """

    def __init__(self, runs: str | Path, run_id: str) -> None:
        self.runs = Path(runs)
        self.run_id = check_run_id(run_id)
        self.path = self.runs / run_id
        self.run_json = self.path / "run.json"
        self.checkpoints = self.path / "checkpoints"

    def create(self, files: Mapping[str, bytes] | None = None) -> None:
        """Create the folder with these files. A kill leaves all of it, or nothing with its name.

        Args:
            files: Content by path relative to the folder.

        Raises:
            RunError: If the run exists, or the folder cannot be written.

        """
        try:
            make_dirs(self.runs)
            require_locks(self.runs)
            for left in self.runs.glob(f".{self.run_id}.*.tmp"):
                # The pattern also matches folders of other runs, such as `a.b`.
                if temporary_target(left.name) == self.run_id:
                    shutil.rmtree(left, ignore_errors=True)
            with atomic_path(self.path) as temporary:
                _write_folder(temporary, files or {})
            fsync_dir(self.runs)
        except OSError as error:
            if self.path.exists():
                raise RunError(
                    f"run {self.run_id!r} exists in {self.runs}; "
                    "use another run ID, or continue it with --resume "
                    "(in Python: resumed=ockham.find_resume_point(...))"
                ) from None
            raise RunError(f"cannot make a run folder in {self.runs}: {error.strerror}") from None

    def remove_unfinished_files(self) -> None:
        """Remove the files of logs, policies and blobs that a killed process was writing.

        Call it while no process writes the run.
        """
        for part in ("log", "policies", "blobs"):
            for folder, _, names in os.walk(self.path / part):
                for path in (Path(folder, name) for name in names):
                    written = is_unfinished_file(path.relative_to(self.path).as_posix())
                    if written and path.is_file() and not path.is_symlink():
                        path.unlink(missing_ok=True)

    def exists(self) -> bool:
        """Return True if the run has a run.json. The ledger has none."""
        return self.run_json.is_file() or (self.run_id == LEDGER and bool(self.logs()))

    def require_exists(self) -> RunFolder:
        """Return this folder if the run exists.

        Raises:
            RunError: If the run does not exist. The message lists the existing runs.

        """
        if not self.exists():
            known = ", ".join(list_runs(self.runs)[:8]) or "none"
            raise RunError(f"no run {self.run_id!r} in {self.runs}; there: {known}")
        return self

    def require_own_name(self) -> RunFolder:
        """Return this folder if its run.json names the same run, or no run.

        Raises:
            RunError: If the folder was renamed.

        """
        try:
            named = json.loads(read_regular_file(self.run_json)).get("run_id")
        except (OSError, ValueError, AttributeError, RecursionError):
            return self
        if isinstance(named, str) and named != self.run_id:
            raise RunError(f"the folder {self.path} contains run {named!r:.80}; rename it to that name")
        return self

    def log_dir(self, attempt: int, rank: int) -> Path:
        """Return the folder of one log."""
        return self.path / "log" / f"{attempt}-{rank}"

    def logs(self) -> list[tuple[int, int]]:
        """Return (attempt, rank) of every log in order."""
        return sorted(
            (int(match[1]), int(match[2]))
            for name in _names(self.path / "log")
            if (match := _LOG.fullmatch(name))
        )

    def last_attempt(self) -> int:
        """Return the number of the newest attempt, 0 without one."""
        return max((attempt for attempt, _ in self.logs()), default=0)

    def segments(self, attempt: int, rank: int) -> list[Path]:
        """Return the segments of one log in order of their first sequence number."""
        folder = self.log_dir(attempt, rank)
        return [folder / name for name in sorted(list_regular_files(folder)) if _SEGMENT.fullmatch(name)]

    def policy(self, revision: str) -> Path:
        """Return the file of a policy revision, with or without the prefix `sha256:`."""
        return self.path / "policies" / f"{_digest(revision.removeprefix('sha256:'))}.json"

    def read_policy(self, revision: str) -> bytes:
        """Return the bytes of a policy revision, which is the digest of these bytes.

        Raises:
            RunError: If the file cannot be read, or has other bytes.

        """
        path = self.policy(revision)
        try:
            content = read_regular_file(path)
        except OSError as error:
            raise RunError(f"cannot read the policy {path}: {error.strerror}") from None
        if hashlib.sha256(content).hexdigest() != path.stem:
            raise RunError(f"{path}: differs from its digest; run `ockham verify {self.run_id}`")
        return content

    def blob(self, digest: str) -> Path:
        """Return the file of a blob by its SHA-256."""
        return self.path / "blobs" / _digest(digest)

    def checkpoint(self, snapshot_id: str) -> Path:
        """Return the folder of a checkpoint."""
        if not SNAPSHOT_ID.fullmatch(snapshot_id):
            raise RunError(f"checkpoint ID {snapshot_id!r:.80} is not allowed: a-z, 0-9, '.', '_' and '-'")
        return self.checkpoints / snapshot_id

    def parquet_path(
        self, kind: str, day: str, attempt: int, rank: int, first: int, last: int | None = None
    ) -> Path:
        """Return the Parquet file of one kind for one segment, or for several up to event `last`."""
        suffix = "" if last is None else f"-{last:012d}"
        return self.path / kind / f"day={day}" / f"{attempt}-{rank}-{first:012d}{suffix}.parquet"


def _write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Create a folder with files. Each folder is synced once, because nothing has its final name yet."""
    folder.mkdir()
    folders = {folder}
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        write_synced(path, data)
        folders.add(path.parent)
    for parent in sorted(folders, reverse=True):
        fsync_dir(parent)


def is_unfinished_file(name: str) -> bool:
    """Return True if the writer makes this name for a file that is not complete.

    Args:
        name: Path relative to the run folder.

    """
    part, _, rest = name.partition("/")
    if part == "checkpoints":
        return SNAPSHOT_ID.fullmatch(temporary_target(rest.partition("/")[0])) is not None
    parent, _, file = name.rpartition("/")
    target = temporary_target(file)
    return target != "" and _WRITTEN.fullmatch(f"{parent}/{target}") is not None


def segment_name(first: int) -> str:
    """Return the name of the segment whose first event has this sequence number."""
    return f"{first:012d}.jsonl"


def first_sequence(segment: Path) -> int:
    """Return the first sequence number of a segment, from its name."""
    return int(segment.name.split(".", maxsplit=1)[0])


def list_runs(runs: str | Path) -> list[str]:
    """Return the IDs of all runs in a folder in order. Other names are ignored."""
    root = Path(runs)
    return sorted(
        name for name in _names(root) if RUN_ID.fullmatch(name) and (root / name / "run.json").is_file()
    )


def open_regular_file(path: Path) -> BufferedReader:
    """Open a regular file for reading. Opening a named pipe in an untrusted run folder would block forever.

    Raises:
        OSError: If it does not exist, is not readable, or is not a regular file.

    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return os.fdopen(descriptor, "rb")


def read_regular_file(path: Path) -> bytes:
    """Return the bytes of a regular file.

    Raises:
        OSError: As `open_regular_file`.

    """
    with open_regular_file(path) as file:
        return file.read()


def list_regular_files(folder: str | Path) -> list[str]:
    """Return the names of the regular files in a folder. All other entries are ignored."""
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries if entry.is_file()]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _digest(text: str) -> str:
    if not _HEX.fullmatch(text):
        raise RunError(f"{text!r:.80} is not a SHA-256 in 64 hex digits")
    return text


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208 - only names; thousands of Path objects are slower
    except (FileNotFoundError, NotADirectoryError):
        return []
