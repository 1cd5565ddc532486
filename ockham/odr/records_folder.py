"""Folder of records: its files, the next number, and atomic writing."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from ockham.errors import BadInputError, UnverifiableError, suggest_name
from ockham.odr.record import NAME, DecisionRecord, read_record
from ockham.record.durable_io import atomic_write

INDEX = "README.md"
SCHEMA = "odr.v1.schema.json"
_NO_RECORD = frozenset({"readme.md", "index.md"})


def record_files(folder: Path) -> list[Path]:
    """Return all record files of a folder: `*.md` without the index and hidden files.

    Raises:
        UnverifiableError: If the folder does not exist or cannot be read.

    """
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208 - names that are not UTF-8 stay as they are
    except FileNotFoundError as error:
        advice = "create it with `ockham odr new TITLE`, or pass --odr-dir"
        raise UnverifiableError(f"records folder {folder}: {error.strerror}; {advice}") from None
    except OSError as error:
        raise UnverifiableError(f"records folder {folder}: {error.strerror}") from None
    return [
        folder / n
        for n in names
        if n.lower().endswith(".md") and n[0] not in "._" and n.lower() not in _NO_RECORD
    ]


def read_folder(folder: Path) -> list[DecisionRecord]:
    """Return all records of a folder in order of their names."""
    return [read_record(file, printable(file)) for file in record_files(folder)]


def printable(file: Path) -> str:
    """Return a path as one line of text that any UTF-8 stream accepts."""
    text = os.fspath(file).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return "".join(c if c.isprintable() else "�" for c in text)


def next_number(numbers: Iterable[int]) -> int:
    """Return the number after the highest.

    Raises:
        BadInputError: If 9999 is in use.

    """
    number = max(numbers, default=0) + 1
    if number > 9999:
        raise BadInputError("the number 9999 is taken: record numbers have four digits")
    return number


def numbers_in(folder: Path) -> list[int]:
    """Return the numbers at the start of file names in the folder."""
    return [int(match["number"]) for file in record_files(folder) if (match := NAME.fullmatch(file.name))]


def slugify(title: str) -> str:
    """Return a title as part of a file name: `Use A & B` is `use-a-b`, at most 60 characters."""
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    words = re.findall(r"[a-z0-9]+", plain)
    return "-".join(words)[:60].strip("-") or "record"


def find_record(records: Iterable[DecisionRecord], wanted: str) -> DecisionRecord:
    """Return the record with an ID, number, file name or path.

    Raises:
        BadInputError: If there is no such record, or several have that ID.

    """
    given = wanted.strip()
    identity = f"ODR-{int(given):04d}" if given.isdecimal() and len(given) <= 4 else given.upper()
    fitting = [r for r in records if r.claims.id == identity or _is_file(r, Path(given))]
    if len(fitting) > 1:
        names = ", ".join(record.file.name for record in fitting)
        raise BadInputError(f"{identity} is the id of several records: {names}; `ockham odr lint` shows them")
    if not fitting:
        hint = (
            " in this folder: give its folder by --odr-dir"
            if len(Path(given).parts) > 1
            else suggest_name(identity, (r.claims.id for r in records))
        )
        raise BadInputError(f"no record {wanted!r:.80}{hint}")
    return fitting[0]


def _is_file(record: DecisionRecord, named: Path) -> bool:
    """Return True if a name or relative path is that of a record's file."""
    same = record.file.name == named.name
    return same and (len(named.parts) == 1 or record.file.resolve() == named.resolve())


def write_record(file: Path, text: str, *, new: bool = False) -> None:
    """Write a complete record.

    Raises:
        BadInputError: If it is new and the file exists, or the folder cannot be written.

    """
    try:
        if not new:
            atomic_write(file, text.encode())
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        whole = file.with_name(f".{file.name}.{os.getpid()}.tmp")
        atomic_write(whole, text.encode())
        try:
            # Unlike a rename it never takes the place of what is there.
            os.link(whole, file)
        except FileExistsError:
            raise BadInputError(f"{file} exists") from None
        finally:
            whole.unlink()
    except FileExistsError:
        raise BadInputError(f"{file} cannot be written: {file.parent} is no folder") from None
    except OSError as error:
        raise BadInputError(f"{file} cannot be written: {error.strerror}") from None
