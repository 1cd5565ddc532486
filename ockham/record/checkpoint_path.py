"""Location of a checkpoint of another library: a folder, or one file with the files of Ockham next to it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

STATE_FILE = "ockham_state.json"
ANCHOR_FILE = "ockham_anchor.safetensors"
_OWN_FILES = (STATE_FILE, ANCHOR_FILE)


class CheckpointPath(NamedTuple):
    """Location of a checkpoint.

    Attributes:
        path: The folder, or the file.
        is_file: Whether it is one file, such as `last.ckpt`. Its state is in `last.ckpt.ockham_state.json`.

    """

    path: Path
    is_file: bool

    @classmethod
    def of(cls, path: str | Path) -> Self:
        """Return the location. A path that does not exist yet is a file. A link to a file is followed."""
        path = Path(path)
        if path.is_dir():
            return cls(path, is_file=False)
        return cls(path.resolve() if path.is_symlink() else path, is_file=True)

    @property
    def folder(self) -> Path:
        """Folder to which the names in the event are relative."""
        return self.path.parent if self.is_file else self.path

    @property
    def file_name(self) -> str:
        """Name of the single file. Empty for a folder."""
        return self.path.name if self.is_file else ""

    def own_file(self, name: str) -> Path:
        """Return the path of a file that Ockham adds."""
        return self.path.with_name(f"{self.path.name}.{name}") if self.is_file else self.path / name

    def names(self) -> list[str]:
        """Return the names of the existing files, in order."""
        own = [self.path, *map(self.own_file, _OWN_FILES)]
        found = own if self.is_file else self.path.rglob("*")
        return sorted(path.relative_to(self.folder).as_posix() for path in found if path.is_file())


def list_possible_checkpoints(path: Path) -> list[Path]:
    """Return the checkpoints that a file can belong to, the most specific first."""
    own = [
        path.with_name(path.name.removesuffix(f".{name}"))
        for name in _OWN_FILES
        if path.name.endswith(f".{name}")
    ]
    return [path, *own, path.parent]


def single_file_name(saved: Mapping[str, Any]) -> str:
    """Return the name of the single file of a checkpoint, as its event names it. Empty for a folder."""
    names = {str(file["name"]) for file in saved["files"]}
    return next((name for name in sorted(names) if f"{name}.{STATE_FILE}" in names), "")


def describe_location(saved: Mapping[str, Any]) -> str:
    """Return where another library wrote a checkpoint, as its event names it."""
    name = single_file_name(saved)
    return f"{saved.get('folder')}/{name}" if name else str(saved.get("folder"))
