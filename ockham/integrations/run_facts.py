"""Comparison of facts from a user with the facts that a trainer has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ockham.errors import BadInputError

_UNSET = (None, 0, "")


def require_equal_facts(given: Mapping[str, Any], measured: Mapping[str, Any], trainer: str) -> None:
    """Check facts of a user against those of a trainer. A fact that is 0 counts as unknown.

    Args:
        given: Facts of the run.
        measured: Facts that the trainer has.
        trainer: Name of the trainer in the message.

    Raises:
        BadInputError: If facts differ. The message names all of them.

    """
    wrong = [
        f"{name} is {given[name]!r}, {trainer} has {value!r}"
        for name, value in measured.items()
        if given.get(name) not in _UNSET and value not in _UNSET and given[name] != value
    ]
    if wrong:
        raise BadInputError(
            f"facts of the run: {'; '.join(wrong)}; leave them out, OckhamCallback takes them from {trainer}"
        )
