"""Stdout and stderr of the process: closed terminals, and characters outside the encoding."""

from __future__ import annotations

import errno
import io
import json
import os
import pty
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ockham.cli.streams import LossyFile, ignore_lost_output, protect_streams


@given(text=st.text(), encoding=st.sampled_from(["ascii", "latin-1", "cp1252", "utf-8"]))
def test_every_text_can_be_written_and_json_stays_valid(text, encoding):
    """Characters that the encoding does not have become the escapes of JSON, lone surrogates included."""
    buffer, before = io.BytesIO(), (sys.stdout, sys.stderr)
    sys.stdout = io.TextIOWrapper(buffer, encoding=encoding)
    try:
        protect_streams()
        sys.stdout.write(json.dumps({"text": text}, ensure_ascii=False))
        sys.stdout.flush()
        written = buffer.getvalue().decode(encoding)
    finally:
        sys.stdout, sys.stderr = before
    assert json.loads(written) == {"text": text}


@pytest.mark.parametrize("kind", ["pipe", "terminal"])
def test_text_for_a_closed_terminal_or_pipe_is_discarded(kind):
    """Each layer of a text stream accepts the text."""
    reader, writer = os.pipe() if kind == "pipe" else pty.openpty()
    os.close(reader)
    with io.TextIOWrapper(io.BufferedWriter(LossyFile(writer, "w")), write_through=True) as stream:
        stream.write("text")
        stream.flush()
        stream.buffer.write(b"bytes")
        stream.buffer.flush()


def test_result_for_a_closed_pipe_is_discarded_up_to_the_end():
    """The buffer is flushed into /dev/null."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        with ignore_lost_output(stream):
            stream.write("text")
        stream.write("more")
        assert os.fstat(writer).st_rdev == os.stat(os.devnull).st_rdev


def test_other_errors_are_not_hidden():
    """A full disk is reported."""
    with open("/dev/full", "w") as file:
        with pytest.raises(OSError, match="No space"), LossyFile(file.fileno(), "w", closefd=False) as lossy:
            lossy.write(b"text")
        with pytest.raises(OSError, match="No space"), ignore_lost_output(file):
            raise OSError(errno.ENOSPC, "No space")
