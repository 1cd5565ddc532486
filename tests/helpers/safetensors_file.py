"""Small safetensors files with metadata as the trainer writes it."""

from __future__ import annotations

import json
from collections.abc import Mapping


def make_safetensors(metadata: Mapping[str, object]) -> bytes:
    """Return a file with one number. Each metadata value is JSON."""
    texts = {key: json.dumps(value) for key, value in metadata.items()}
    header = json.dumps(
        {"__metadata__": texts, "w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
    ).encode()
    return len(header).to_bytes(8, "little") + header + bytes(4)
