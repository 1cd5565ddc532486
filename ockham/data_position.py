"""Data position: where the rows of a batch came from, as the record stores it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from operator import index
from typing import Any

from ockham.errors import BadInputError, suggest_name

# A line has at most 65,535 bytes.
MAX_INDICES = 1_024
DIGEST_DIGITS = 32
_MAX_NUMBER = 2**53 - 1
_DIGEST = re.compile(r"[0-9A-Za-z:+/=._-]{8,128}")
_NAMES = ("position", "indices", "digest")


def digest_rows(content: bytes) -> str:
    """Return the digest of rows: the first 32 digits of the SHA-256 of their bytes.

    The reference trainer digests tokens as little-endian 32-bit numbers, row by row.
    """
    return hashlib.sha256(content).hexdigest()[:DIGEST_DIGITS]


def parse_data_position(data: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the data position of a batch as the record stores it. None if the loop passes none.

    Args:
        data: `position`, `indices` and `digest`, each optional. See `ockham.Run.start_batch`.

    Raises:
        BadInputError: If a name or a value is not accepted.

    """
    if data is None:
        return None
    if not isinstance(data, Mapping) or not data:
        raise BadInputError(f"data: got {data!r:.60}; accepted: a mapping with {', '.join(_NAMES)}")
    for name in data:
        if name not in _NAMES:
            raise BadInputError(
                f"data: no key {name!r:.60}{suggest_name(str(name), _NAMES)}; accepted: {', '.join(_NAMES)}"
            )
    rows: dict[str, Any] = {}
    if "position" in data:
        rows["position"] = _parse_number("position", data["position"])
    if "indices" in data:
        rows["indices"] = _parse_indices(data["indices"])
    if "digest" in data:
        digest = data["digest"]
        if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
            raise BadInputError(
                f"data: digest is {digest!r:.60}; accepted: text of 8 to 128 letters, digits and :+/=._-"
            )
        rows["digest"] = digest
    return rows


def _parse_indices(values: Any) -> list[int]:
    # Tensors and arrays have it.
    values = values.tolist() if hasattr(values, "tolist") else values
    try:
        numbers = [_parse_number("indices", value) for value in values]
    except TypeError:
        raise BadInputError(f"data: indices is {values!r:.60}; accepted: a list of whole numbers") from None
    if len(numbers) > MAX_INDICES:
        raise BadInputError(
            f"data: indices has {len(numbers)} numbers; accepted: at most {MAX_INDICES:,}, "
            "or a digest of the rows as digest=..."
        )
    return numbers


def _parse_number(name: str, value: Any) -> int:
    try:
        number = None if isinstance(value, bool) else index(value)
    except TypeError:
        number = None
    if number is None or not 0 <= number <= _MAX_NUMBER:
        raise BadInputError(f"data: {name} has {value!r:.60}; accepted: whole numbers from 0 to 2**53 - 1")
    return number
