"""The contract at run time: jsonschema-rs compiles `schemas/` once, 4 us an event.

The same files are read in tests by the plain `jsonschema` package, which is the second opinion.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any

import jsonschema_rs

from ockham import resources
from ockham.errors import InvalidEventError


@functools.cache
def load_schema(name: str) -> dict[str, Any]:
    """One schema of `schemas/`, such as `decision.made` or `common`."""
    schema: dict[str, Any] = json.loads(
        (resources.schemas_dir() / f"{name}.v1.schema.json").read_text(encoding="utf-8")
    )
    return schema


@functools.cache
def _validator(kind: str) -> Any:
    common = load_schema("common")
    registry = jsonschema_rs.Registry([(common["$id"], common)])
    return jsonschema_rs.Draft202012Validator(load_schema(kind), registry=registry, validate_formats=True)


def validate_event(kind: str, event: dict[str, Any]) -> None:
    """Check an event against its schema.

    Raises:
        InvalidEventError: naming the field and what it should be.

    """
    validator = _validator(kind)
    if not validator.is_valid(event):
        error = next(validator.iter_errors(event))
        place = "/".join(str(part) for part in error.instance_path) or "event"
        raise InvalidEventError(f"{kind}: {place}: {error.message:.300}")


def make_validator() -> Callable[[str, dict[str, Any]], bool]:
    """A fast yes or no for many events, for `verify`."""

    def is_valid(kind: str, event: dict[str, Any]) -> bool:
        return bool(_validator(kind).is_valid(event))

    return is_valid
