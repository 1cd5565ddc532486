"""Checks of what a user passes to a callback: one source of the run, and facts that the trainer confirms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ockham.errors import BadInputError

_UNSET = (None, 0, "")


def require_one_source(run: object | None, *options: object) -> None:
    """Check that a callback gets an open run, or options of a run that it opens.

    Raises:
        BadInputError: If it gets both.

    """
    if run is not None and any(options):
        raise BadInputError(
            "OckhamCallback takes an open run, or policy, overrides, runs, run_id and facts of a run "
            "that it opens; give the open run its own policy and facts"
        )


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
