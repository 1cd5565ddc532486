"""Part of verify.py that reads an archive or a folder. It imports only the standard library.

The packer puts this file into verify.py in place of its import.
"""

from __future__ import annotations

import re
import struct
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

MAX_BYTES = 20_000_000_000
NAME = re.compile(r"(?!(?:.*/)?\.\.?(?:/|\Z))[A-Za-z0-9._-][A-Za-z0-9._/-]*")  # leaves the archive nowhere
LOG_FOLDER = re.compile(r"log/[^/]+/")
LOCAL_HEADER = struct.Struct("<4s5H3I2H")
# Extra fields of zip entries: times and owner of Info-ZIP, and sizes of large archives.
TIME_AND_OWNER = frozenset({0x5455, 0x7875})
DIRECTORY_FIELDS = TIME_AND_OWNER | {0x0001}


def load(path: Path) -> dict[str, bytes]:
    """Return all files of an archive or folder by name, and the folder of each log without a file.

    An archive with a name outside of it is rejected.
    """
    if path.is_dir():
        found = [p for p in path.rglob("*") if not p.is_symlink()]
        files = {str(p.relative_to(path)): p.read_bytes() for p in found if p.is_file()}
        return files | empty_logs((f"{p.relative_to(path)}/" for p in found if p.is_dir()), files)
    with path.open("rb") as file, zipfile.ZipFile(file) as archive:
        listed = archive.infolist()
        if sum(info.file_size for info in listed) > MAX_BYTES:
            raise ValueError("the archive is larger than this verifier reads")
        reject_ambiguous_names([info.orig_filename for info in listed])
        files = read_entries(file, sorted(listed, key=lambda info: info.header_offset))
        return files | empty_logs((info.orig_filename for info in listed), files)


def empty_logs(names: Iterable[str], files: dict[str, bytes]) -> dict[str, bytes]:
    """Return the folders of logs that have no file: their runs were killed before the first tree head."""
    folders = {name for name in names if LOG_FOLDER.fullmatch(name)}
    return {name: b"" for name in folders if not any(file.startswith(name) for file in files)}


def reject_ambiguous_names(names: list[str]) -> None:
    """Reject names that a program can unpack to one place, or outside of the folder."""
    if odd := [name for name in names if not NAME.fullmatch(name) or "//" in name]:
        raise ValueError(f"a file of the name {odd[0]!a:.120}, which no run gives")
    # Some file systems ignore case, and dots at the end of a name.
    parts = [[part.rstrip(".") for part in name.lower().rstrip("/").split("/")] for name in names]
    if len({tuple(each) for each in parts}) != len(names):
        raise ValueError("two files of one name in the archive")
    folders = {tuple(each[:depth]) for each in parts for depth in range(1, len(each))}
    if any(tuple(each) in folders for each, name in zip(parts, names, strict=True) if name[-1] != "/"):
        raise ValueError("a file in the archive has the name of a folder")


def read_entries(file: BinaryIO, listed: list[zipfile.ZipInfo]) -> dict[str, bytes]:
    """Return the content of the listed files, which are sorted by their offset.

    Some programs read an archive from its directory, others from its start. Both must find the same files.
    So each byte must belong to one listed file, to the directory, or to the end record.
    """
    files, at = {}, 0
    for info in listed:
        name = info.orig_filename
        file.seek(at)
        head = file.read(LOCAL_HEADER.size).ljust(LOCAL_HEADER.size, b"\0")
        mark, _, flags, method, _, _, crc, packed_size, size, name_size, extra_size = LOCAL_HEADER.unpack(
            head
        )
        local_name, local_extra = file.read(name_size), file.read(extra_size)
        local = (at, mark, flags, method, crc, packed_size, size, local_name)
        entry = (info.header_offset, b"PK\3\4", info.flag_bits, info.compress_type, info.CRC)
        if local != (*entry, info.compress_size, info.file_size, name.encode()):
            raise ValueError(f"the archive has at byte {at} another entry than the listed {name!a:.120}")
        if not is_plain_entry(info, local_extra):
            raise ValueError(f"{name!a:.120} has flags or fields that programs read in different ways")
        content = decompress(info, file.read(info.compress_size))
        if not name.endswith("/"):
            files[name] = content
        elif content:
            raise ValueError(f"{name!a:.120} is a folder with content")
        at = file.tell()
    directory_size = sum(46 + len(info.orig_filename) + len(info.extra) for info in listed)
    file.seek(at + directory_size)
    if file.read(200) not in end_records(len(listed), directory_size, at):
        raise ValueError("the archive has bytes that belong to no listed file")
    return files


def is_plain_entry(info: zipfile.ZipInfo, local_extra: bytes) -> bool:
    """Return True for a file or folder without encryption, comment, other name, or size after the data."""
    kind = info.external_attr >> 16 & 0o170000
    is_folder = kind == 0o040000 or bool(info.external_attr & 0x10)
    is_known = has_only_fields(local_extra, TIME_AND_OWNER) and has_only_fields(info.extra, DIRECTORY_FIELDS)
    return (
        is_known
        and not info.comment
        and not info.flag_bits & ~0x806
        and kind in (0, 0o040000, 0o100000)
        and is_folder <= info.orig_filename.endswith("/")
    )


def has_only_fields(extra: bytes, known: frozenset[int]) -> bool:
    """Return True if all extra fields of an entry have a known number."""
    while len(extra) >= 4:
        number, size = struct.unpack_from("<2H", extra)
        if number not in known or len(extra) < 4 + size:
            return False
        extra = extra[4 + size :]
    return not extra


def decompress(info: zipfile.ZipInfo, packed: bytes) -> bytes:
    """Return the content of an entry. Another entry can be hidden after the end of compressed data."""
    content, complete = packed, info.compress_type == zipfile.ZIP_STORED
    if info.compress_type == zipfile.ZIP_DEFLATED:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        content = inflater.decompress(packed, info.file_size + 1)
        complete = inflater.eof and not inflater.unused_data
    sizes = (len(packed), len(content), zlib.crc32(content))
    if not complete or sizes != (info.compress_size, info.file_size, info.CRC):
        raise ValueError(f"{info.orig_filename!a:.120} does not have the listed size and checksum")
    return content


def end_records(count: int, size: int, offset: int) -> tuple[bytes, bytes]:
    """Return the accepted ends of an archive: one end record without a comment, or with zip64 records."""
    last = (min(count, 0xFFFF), min(count, 0xFFFF), min(size, 0xFFFFFFFF), min(offset, 0xFFFFFFFF), 0)
    plain = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, *last)
    large = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, offset)
    return plain, large + struct.pack("<4sIQI", b"PK\6\7", 0, offset + size, 1) + plain
