"""Edits of recorded logs, for tests that check whether a change is reported."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import orjson

from ockham.record.run_folder import RunFolder
from ockham.record.tlog.merkle import CompactRange, leaf_hash
from ockham.record.tlog.note import load_or_create_signer
from ockham.record.tlog.tree_head import CHECKPOINT, HISTORY, TreeHead, checkpoint_body, origin


def list_segments(folder: RunFolder) -> list[Path]:
    """Return the segments of all logs of a run."""
    return [path for attempt, rank in folder.logs() for path in folder.segments(attempt, rank)]


def rewrite_lines(run: RunFolder, change: Callable[[list[bytes]], Iterable[bytes]]) -> None:
    """Change the lines of the first segment of log 1-0. Other files are not changed."""
    path = run.segments(1, 0)[0]
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"".join(line + b"\n" for line in change(lines)))


def replace_data(line: bytes, **data: object) -> bytes:
    """Return a line with other values in the data of its event."""
    event = orjson.loads(line)
    event["data"].update(data)
    return orjson.dumps(event)


def sign_log(folder: RunFolder, attempt: int = 1, rank: int = 0, size: int | None = None) -> None:
    """Write the tree head of the first *size* lines of a log, signed with this machine's key."""
    lines = [line for path in folder.segments(attempt, rank) for line in path.read_bytes().splitlines()]
    tree = CompactRange()
    for line in lines[:size]:
        tree.append(leaf_hash(line))
    write_tree_head(folder, TreeHead(tree.size, tree.root()), attempt, rank)


def write_tree_head(folder: RunFolder, head: TreeHead, attempt: int = 1, rank: int = 0) -> None:
    """Write a tree head of a log, signed with this machine's key."""
    body = checkpoint_body(origin(folder.run_id, attempt, rank), head)
    path = folder.log_dir(attempt, rank)
    (path / CHECKPOINT).write_bytes(load_or_create_signer().sign(body))
    (path / HISTORY).write_bytes(load_or_create_signer().sign(body) + b"\n")


def find_line(lines: list[bytes], kind: str, nth: int = 0) -> int:
    """Return the index of the nth event of a kind."""
    return [i for i, line in enumerate(lines) if orjson.loads(line)["type"] == f"ockham.{kind}.v1"][nth]


def change_event(
    folder: RunFolder, kind: str, change: Callable[[dict], object], nth: int = 0, plugin: str = ""
) -> dict:
    """Change the data of the nth event of a kind in the first segment, and return the new data."""
    path = list_segments(folder)[0]
    lines = path.read_bytes().splitlines()
    matches = [
        i
        for i, line in enumerate(lines)
        if f"ockham.{kind}.v1".encode() in line and (not plugin or f'"plugin":"{plugin}"'.encode() in line)
    ]
    index = matches[nth]
    event = orjson.loads(lines[index])
    change(event["data"])
    lines[index] = orjson.dumps(event)
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return event["data"]
