"""Attributes of objects of other libraries that are replaced for a time and restored afterwards."""

from __future__ import annotations

from typing import Any

_MISSING = object()


class Patches:
    """Replaced attributes. `restore` sets all of them back, in reverse order."""

    def __init__(self) -> None:
        self._originals: list[tuple[Any, str, Any]] = []

    def replace(self, owner: Any, name: str, value: Any) -> None:
        """Set an attribute of an object. A method of its class is replaced for this object only."""
        self._originals.append((owner, name, vars(owner).get(name, _MISSING)))
        setattr(owner, name, value)

    def restore(self) -> None:
        """Set every attribute back. Calling it again has no effect."""
        while self._originals:
            owner, name, original = self._originals.pop()
            if original is _MISSING:
                delattr(owner, name)
            else:
                setattr(owner, name, original)
