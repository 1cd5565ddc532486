"""Check that a file system has file locks. Without them, two processes could write one log."""

from __future__ import annotations

import errno
import fcntl
import tempfile
from pathlib import Path

from ockham.errors import RunError

# ENOTSUPP of the Linux kernel has no name in errno. Network file systems return it.
_KERNEL_ENOTSUPP = 524
NO_LOCKS = frozenset({errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK, _KERNEL_ENOTSUPP})


def require_locks(folder: Path) -> None:
    """Check that files in a folder can be locked.

    Raises:
        RunError: If the file system has no locks, as Lustre without the mount option flock.
        OSError: If the folder cannot be written.

    """
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            raise RunError(
                f"{folder}: the file system has no file locks ({error.strerror}); "
                "mount it with the option flock, or use a folder of another file system with --runs"
            ) from None
