"""Changes of signed logs that `ockham verify` must find."""

from __future__ import annotations

import json

from ockham.record.run_folder import RunFolder


def change_one_digit(folder: RunFolder) -> int:
    """Change one digit of one `task_loss` of a signed log, and return the sequence of its event."""
    segment = folder.segments(1, 0)[0]
    lines = segment.read_bytes().splitlines(keepends=True)
    number = next(i for i, line in enumerate(lines) if b'"task_loss":' in line)
    position = lines[number].index(b'"task_loss":') + len(b'"task_loss":') + 2
    digit = lines[number][position : position + 1]
    other = b"7" if digit != b"7" else b"8"
    assert digit.isdigit()
    lines[number] = lines[number][:position] + other + lines[number][position + 1 :]
    segment.write_bytes(b"".join(lines))
    return int(json.loads(lines[number])["data"]["sequence"])
