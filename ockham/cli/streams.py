"""Stdout and stderr of the process: a closed terminal, a closed pipe, and characters outside the encoding."""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator
from typing import Any

# Handler of characters that the encoding of stdout does not have.
ESCAPE_ERRORS = "ockham.escape"
# Errors of a terminal that is gone, and of a pipe that nobody reads.
_LOST_OUTPUT = frozenset({errno.EIO, errno.EPIPE, errno.ENXIO, errno.ESHUTDOWN})


def protect_streams() -> None:
    """Make stdout accept every character, and stderr a closed terminal. Calling it again has no effect."""
    codecs.register_error(ESCAPE_ERRORS, escape_unencodable)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors=ESCAPE_ERRORS)
    if sys.stderr is sys.__stderr__ and isinstance(sys.stderr, io.TextIOWrapper):
        raw = LossyFile(sys.stderr.fileno(), "w", closefd=False)
        encoding, errors = sys.stderr.encoding, sys.stderr.errors
        sys.stderr = io.TextIOWrapper(io.BufferedWriter(raw), encoding, errors, write_through=True)


def escape_unencodable(error: UnicodeError) -> tuple[str, int]:
    """Return escapes for characters that the encoding of stdout does not have, so that JSON stays valid."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{high:02x}{low:02x}" for high, low in zip(*[iter(units)] * 2, strict=True)), error.end


class LossyFile(io.FileIO):
    """File that discards what a closed terminal or pipe does not take.

    Progress and notes must not end a training whose terminal is gone. Everything that wraps stderr ends here.
    """

    def write(self, data: Any, /) -> int:
        """Write bytes. Return their number also if they were discarded."""
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in _LOST_OUTPUT:
                raise
            return memoryview(data).nbytes


@contextlib.contextmanager
def ignore_lost_output(stream: Any) -> Iterator[None]:
    """Context manager that ignores a closed terminal or pipe. The stream then writes to /dev/null."""
    try:
        yield
        stream.flush()
    except OSError as error:
        if error.errno not in _LOST_OUTPUT:
            raise
        discard_output(stream)


def discard_output(stream: Any) -> None:
    """Connect a stream to /dev/null, so that its buffer can be flushed."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)
