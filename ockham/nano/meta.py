"""What lies beside token files: meta.json, or nanoGPT's meta.pkl."""

from __future__ import annotations

import json
import pickletools
from pathlib import Path
from typing import Any

from ockham.errors import DataError


def read_vocab_size(folder: Path) -> int:
    """`vocab_size` of meta.json, or of nanoGPT's meta.pkl, whose opcodes are read and never executed; 0 where neither says.

    Raises:
        DataError: if it is there and cannot be read.

    """
    try:
        if (folder / "meta.json").is_file():
            return int(json.loads((folder / "meta.json").read_bytes())["vocab_size"])
        if not (folder / "meta.pkl").is_file():
            return 0
        named = False
        for opcode, argument, _ in pickletools.genops((folder / "meta.pkl").read_bytes()):
            if named and opcode.name in {"BININT", "BININT1", "BININT2", "INT"}:
                return int(str(argument))
            named = argument == "vocab_size" or (named and opcode.name in {"MEMOIZE", "BINPUT", "PUT"})
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder}/meta: no vocab_size can be read from it ({error})") from None
    return 0


def read_tokenizer_info(folder: Path) -> dict[str, Any]:
    """Name and digest of the tokenizer, where `ockham tokenize` wrote the meta.json."""
    try:
        told = json.loads((folder / "meta.json").read_bytes())["tokenizer"]
        return {"tokenizer": {"name": str(told["name"]), "sha256": str(told["sha256"])}}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
