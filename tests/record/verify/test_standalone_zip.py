"""Archives of the single-file verifier: programs that read them in other ways must find the same files."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
import sys
import zipfile
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ockham.record.evidence_archive import write_archive
from ockham.record.tlog.note import load_or_create_signer
from ockham.record.verify import standalone
from tests.helpers.runs import make_run

LINE = "log/1-0/000000000000.jsonl"
FILES = {"README": b"text", LINE: b"a\n" * 400, "run.json": b"{}"}
ERRORS = (ValueError, OSError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError)


def zip_bytes(files=FILES, method=zipfile.ZIP_DEFLATED, change=None):
    """Return an archive. `change` edits a ZipInfo before it is written."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in files.items():
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            if change is not None:
                change(info)
            archive.writestr(info, data, method)
    return out.getvalue()


def local_entry(name=LINE, data=b"forged\n"):
    """Return a local header with deflated content, without an entry in a directory."""
    packed = zlib.compress(data)[2:-4]
    sizes = (zlib.crc32(data), len(packed), len(data), len(name), 0)
    return struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 8, 0, 33, *sizes) + name.encode() + packed


def shift_directory(raw, at, inserted):
    """Insert bytes at an offset, and correct all offsets in directory and end record."""
    end = len(raw) - 22
    count, size, offset = struct.unpack_from("<HII", raw, end + 10)
    directory = bytearray(raw[offset : offset + size])
    position = 0
    for _ in range(count):
        name, extra, comment = struct.unpack_from("<3H", directory, position + 28)
        (start,) = struct.unpack_from("<I", directory, position + 42)
        struct.pack_into("<I", directory, position + 42, start + len(inserted) * (start >= at))
        position += 46 + name + extra + comment
    tail = bytearray(raw[end:])
    struct.pack_into("<I", tail, 16, offset + len(inserted))
    return raw[:at] + inserted + raw[at:offset] + bytes(directory) + bytes(tail)


def directory_offset(raw):
    return struct.unpack_from("<I", raw, len(raw) - 6)[0]


def patched(raw, at, data):
    return raw[:at] + data + raw[at + len(data) :]


def in_directory(raw, name, field, data):
    """Change a field of the directory entry of a file."""
    return patched(raw, raw.rindex(name.encode()) - 46 + field, data)


def in_header(raw, name, field, data):
    """Change a field of the local header of a file."""
    return patched(raw, raw.index(name.encode()) - 30 + field, data)


def hidden_in_slack(raw):
    """Put an entry after the end of the compressed data of a listed entry, inside of its listed size."""
    hidden = local_entry()
    infos = zipfile.ZipFile(io.BytesIO(raw)).infolist()
    info = infos[0]
    at = info.header_offset + 30 + len(info.filename) + info.compress_size
    grown = shift_directory(raw, at, hidden)
    size = struct.pack("<I", info.compress_size + len(hidden))
    return in_directory(in_header(grown, info.filename, 18, size), info.filename, 20, size)


def overlapping():
    """Return an archive in which two entries share their data (a zip bomb of David Fifield's kind)."""
    raw = zip_bytes()
    start = zipfile.ZipFile(io.BytesIO(raw)).getinfo(LINE).header_offset
    return in_directory(raw, "run.json", 42, struct.pack("<I", start))


def set_mode(mode):
    def change(info):
        info.external_attr = mode << 16

    return change


def set_extra(extra):
    def change(info):
        info.extra = extra

    return change


def set_comment(info):
    info.comment = local_entry()


RAW = zip_bytes()
OTHER = zip_bytes({"README": b"other"})
FIRST_DATA = RAW.index(b"PK\3\4", 4)
DIRECTORY = directory_offset(RAW)
UNICODE_PATH = struct.pack("<2HBI", 0x7075, 5 + 5, 1, zlib.crc32(b"README")) + b"other"
ATTACKS = {
    "hidden entry first": shift_directory(RAW, 0, local_entry()),
    "hidden entry between": shift_directory(RAW, FIRST_DATA, local_entry()),
    "hidden entry before the directory": shift_directory(RAW, DIRECTORY, local_entry()),
    "hidden entry after compressed data": hidden_in_slack(RAW),
    "prefix without new offsets": local_entry() + RAW,
    "prefix of other bytes": b"#!/bin/sh\n" + RAW,
    "gap": shift_directory(RAW, FIRST_DATA, b"\0"),
    "gap before the directory": shift_directory(RAW, DIRECTORY, b"\0"),
    "bytes after the end": RAW + b"\0",
    "comment of the archive": RAW[:-2] + struct.pack("<H", 4) + b"text",
    "comment with a second archive": RAW[:-2] + struct.pack("<H", len(OTHER)) + OTHER,
    "two archives": RAW + RAW,
    "comment of an entry": zip_bytes(change=set_comment),
    "overlapping entries": overlapping(),
    "duplicate": zip_bytes({**FILES, "REEDME": b"other"}).replace(b"REEDME", b"README"),
    "names differ in case": zip_bytes({**FILES, "readme": b"other"}),
    "names differ in a final dot": zip_bytes({**FILES, "README.": b"other"}),
    "folder names differ in case": zip_bytes({**FILES, "LOG/1-0/000000000000.jsonl": b"other"}),
    "doubled slash": zip_bytes({**FILES, "log/1-0//000000000000.jsonl": b"other"}),
    "file and folder of one name": zip_bytes({**FILES, "log/1-0": b"other"}),
    "folder with content": zip_bytes({**FILES, "policies/": b"other"}),
    "name of another local entry": in_header(RAW, "README", 30, b"REEDME"),
    "name ends at a NUL": in_directory(
        in_header(RAW, "run.json", 30, b"run\0json"), "run.json", 46, b"run\0json"
    ),
    "local size": in_header(RAW, "README", 22, struct.pack("<I", 3)),
    "local checksum": in_header(RAW, "README", 14, b"abcd"),
    "checksum in both": in_directory(in_header(RAW, "README", 14, b"abcd"), "README", 16, b"abcd"),
    "local method": in_header(RAW, "README", 8, struct.pack("<H", 0)),
    "size after the data": in_directory(in_header(RAW, "README", 6, b"\x08\0"), "README", 8, b"\x08\0"),
    "encrypted": in_directory(in_header(RAW, "README", 6, b"\x01\0"), "README", 8, b"\x01\0"),
    "symbolic link": zip_bytes(change=set_mode(0o120777)),
    "device": zip_bytes(change=set_mode(0o060666)),
    "Unicode name": zip_bytes(change=set_extra(UNICODE_PATH)),
    "torn extra field": zip_bytes(change=set_extra(b"UT\x09\0\0")),
    "unlisted entry": RAW[:-12] + struct.pack("<H", 2) + RAW[-10:],
    "other disk": patched(RAW, len(RAW) - 18, b"\1\0"),
    "bzip2": zip_bytes(method=zipfile.ZIP_BZIP2),
    "leaves the folder": zip_bytes({**FILES, "../x": b""}),
}


def load(tmp_path, raw):
    path = tmp_path / "evidence.zip"
    path.write_bytes(raw)
    return standalone.load(path)


@pytest.mark.parametrize("raw", ATTACKS.values(), ids=list(ATTACKS))
def test_archive_with_two_readings_is_refused(tmp_path, raw):
    """Hidden, overlapping, duplicate and renamed entries raise an error before a check begins."""
    with pytest.raises(ERRORS):
        load(tmp_path, raw)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_plain_archive_is_read(tmp_path, method):
    """Stored and deflated files, entries of folders, and an empty archive."""
    assert load(tmp_path, zip_bytes(method=method)) == FILES
    assert load(tmp_path, zip_bytes({"log/": b"", "log/1-0/": b"", **FILES}, method)) == FILES
    assert load(tmp_path, zip_bytes({}, method)) == {}


def test_archive_with_many_files_is_read(tmp_path):
    """More than 65,535 files need the zip64 end record."""
    files = {f"blobs/{number}": b"" for number in range(65_540)}
    assert load(tmp_path, zip_bytes(files, zipfile.ZIP_STORED)) == files


@pytest.mark.skipif(shutil.which("zip") is None, reason="needs zip")
def test_archive_of_info_zip_is_read(tmp_path):
    """An unpacked archive that was packed again with times, owners and folders."""
    for name, data in FILES.items():
        (tmp_path / "x" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "x" / name).write_bytes(data)
    subprocess.run(["zip", "-q", "-r", "../again.zip", "."], cwd=tmp_path / "x", check=True)
    assert standalone.load(tmp_path / "again.zip") == FILES


def stream(raw):
    """Return the files that a program finds that reads from the start, as `jar -x` from a pipe does."""
    files, at = {}, 0
    while raw[at : at + 4] == b"PK\3\4":
        *_, packed, _, name_size, extra_size = struct.unpack_from("<4s5H3I2H", raw, at)
        method = struct.unpack_from("<H", raw, at + 8)[0]
        name = raw[at + 30 : at + 30 + name_size].decode()
        at += 30 + name_size + extra_size
        if method == 0:
            files[name] = raw[at : at + packed]
            at += packed
        else:
            inflater = zlib.decompressobj(-15)
            files[name] = inflater.decompress(raw[at:])
            at = len(raw) - len(inflater.unused_data)
    return files


EDITS = st.lists(
    st.tuples(
        st.sampled_from(["set", "insert", "delete", "copy", "hide"]),
        st.integers(0, len(RAW) - 1),
        st.integers(0, len(RAW) - 1),
        st.binary(min_size=1, max_size=4),
    ),
    min_size=1,
    max_size=3,
)


def edited(raw, edits):
    for kind, at, other, data in edits:
        if kind == "set":
            raw = patched(raw, at, data)
        elif kind == "insert":
            raw = raw[:at] + data + raw[at:]
        elif kind == "delete":
            raw = raw[:at] + raw[at + len(data) :]
        elif kind == "copy":
            raw = raw[:at] + raw[other : other + 40] + raw[at:]
        else:
            raw = raw[:at] + local_entry() + raw[at:]
    return raw


@given(EDITS)
def test_accepted_archive_has_one_reading(tmp_path_factory, edits):
    """Whatever was edited: a file from the directory and from the start is the same, or nothing is read."""
    raw = edited(RAW, edits)
    try:
        files = load(tmp_path_factory.mktemp("edited"), raw)
    except ERRORS:
        return
    archive = zipfile.ZipFile(io.BytesIO(raw))
    assert files == {name: archive.read(name) for name in archive.namelist()} == stream(raw)


def test_packed_verifier_refuses_a_hidden_entry(tmp_path):
    """The verifier of the archive exits with 2 and names the place. The same run without it is sound."""
    write_archive(make_run(tmp_path / "runs", batches=5).folder, tmp_path / "e.zip")
    raw = (tmp_path / "e.zip").read_bytes()
    script = tmp_path / "verify.py"
    script.write_bytes(zipfile.ZipFile(io.BytesIO(raw)).read("verify.py"))
    (tmp_path / "bad.zip").write_bytes(shift_directory(raw, directory_offset(raw), local_entry()))
    key = str(load_or_create_signer().verifier)
    results = [
        subprocess.run(
            [sys.executable, str(script), str(tmp_path / name), "--key", key], capture_output=True, text=True
        )
        for name in ("e.zip", "bad.zip")
    ]
    assert [done.returncode for done in results] == [0, 2]
    assert "the archive has bytes that belong to no listed file" in results[1].stderr
    assert "sound" not in results[1].stdout
