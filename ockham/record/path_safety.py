"""Links in a run folder: a stranger's may lead anywhere on this machine, so nothing behind one is written, removed or packed."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ockham.errors import RunError


def reject_special_files(*roots: Path) -> None:
    """Look at folders or files and all that lies in them; what is not there is nothing.

    Raises:
        RunError: naming the first that is neither a file nor a folder: a link, a pipe, a device.

    """
    for top in roots:
        for path in (top, *(top.rglob("*") if top.is_dir() and not top.is_symlink() else ())):
            if not os.path.lexists(path):
                continue
            mode = path.lstat().st_mode
            if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                what = "a link" if stat.S_ISLNK(mode) else "neither a file nor a folder"
                raise RunError(f"{path} is {what}; nothing is written, removed or packed from behind one")
