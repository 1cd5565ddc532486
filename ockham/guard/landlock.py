"""Permanent removal of write access from this process with Linux Landlock.

The process can then no longer write a file, start a program or open a connection, so DuckDB may open the
logs itself. DuckDB's `allowed_directories` is not enough, because COPY can overwrite the files that it may
read. Landlock applies to the calling thread and to threads that it starts later. For that reason it must
be enabled before DuckDB starts threads.
https://docs.kernel.org/userspace-api/landlock.html
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from pathlib import Path

# Numbers of the system calls, the same on all architectures.
_CREATE_RULESET = 444
_RESTRICT_SELF = 446
_PR_SET_NO_NEW_PRIVS = 38
_CREATE_RULESET_VERSION = 1
_EXECUTE = 1 << 0
_WRITE_FILE = 1 << 1
_REMOVE_DIR = 1 << 4
_REMOVE_FILE = 1 << 5
# Devices, folders, files, sockets, pipes and links.
_MAKE_ALL = sum(1 << bit for bit in range(6, 13))
_REFER = 1 << 13
_TRUNCATE = 1 << 14
# TCP bind and connect.
_NETWORK = 0b11


def forbid_writing() -> bool:
    """Remove write access, and return True if it is removed.

    Returns False if the kernel does not support it, or if other threads run, which it would not cover.
    """
    if not sys.platform.startswith("linux") or _count_threads() != 1:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint(_CREATE_RULESET_VERSION))
    # Before version 3, Landlock does not forbid truncating a file.
    if version < 3:
        return False
    files = _EXECUTE | _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_ALL | _REFER | _TRUNCATE
    rules = struct.pack("=QQ", files, _NETWORK) if version >= 4 else struct.pack("=Q", files)
    handle = libc.syscall(_CREATE_RULESET, rules, ctypes.c_size_t(len(rules)), ctypes.c_uint(0))
    if handle < 0:
        return False
    try:
        if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
            return False
        return bool(libc.syscall(_RESTRICT_SELF, ctypes.c_int(handle), ctypes.c_uint(0)) == 0)
    finally:
        os.close(handle)


def _count_threads() -> int:
    try:
        return len(list(Path("/proc/self/task").iterdir()))
    except OSError:
        return 0
