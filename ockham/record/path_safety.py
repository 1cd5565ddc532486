"""Links, pipes and devices in a run folder. Nothing is written, removed or packed through a link."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ockham.errors import RunError


def reject_special_files(*roots: Path) -> None:
    """Check the given paths and everything below them. Missing paths are ignored.

    Raises:
        RunError: If one is neither a file nor a folder. The message names the first link, pipe or device.

    """
    for top in roots:
        for path in (top, *(top.rglob("*") if top.is_dir() and not top.is_symlink() else ())):
            if not os.path.lexists(path):
                continue
            mode = path.lstat().st_mode
            if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                what = "a link" if stat.S_ISLNK(mode) else "neither a file nor a folder"
                raise RunError(f"{path} is {what}; links and devices in a run folder are not followed")
