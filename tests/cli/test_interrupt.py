"""Ctrl-C: exit status 130 and at most one line at any time, never a traceback."""

from __future__ import annotations

import importlib
import signal
import sys
import threading
import types

import duckdb
import pytest

from ockham import __main__, cli
from ockham.cli import dashboard


def interrupt(*_ignored, **_too):
    raise KeyboardInterrupt


def test_interrupt_during_import_exits_with_130(monkeypatch):
    """Importing the package takes most of the start time."""
    monkeypatch.delitem(sys.modules, "ockham.cli")
    monkeypatch.delattr("ockham.cli")
    monkeypatch.setattr(importlib.machinery.SourceFileLoader, "exec_module", interrupt)
    with pytest.raises(SystemExit) as exit_info:
        __main__.main()
    assert exit_info.value.code == cli.INTERRUPTED


def test_interrupt_during_import_of_commands_prints_one_line(monkeypatch, capsys):
    """Each group of commands is a separate module."""
    monkeypatch.setattr(cli.importlib, "import_module", interrupt)
    with pytest.raises(SystemExit) as exit_info:
        cli.main()
    assert exit_info.value.code == cli.INTERRUPTED
    assert capsys.readouterr().err == "ockham: interrupted\n"


def test_interrupt_during_a_query_prints_one_line(monkeypatch, capsys):
    """DuckDB raises a RuntimeError at Ctrl-C."""

    def run_query():
        threading.Timer(0.05, signal.raise_signal, [signal.SIGINT]).start()
        duckdb.sql("select count(*) from range(100000000) a, range(1000) b").fetchall()

    # A background job of a shell ignores the signal.
    previous_handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(SystemExit) as exit_info:
            cli._run_with_exit_codes(lambda: run_query)
    finally:
        signal.signal(signal.SIGINT, previous_handler)
    assert exit_info.value.code == cli.INTERRUPTED
    assert capsys.readouterr().err == "ockham: interrupted\n"


def test_other_runtime_error_keeps_its_traceback():
    """An unexpected error is not hidden."""

    def failing():
        raise RuntimeError("unexpected")

    with pytest.raises(RuntimeError, match="unexpected"):
        cli._run_with_exit_codes(lambda: failing)


def test_interrupt_during_the_start_of_the_pages_exits_with_130(monkeypatch):
    """Streamlit replaces the process, and has no handler until its server runs."""
    monkeypatch.setitem(sys.modules, "streamlit.web.cli", types.SimpleNamespace(main=interrupt))
    with pytest.raises(SystemExit) as exit_info:
        exec(dashboard.STREAMLIT_BOOTSTRAP, {})
    assert exit_info.value.code == cli.INTERRUPTED
