"""Read lines and events of segment files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ockham.record.payloads import decode_line
from ockham.record.run_folder import open_regular_file


def read_complete_lines(segment: Path, upto: int | None = None) -> tuple[list[bytes], int]:
    """Return the complete lines of a segment and the number of their bytes. A torn tail is not returned."""
    with open_regular_file(segment) as file:
        data = file.read() if upto is None else file.read(upto)
    end = data.rfind(b"\n") + 1
    return data[:end].split(b"\n")[:-1], end


def read_first_event(segment: Path) -> dict[str, Any]:
    """Return the first event of a segment. The log can be untrusted: no field is checked.

    Raises:
        OSError: If the segment cannot be read.
        ValueError: If the first line is unfinished, or not an object with the object `data`.

    """
    with open_regular_file(segment) as file:
        line = file.readline()
    if not line.endswith(b"\n"):
        raise ValueError("the first line is unfinished")
    event = decode_line(line[:-1])
    if not isinstance(event, dict) or not isinstance(event.get("data"), dict):
        # A caller treats this like a line that is not JSON.
        raise ValueError("the first line is not an event")  # noqa: TRY004
    return event
