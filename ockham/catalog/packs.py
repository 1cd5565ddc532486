"""Packs: copies of many small Parquet files in one file, in the user's cache folder.

Opening a file costs DuckDB about a millisecond, and a thousand short runs have three thousand files. A pack
is read in place of its members while each member has the stamp with which it was copied. A changed, removed
or replaced member makes the pack invalid. The other members are then read themselves, and copied again.
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from ockham.catalog.cache_folder import (
    cache_folder,
    create_private,
    is_private,
    read_content,
    write_content,
)
from ockham.catalog.file_index import ParquetFile
from ockham.catalog.run_stamps import are_old
from ockham.record.durable_io import atomic_write
from ockham.record.parquet.file_check import FileStamp, read_stamp
from ockham.record.parquet.tables import SCHEMAS, parquet_bytes

# Fewer small files are read themselves.
MIN_MEMBERS = 64
_MAX_MEMBERS = 256
_MAX_MEMBER_ROWS = 5_000
_FILE = "packs"


class _Pack(msgspec.Struct, array_like=True):
    """Pack of one kind: its file name and stamp, and its members with their stamps."""

    kind: str
    name: str
    stamp: FileStamp
    members: dict[str, FileStamp]


class PackStore:
    """Packs of the Parquet files of one folder of runs.

    Args:
        runs: Folder of runs.

    """

    def __init__(self, runs: Path) -> None:
        self._runs = runs
        self.folder = cache_folder(runs)
        self._packs: list[_Pack] | None = None
        self._used: dict[str, FileStamp] = {}

    def is_intact(self) -> bool:
        """Return True if the packs that the last `replace_members` calls have returned are unchanged."""
        return all(read_stamp(path) == stamp for path, stamp in self._used.items())

    def forget(self) -> None:
        """Use no pack until the next `replace_members`, which examines all again."""
        self._packs = None
        self._used = {}

    def replace_members(self, kind: str, files: Sequence[ParquetFile]) -> list[str]:
        """Return paths of files with the same rows: packs, and the files that no pack contains."""
        small = sum(file.end - file.first <= _MAX_MEMBER_ROWS for file in files)
        if self.folder is None or small < MIN_MEMBERS:
            return [file.path for file in files]
        left = {file.path: file for file in files}
        paths = self._take(kind, left)
        candidates = [file for file in left.values() if file.end - file.first <= _MAX_MEMBER_ROWS]
        if len(candidates) >= MIN_MEMBERS and self._create(kind, candidates):
            paths += self._take(kind, left)
        return [*paths, *left]

    def _take(self, kind: str, left: dict[str, ParquetFile]) -> list[str]:
        """Return the valid packs whose members are all left, and remove their members from *left*."""
        assert self.folder is not None
        taken = []
        for pack in self._load():
            members = {f"{self._runs}/{name}": stamp for name, stamp in pack.members.items()}
            path = str(self.folder / pack.name)
            if (
                pack.kind == kind
                and all(name in left and left[name].stamp == stamp for name, stamp in members.items())
                and read_stamp(path) == pack.stamp
            ):
                taken.append(path)
                self._used[path] = pack.stamp
                for name in members:
                    del left[name]
        return taken

    def _load(self) -> list[_Pack]:
        if self._packs is None:
            self._packs = []
            assert self.folder is not None
            if is_private(self.folder):
                data = read_content(self.folder / _FILE)
                self._packs = msgspec.msgpack.decode(data, type=list[_Pack]) if data else []
        return self._packs

    def _create(self, kind: str, files: Sequence[ParquetFile]) -> bool:
        """Copy files into packs. Return False if the cache folder cannot be written."""
        assert self.folder is not None
        if not create_private(self.folder):
            return False
        old = [file for file in files if are_old({file.path: file.stamp})]
        made: list[_Pack] = []
        try:
            with tempfile.TemporaryFile(dir=self.folder) as probe:
                # Fails before the files are read if this process must not write.
                probe.write(b"0")
            for start in range(0, len(old), _MAX_MEMBERS):
                made += self._write(kind, old[start : start + _MAX_MEMBERS])
            kept = [pack for pack in self._load() if self._may_be_used(pack)]
            self._packs = [*kept, *made]
            write_content(self.folder / _FILE, msgspec.msgpack.encode(self._packs))
        except OSError:
            return False
        self._remove_unused()
        return bool(made)

    def _write(self, kind: str, files: Sequence[ParquetFile]) -> Iterator[_Pack]:
        """Write one pack of the files that are unchanged after they were read."""
        assert self.folder is not None
        tables, members = [], {}
        for file in files:
            try:
                # On a small file threads cost more than they save.
                table = pq.ParquetFile(file.path).read(use_threads=False)
            except (OSError, pa.ArrowException):
                continue
            if read_stamp(file.path) == file.stamp and table.schema.equals(SCHEMAS[kind]):
                tables.append(table)
                members[file.path[len(f"{self._runs}/") :]] = file.stamp
        if len(members) > 1:
            data = parquet_bytes(pa.concat_tables(tables))
            path = self.folder / f"{kind}-{hashlib.sha256(data).hexdigest()[:32]}.parquet"
            atomic_write(path, data)
            if (stamp := read_stamp(path)) is not None:
                yield _Pack(kind, path.name, stamp, members)

    def _may_be_used(self, pack: _Pack) -> bool:
        """Return True if the members of a pack are unchanged."""
        return all(read_stamp(f"{self._runs}/{name}") == stamp for name, stamp in pack.members.items())

    def _remove_unused(self) -> None:
        """Remove the files of invalid packs. A process that reads one examines its packs again."""
        assert self.folder is not None
        names = {pack.name for pack in self._load()}
        for path in self.folder.glob("*.parquet"):
            if path.name not in names:
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)
