"""Take from this process, for good, every way to write a file, start a program or open a connection (Linux's Landlock).

DuckDB may then open the evidence by itself: granted alone, its `allowed_directories` let COPY overwrite the very files that
it may read. Landlock holds for the calling thread and those that it starts later, so it comes before DuckDB has any.
https://docs.kernel.org/userspace-api/landlock.html
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from pathlib import Path

_CREATE, _RESTRICT = 444, 446  # system calls, the same on all architectures
_NO_NEW_PRIVS = 38
_VERSION = 1
_EXECUTE, _WRITE, _REMOVE_DIR, _REMOVE_FILE = 1 << 0, 1 << 1, 1 << 4, 1 << 5
_MAKE = sum(1 << bit for bit in range(6, 13))  # devices, folders, files, sockets, pipes, links
_REFER, _TRUNCATE = 1 << 13, 1 << 14
_NETWORK = 0b11  # bind and connect by TCP


def forbid_writing() -> bool:
    """Whether it holds from here on; False where the kernel can't, or threads run that it would not hold."""
    if not sys.platform.startswith("linux") or _threads() != 1:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint(_VERSION))
    if version < 3:  # before the third, a file could still be cut to nothing
        return False
    files = _EXECUTE | _WRITE | _REMOVE_DIR | _REMOVE_FILE | _MAKE | _REFER | _TRUNCATE
    rules = struct.pack("=QQ", files, _NETWORK) if version >= 4 else struct.pack("=Q", files)
    handle = libc.syscall(_CREATE, rules, ctypes.c_size_t(len(rules)), ctypes.c_uint(0))
    if handle < 0:
        return False
    try:
        if libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
            return False
        return bool(libc.syscall(_RESTRICT, ctypes.c_int(handle), ctypes.c_uint(0)) == 0)
    finally:
        os.close(handle)


def _threads() -> int:
    try:
        return len(list(Path("/proc/self/task").iterdir()))
    except OSError:
        return 0
