"""verify.py of an evidence archive: checks the logs with only the standard library and `cryptography`.

    python verify.py evidence.zip --key 'ockham-3aa79232+0a1bf0ed+AeKt...'     or the unpacked folder

This file imports nothing of the package that wrote the archive. Read it before you trust it. Checked:
position and sequence of every line, the Merkle tree (RFC 6962) against every signed tree head (C2SP,
Ed25519), each policy against the digest in the events, run.json against run.started, resumes against the
previous log, every state blob, and the tiles. No signature covers schemas/, README and this file: compare
them with known copies. Exit status: 0 sound, 1 findings, 2 bad input.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import re
import struct
import sys
import zipfile
import zlib
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

_ODD = (OSError, ValueError, LookupError, TypeError, AttributeError, MemoryError, RuntimeError, EOFError)
NAME = re.compile(r"(?!(?:.*/)?\.\.?(?:/|\Z))[A-Za-z0-9._-][A-Za-z0-9._/-]*")  # leaves the archive nowhere
KNOWN_FILES = re.compile(
    r"log/[1-9][0-9]*-[0-9]+/([0-9]{12}\.jsonl|checkpoints?|tile/.+)"
    r"|policies/[0-9a-f]{64}\.json|blobs/[0-9a-f]{64}"
    r"|run\.json|schemas/[^/]+\.json|README|verify\.py"
)
LOCAL_HEADER = struct.Struct("<4s5H3I2H")
# Extra fields of zip entries: times and owner of Info-ZIP, and sizes of large archives.
TIME_AND_OWNER = frozenset({0x5455, 0x7875})
DIRECTORY_FIELDS = TIME_AND_OWNER | {0x0001}
MAX_BYTES, MAX_LINE_BYTES, MAX_FINDINGS = 20_000_000_000, 65_535, 200
Key = tuple[str, bytes, bytes]
LOSS_EVENT_TYPES = ("ockham.log.gap.v1", "ockham.log.halted.v1")


def load(path: Path) -> dict[str, bytes]:
    """Return all files of an archive or folder by name. An archive with a name outside of it is rejected."""
    if path.is_dir():
        found = (p for p in path.rglob("*") if p.is_file() and not p.is_symlink())
        return {str(p.relative_to(path)): p.read_bytes() for p in found}
    with path.open("rb") as file, zipfile.ZipFile(file) as archive:
        listed = archive.infolist()
        if sum(info.file_size for info in listed) > MAX_BYTES:
            raise ValueError("the archive is larger than this verifier reads")
        reject_ambiguous_names([info.orig_filename for info in listed])
        return read_entries(file, sorted(listed, key=lambda info: info.header_offset))


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


def leaf_hash(line: bytes) -> bytes:
    """Return the RFC 6962 leaf hash of a line."""
    return hashlib.sha256(b"\0" + line).digest()


def roots_at_sizes(lines: list[bytes], wanted: set[int]) -> dict[int, bytes]:
    """Return the root of the tree at each wanted size, and at the end."""
    found: dict[int, bytes] = {0: hashlib.sha256(b"").digest()}
    stack: list[bytes] = []
    for size, line in enumerate(lines, start=1):
        node, rest = leaf_hash(line), size - 1
        while rest & 1:
            node, rest = hashlib.sha256(b"\1" + stack.pop() + node).digest(), rest >> 1
        stack.append(node)
        if size in wanted or size == len(lines):
            root = stack[-1]
            for left in reversed(stack[:-1]):
                root = hashlib.sha256(b"\1" + left + root).digest()
            found[size] = root
    return found


def strict_base64(text: str) -> bytes:
    """Return the bytes of canonical base64. A decoder ignores the spare bits of the last character."""
    raw = base64.b64decode(text, validate=True)
    if base64.b64encode(raw).decode() != text:
        raise ValueError("base64 with bits that stand for nothing")
    return raw


def parse_key(text: str) -> Key:
    """Return name, key ID and public key of a C2SP verifier key."""
    name, key_id, encoded = text.strip().split("+", 2)
    raw = strict_base64(encoded)
    digest = hashlib.sha256(name.encode() + b"\n" + raw).digest()[:4]
    if len(raw) != 33 or raw[0] != 1 or digest.hex() != key_id:
        raise ValueError("no Ed25519 verifier key")
    return name, digest, raw[1:]


def parse_event(line: bytes) -> dict[str, Any]:
    """Return the event of a line. A duplicate key is rejected, because two readers could read two values."""

    def reject_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            raise ValueError("a key twice")
        return dict(pairs)

    if len(line) > MAX_LINE_BYTES:
        raise ValueError("longer than any event")
    event: dict[str, Any] = json.loads(line, object_pairs_hook=reject_duplicate_keys)
    return event


def read_signed_heads(data: bytes, key: Key, where: str) -> tuple[dict[int, bytes], list[str]]:
    """Return size -> root of every signed tree head, and the findings about all others."""
    found: dict[int, bytes] = {}
    findings = []
    parts = data.split(b"\n\n")
    for text, signed in zip(parts[0::2], parts[1::2], strict=False):
        match = re.fullmatch(rb"\xe2\x80\x94 (\S+) (\S+)\n*", signed)
        try:
            raw = strict_base64(match[2].decode()) if match else b""
        except ValueError:
            raw = b""
        if match is None or match[1] != key[0].encode() or raw[:4] != key[1]:
            findings.append("a tree head that the given key has not signed")
            continue
        try:
            Ed25519PublicKey.from_public_bytes(key[2]).verify(raw[4:], text + b"\n")
        except InvalidSignature:
            findings.append("a tree head whose signature does not fit")
            continue
        origin, size, root = text.decode().split("\n")[:3]
        if origin != where:
            findings.append(f"a tree head of another log: {origin}")
        elif found.setdefault(int(size), strict_base64(root)) != strict_base64(root):
            findings.append(f"two tree heads of size {size} with different roots")
    return found, findings


def check_log(files: dict[str, bytes], run_id: str, name: str, key: Key) -> tuple[list[str], list[bytes]]:
    """Return the findings of one log, and its lines."""
    findings: list[str] = []
    segments = sorted(path for path in files if re.fullmatch(rf"log/{name}/[0-9]{{12}}\.jsonl", path))
    lines: list[bytes] = []
    for segment in segments:
        if int(Path(segment).stem) != len(lines):
            findings.append(f"{segment} begins elsewhere than at event {len(lines)}")
        *whole, tail = files[segment].split(b"\n")
        lines += whole
        if tail and segment != segments[-1]:
            findings.append(f"{segment} ends in {len(tail)} bytes that are not a line")
        elif tail:
            print(f"log {name}: note: {len(tail)} bytes after the last complete line, left by a crash")
    attempt, rank = (int(part) for part in name.split("-"))
    for sequence, line in enumerate(lines):
        try:
            event = parse_event(line)
            place = (event["source"], *(event["data"][key] for key in ("attempt", "rank", "sequence")))
        except (ValueError, KeyError, TypeError, RecursionError):
            findings.append(f"event {sequence} is not an event, or has a duplicate key")
            if len(findings) <= MAX_FINDINGS:
                continue
            # A segment of empty lines has one for each byte.
            break
        if place != (f"ockham://runs/{run_id}", attempt, rank, sequence):
            findings.append(f"event {sequence} names another position: {place}")
        findings += check_event(files, event, sequence)
    findings += check_heads(files, run_id, name, key, lines) + check_tiles(files, name, lines)
    return [f"log {name}: {each}" for each in findings], lines


def check_heads(files: dict[str, bytes], run_id: str, name: str, key: Key, lines: list[bytes]) -> list[str]:
    """Return the findings of the tree of the lines against every signed head."""
    history = files.get(f"log/{name}/checkpoints", b"")
    signed, findings = read_signed_heads(history, key, f"ockham/runs/{run_id}/{name}")
    newest = files.get(f"log/{name}/checkpoint", b"")
    if newest and newest not in history:
        findings.append("`checkpoint` is not in the history of tree heads")
    if not signed:
        findings.append("no signed tree head of the given key")
    computed = roots_at_sizes(lines, set(signed))
    for size, root in sorted(signed.items()):
        if size > len(lines):
            findings.append(f"{size} events were signed, but {len(lines)} exist")
        elif computed[size] != root:
            findings.append(f"the first {size} events differ from the signed ones")
            # Nor is any longer start.
            break
    reach = max((size for size in signed if size <= len(lines)), default=0)
    print(f"log {name}: {len(lines)} events, signed to {reach}, root {computed[len(lines)].hex()}")
    return findings


def check_tiles(files: dict[str, bytes], name: str, lines: list[bytes]) -> list[str]:
    """Return the findings of every Merkle tile (C2SP tlog-tiles) against the hashes of the lines."""
    findings = []
    for path, data in files.items():
        if not path.startswith(f"log/{name}/tile/") or path.endswith(".tmp"):
            continue
        match = re.fullmatch(
            r"log/[^/]+/tile/([0-5])/((?:x[0-9]{3}/){0,4}[0-9]{3})(?:\.p/([0-9]{1,3}))?", path
        )
        span, width = 256 ** int(match[1]) if match else 0, int(match[3] or 256) if match else 0
        first = int(re.sub("[^0-9]", "", match[2])) * 256 * span if match else 0
        parts = [lines[at : at + span] for at in range(first, first + width * span, span)] if span else []
        if (
            not parts
            or len(parts[-1]) != span
            or data != b"".join(roots_at_sizes(p, set())[span] for p in parts)
        ):
            findings.append(f"{path} does not hold the hashes of the lines")
    return findings


def check_event(files: dict[str, bytes], event: dict[str, Any], sequence: int) -> list[str]:
    """Return the findings of files that an event names: each must be in the archive with its digest."""
    data, kind = event["data"], event.get("type")
    named: list[tuple[str, Any, str]] = []
    if revision := str(data.get("policy_revision", "")):
        told = f"event {sequence} names policy {revision}, which is missing or another one"
        policy = revision.partition("sha256:")[2]
        named.append((f"policies/{policy}.json", policy, told))
    if kind == "ockham.run.started.v1":
        told = "run.json is not the file that run.started names"
        named.append(("run.json", data.get("run_json_sha256"), told))
    if kind == "ockham.plugin_state.recorded.v1" and data.get("state") is None:
        told = f"event {sequence} names a state blob that is missing or another one"
        named.append((f"blobs/{data.get('state_sha256')}", data.get("state_sha256"), told))
    findings = [t for f, sha, t in named if f not in files or hashlib.sha256(files[f]).hexdigest() != sha]
    if kind in LOSS_EVENT_TYPES:
        findings.append(f"event {sequence} records missing events: {data.get('reason_code')!r:.40}")
    return findings


def first_event(lines: list[bytes]) -> dict[str, Any]:
    """Return the fields of the first event.

    Empty if the line is not an event, which is reported elsewhere.
    """
    try:
        data = parse_event(lines[0])["data"]
        return data if isinstance(data, dict) else {}
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        return {}


def main() -> int:
    """Check one archive or folder. Return the exit status."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("evidence", type=Path)
    parser.add_argument("--key", help="the verifier key that you trust; without it the run's own is taken")
    asked = parser.parse_args()
    try:
        files = load(asked.evidence)
        about = json.loads(files["run.json"])
        try:
            key = parse_key(asked.key or str(about["verifier_key"]))
        except ValueError:
            whose = "--key" if asked.key else "verifier_key of run.json"
            print(f"verify: {whose} is no verifier key, name+8 hex digits+base64", file=sys.stderr)
            return 2
        return verify_archive(files, str(about["run_id"]), key, known=bool(asked.key))
    except (*_ODD, zipfile.BadZipFile, zlib.error) as error:
        print(f"verify: {asked.evidence}: {type(error).__name__}: {str(error)!a}", file=sys.stderr)
        return 2


def verify_archive(files: dict[str, bytes], run_id: str, key: Key, *, known: bool) -> int:
    """Check all logs, and resumes against the previous log. Print the findings and return the exit status."""
    findings: list[str] = []
    logs: dict[str, list[bytes]] = {}
    segments = (re.fullmatch(r"log/([1-9][0-9]*-[0-9]+)/[0-9]{12}\.jsonl", path) for path in files)
    for name in sorted({found[1] for found in segments if found}):
        odd, logs[name] = check_log(files, run_id, name, key)
        findings += odd
    for name, lines in logs.items():
        first = first_event(lines)
        attempt, rank = name.split("-")
        try:
            missing = (r for r in range(int(first.get("world_size", 1))) if f"{attempt}-{r}" not in logs)
            # A hostile number is not counted out.
            for r in islice(missing, 9):
                findings.append(f"log {name}: the log of rank {r}, which began with it, is not here")
            lefts = [{**first, "rank": rank}, *first.get("left_logs", [])]
            for left in lefts if "from_root" in first else []:
                before, size = logs.get(f"{first['from_attempt']}-{left['rank']}", []), left["from_size"]
                if size > len(before) or roots_at_sizes(before, {size})[size].hex() != left["from_root"]:
                    findings.append(f"log {name}: was resumed from another log than the one that is here")
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError):
            findings.append(f"log {name}: its first event does not name the other logs")
    if unknown_files := sorted(name for name in files if not KNOWN_FILES.fullmatch(name)):
        print(
            f"note: files that no signature covers: {unknown_files[0]!a:.120} ({len(unknown_files)} in all)"
        )
    if not known:
        print("note: the key is the run's own word; give the one you know with --key")
    for each in findings[:MAX_FINDINGS] or ["sound" if logs else "no log in it"]:
        print(each if each.isascii() and each.isprintable() else ascii(each))
    if len(findings) > MAX_FINDINGS:
        print(f"and {len(findings) - MAX_FINDINGS} more")
    return 1 if findings or not logs else 0


if __name__ == "__main__":
    sys.exit(main())
