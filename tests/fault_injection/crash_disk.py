"""Model of a power loss: file operations of a traced process, and the possible disk images after a crash.

The model assumes only what POSIX guarantees. The bytes of a file are durable after a sync of the file.
A name in a folder is durable after a sync of the folder. A crash keeps any part of the other bytes: a prefix,
a prefix followed by zeros, or nothing. Each folder contains either its old names or its new ones.
"""

from __future__ import annotations

import random
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

CALLS = "openat,write,fsync,fdatasync,ftruncate,rename,link,unlink,mkdir"
_WHOLE = re.compile(r"(\d+) +(\w+)\((.*)\) += (-?\d+)")
_BEGUN = re.compile(r"(\d+) +(\w+)\((.*) <unfinished \.\.\.>$")
_ENDED = re.compile(r"(\d+) +<\.\.\. (\w+) resumed>(.*)\) += (-?\d+)")
_QUOTED = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_DESCRIPTOR = re.compile(r"^(\d+)<([^>]*)>")


class Op(NamedTuple):
    """One system call: name, quoted paths or bytes, path of its descriptor, and all arguments."""

    call: str
    quoted: list[bytes]
    target: str
    words: str


def traced(
    command: list[str], at: Path, env: dict[str, str], *, calls: str = CALLS, output: Path | None = None
) -> list[Op]:
    """Run a command and return its file operations in order.

    Args:
        command: The command.
        at: File for the output of strace.
        env: Environment of the command.
        calls: Names of the system calls.
        output: File for the output of the command. None discards it.

    """
    done = subprocess.run(
        [
            "strace",
            "-f",
            "-qq",
            "-y",
            "-xx",
            "-s",
            "1000000",
            "-e",
            f"trace={calls}",
            "-o",
            str(at),
            *command,
        ],
        check=True,
        capture_output=True,
        timeout=120,
        env=env,
    )
    if output is not None:
        output.write_bytes(done.stdout)
    begun: dict[str, str] = {}
    ops = []
    for line in at.read_text().splitlines():
        if match := _BEGUN.match(line):
            begun[match[1]] = match[3]
            continue
        if match := _ENDED.match(line):
            call, words, result = match[2], begun.pop(match[1], "") + match[3], int(match[4])
        elif match := _WHOLE.match(line):
            call, words, result = match[2], match[3], int(match[4])
        else:
            continue
        if result >= 0:
            ops.append(_op(call, words))
    return ops


def _op(call: str, words: str) -> Op:
    quoted = [bytes.fromhex(text.replace("\\x", "")) for text in _QUOTED.findall(words)]
    found = _DESCRIPTOR.match(words)
    return Op(call, quoted, _plain(found[2]) if found else "", words)


def _plain(text: str) -> str:
    return bytes.fromhex(text.replace("\\x", "")).decode() if text.startswith("\\x") else text


@dataclass
class File:
    """The bytes that the process reads, and the durable bytes."""

    now: bytes = b""
    durable: bytes = b""


@dataclass
class Disk:
    """Current and durable files below one folder. Names are paths, and depend on their parent folders."""

    root: str
    # The value of a folder is None.
    now: dict[str, File | None] = field(default_factory=dict)
    durable: dict[str, File | None] = field(default_factory=dict)
    acknowledged: int = 0

    def do(self, op: Op) -> bool:
        """Apply a call. Return True if it changed a file or a folder."""
        if op.call == "write" and op.quoted and op.quoted[0].startswith(b"acknowledged "):
            self.acknowledged = int(op.quoted[0].split()[1])
            return True
        paths = [p.decode() for p in op.quoted] if op.call not in ("write", "ftruncate") else []
        if (
            not any(path.startswith(self.root + "/") for path in [op.target, *paths])
            and op.target != self.root
        ):
            return False
        return bool(getattr(self, op.call)(op, paths))

    def openat(self, op: Op, paths: list[str]) -> bool:
        if "O_CREAT" not in op.words or (paths[0] in self.now and "O_TRUNC" not in op.words):
            return False
        self.now[paths[0]] = File()
        return True

    def mkdir(self, _op: Op, paths: list[str]) -> bool:
        self.now[paths[0]] = None
        return True

    def write(self, op: Op, _paths: list[str]) -> bool:
        file = self.now.get(op.target)
        if file is not None:
            file.now += op.quoted[0]
        return file is not None

    def ftruncate(self, op: Op, _paths: list[str]) -> bool:
        file = self.now[op.target]
        assert file is not None
        file.now = file.now[: int(op.words.rsplit(",", 1)[1])]
        return True

    def fsync(self, op: Op, _paths: list[str]) -> bool:
        file = self.now.get(op.target)
        if file is not None:
            file.durable = file.now
            return True
        here = {path for path in {*self.now, *self.durable} if path.rpartition("/")[0] == op.target}
        for path in here:
            if path in self.now:
                self.durable[path] = self.now[path]
            else:
                del self.durable[path]
        return True

    fdatasync = fsync

    def rename(self, _op: Op, paths: list[str]) -> bool:
        self.now[paths[1]] = self.now.pop(paths[0])
        # What a folder contains moves with it, in the same state of durability.
        for tree in (self.now, self.durable):
            for path in [path for path in tree if path.startswith(f"{paths[0]}/")]:
                tree[paths[1] + path.removeprefix(paths[0])] = tree.pop(path)
        return True

    def link(self, _op: Op, paths: list[str]) -> bool:
        self.now[paths[1]] = self.now[paths[0]]
        return True

    def unlink(self, _op: Op, paths: list[str]) -> bool:
        return self.now.pop(paths[0], None) is not None

    def images(self, draw: random.Random, most: int) -> Iterator[dict[str, bytes | None]]:
        """Yield images that a crash at this point can leave: first the simple ones, then random ones."""
        for names, data in (("durable", "durable"), ("now", "durable"), ("durable", "now"), ("now", "now"))[
            :most
        ]:
            yield self._image(lambda _, n=names: n, lambda f, d=data: getattr(f, d))
        for _ in range(most - 4):
            chosen: dict[str, str] = {}
            yield self._image(
                lambda folder, c=chosen: c.setdefault(folder, draw.choice(("now", "durable"))),
                lambda file: _torn(file, draw),
            )

    def _image(self, names, data) -> dict[str, bytes | None]:  # type: ignore[no-untyped-def]
        shown: dict[str, bytes | None] = {}
        for path in sorted({*self.now, *self.durable}, key=lambda p: p.count("/")):
            folder = path.rpartition("/")[0]
            tree = getattr(self, names(folder))
            if path in tree and (folder == self.root or folder in shown):
                shown[path] = None if tree[path] is None else data(tree[path])
        return shown


def _torn(file: File, draw: random.Random) -> bytes:
    """Return the durable bytes of a grown file, a part of the other bytes, and zeros or nothing."""
    if not file.now.startswith(file.durable):
        return draw.choice((file.now, file.durable))
    rest = file.now[len(file.durable) :]
    kept = draw.choice((0, len(rest), draw.randint(0, len(rest)), len(rest) // 512 * 512))
    return file.durable + rest[:kept] + b"\0" * draw.choice((0, len(rest) - kept))
