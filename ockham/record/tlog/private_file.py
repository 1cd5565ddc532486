"""The file of the private key: who can read or replace it.

The rules are those of OpenSSH for private keys (mode of the file) and of sshd's StrictModes (each folder on
the path). A link is followed, and the folders of the link and of its target are checked.
"""

from __future__ import annotations

import grp
import os
import pwd
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

from ockham.errors import BadInputError

MAX_LINKS = 40
_MAX_BYTES = 4_096


def read_private_file(path: Path) -> bytes:
    """Return the first bytes of a regular file. A pipe or device is not read.

    Raises:
        BadInputError: If it is not a regular file.
        OSError: If it cannot be read.

    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise BadInputError(f"private key {path}: not a regular file")
        return file.read(_MAX_BYTES)


def require_private(path: Path) -> None:
    """Refuse a private key that another user can read or replace.

    Raises:
        BadInputError: If owner or mode of the file, or of a folder on its path, admit another user. The
            message contains the command that changes it.
        OSError: If the file does not exist.

    """
    target = _resolve(path)
    status = target.stat()
    what = describe_link(path)
    if not stat.S_ISREG(status.st_mode):
        raise BadInputError(f"private key {what}: not a regular file")
    if not _is_trusted_owner(status):
        raise BadInputError(
            f"private key {what}: owned by user {status.st_uid}; "
            f"run `chown {os.geteuid()} {shlex.quote(str(target))}`, or make a new key"
        )
    if status.st_mode & 0o077:
        raise BadInputError(
            f"private key {what}: mode {stat.S_IMODE(status.st_mode):04o}, so other users can read or change "
            f"it; run `chmod 600 {shlex.quote(str(target))}`, and make a new key if this one may be known"
        )
    require_private_folders(path)


def require_private_folders(path: Path) -> None:
    """Refuse a path with a folder in which another user can replace files.

    A sticky folder such as the temporary folder is accepted, except as the folder of the key itself.

    Raises:
        BadInputError: If owner or mode of a folder admit another user.

    """
    what = describe_link(path)
    direct = {_resolve(path.parent), _resolve(path).parent}
    for folder in _folders_on_path(path):
        status = folder.stat()
        quoted = shlex.quote(str(folder))
        if not _is_trusted_owner(status):
            raise BadInputError(
                f"private key {what}: the folder {folder} is owned by user {status.st_uid}, who can replace "
                f"the key; run `chown {os.geteuid()} {quoted}`, or name another folder with OCKHAM_KEY_DIR"
            )
        is_sticky = bool(status.st_mode & stat.S_ISVTX)
        if _is_writable_by_others(status) and not (is_sticky and folder not in direct):
            raise BadInputError(
                f"private key {what}: the folder {folder} has mode {stat.S_IMODE(status.st_mode):04o}, so "
                f"other users can replace the key; run `chmod go-w {quoted}`, or name another folder with "
                "OCKHAM_KEY_DIR"
            )


def make_private_dirs(path: Path) -> None:
    """Create a folder and its missing parents with mode 0700."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(mode=0o700, exist_ok=True)


def describe_link(path: Path) -> str:
    """Return the path, and its target if a link is on the path."""
    target = _resolve(path)
    return str(path) if target == path.absolute() else f"{path} (link to {target})"


def _resolve(path: Path) -> Path:
    # Path.resolve raises RuntimeError for a loop of links.
    return Path(os.path.realpath(path))


def _is_writable_by_others(status: os.stat_result) -> bool:
    """Return True if another user can write. The group of one user does not count."""
    if status.st_mode & stat.S_IWOTH:
        return True
    return bool(status.st_mode & stat.S_IWGRP) and not _is_private_group(status)


def _is_private_group(status: os.stat_result) -> bool:
    """Return True for the group of one user, which many systems create with the user."""
    try:
        user, group = pwd.getpwuid(status.st_uid), grp.getgrgid(status.st_gid)
    except KeyError:
        return False
    same = user.pw_gid == group.gr_gid and group.gr_name == user.pw_name
    return same and set(group.gr_mem) <= {user.pw_name}


def _is_trusted_owner(status: os.stat_result) -> bool:
    return status.st_uid in (0, os.geteuid())


def _folders_on_path(path: Path) -> Iterator[Path]:
    """Yield each existing folder in which the system looks up a part of the path, links included."""
    current, rest, links = Path("/"), list(path.absolute().parts[1:]), 0
    while rest:
        yield current
        part = rest.pop(0)
        if part == "..":
            current = current.parent
            continue
        step = current / part
        if step.is_symlink() and links < MAX_LINKS:
            links += 1
            target = step.readlink()
            rest = [*(target.parts[1:] if target.is_absolute() else target.parts), *rest]
            current = Path("/") if target.is_absolute() else current
        elif step.is_dir():
            current = step
        else:
            return
