"""Kills at file effects: changes below a folder are counted, and SIGKILL ends the process at one.

An effect is one system call that creates, changes, syncs, renames or removes a file or a folder. The
functions of `os` and `io` that Python code calls for it are replaced. `test_kill_effects.py` compares the
counted effects with the output of strace.
"""

from __future__ import annotations

import builtins
import io
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

CREATES = os.O_CREAT | os.O_TRUNC
# Functions with a descriptor as first argument, and functions with a path.
ON_DESCRIPTORS = ("fsync", "fdatasync", "ftruncate")
ON_PATHS = ("rename", "replace", "unlink", "remove", "rmdir", "mkdir")


class FileEffects:
    """Counts the effects below a folder. Create it only in a process that ends afterwards.

    Args:
        root: Folder whose changes count.
        kill_at: Number of the effect at which the process is killed, from 1. 0 kills it at none.
        torn: Kill a write after half of its bytes. Otherwise, the kill precedes the effect.

    """

    def __init__(self, root: Path, kill_at: int = 0, *, torn: bool = False) -> None:
        self.names: list[str] = []
        self._root, self._kill_at, self._torn = os.path.realpath(root), kill_at, torn
        self._started = 0
        self._lock = threading.RLock()
        self._open, self._write, self._io_open = os.open, os.write, io.open

    def install(self) -> None:
        """Replace the functions of this process."""
        os.open = self._count_open
        os.write = self._count_write
        io.open = builtins.open = self._open_file
        for name in ON_DESCRIPTORS:
            setattr(os, name, self._wrap(name, getattr(os, name), _descriptor_path))
        for name in ON_PATHS:
            setattr(os, name, self._wrap(name, getattr(os, name), _named_path))

    def _wrap(self, name: str, call: Callable[..., Any], locate: Callable[..., str]) -> Callable[..., Any]:
        def counted(first: Any, *rest: Any, **options: Any) -> Any:
            path = locate(first, options.get("dir_fd"))
            return self._apply(name, path, lambda: call(first, *rest, **options))

        return counted

    def _apply(self, name: str, path: str, do: Callable[[], Any], data: Any = None) -> Any:
        """Kill the process, or apply the effect and count it if it succeeds."""
        if not (path == self._root or path.startswith(f"{self._root}/")):
            return do()
        with self._lock:
            self._started += 1
            if self._started == self._kill_at:
                if self._torn and data is not None:
                    self._write(data[0], memoryview(data[1])[: len(data[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            result = do()
            self.names.append(name)
            return result

    def _count_open(self, path: Any, flags: int, *rest: Any, **options: Any) -> int:
        def do() -> int:
            return self._open(path, flags, *rest, **options)

        if not flags & CREATES:
            return do()
        return int(self._apply("open", _named_path(path, options.get("dir_fd")), do))

    def _count_write(self, descriptor: int, data: Any) -> int:
        def do() -> int:
            return self._write(descriptor, data)

        return int(self._apply("write", _descriptor_path(descriptor), do, (descriptor, data)))

    def _open_file(self, file: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
        """Open a file. Files in a writing mode pass each write through `os.write`."""
        if isinstance(file, int) or not set(mode) & set("wax+"):
            return self._io_open(file, mode, *rest, **options)
        if mode == "w+b" and os.path.isdir(file):
            # `tempfile.TemporaryFile`: O_TMPFILE opens a folder, and the file never has a name.
            return self._io_open(file, mode, *rest, **options)
        if mode not in ("wb", "ab", "xb"):
            raise NotImplementedError(f"{file}: mode {mode} is not counted")
        return io.BufferedWriter(_CountedFile(file, mode, opener=os.open))


class _CountedFile(io.FileIO):
    """File whose writes are counted."""

    def write(self, data: Any) -> int:
        return os.write(self.fileno(), data)


def _named_path(path: Any, folder: int | None = None) -> str:
    text = os.fsdecode(path) if not isinstance(path, int) else _descriptor_path(path)
    if folder is not None:
        text = f"{_descriptor_path(folder)}/{text}"
    parent, name = os.path.split(os.path.abspath(text))
    return f"{os.path.realpath(parent)}/{name}"


def _descriptor_path(descriptor: int, _folder: int | None = None) -> str:
    return os.readlink(f"/proc/self/fd/{descriptor}")
