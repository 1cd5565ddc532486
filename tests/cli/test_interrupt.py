"""Ctrl-C: one line at most and status 130, wherever it comes; never a traceback."""

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


def test_while_the_command_is_being_imported(monkeypatch):
    """The package of the verbs takes most of the time that `ockham` needs to begin."""
    monkeypatch.delitem(sys.modules, "ockham.cli")
    monkeypatch.delattr("ockham.cli")
    monkeypatch.setattr(importlib.machinery.SourceFileLoader, "exec_module", interrupt)
    with pytest.raises(SystemExit) as left:
        __main__.main()
    assert left.value.code == cli.INTERRUPTED


def test_while_the_verbs_are_being_imported(monkeypatch, capsys):
    """Each group of verbs is a module of its own."""
    monkeypatch.setattr(cli.importlib, "import_module", interrupt)
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert (left.value.code, capsys.readouterr().err) == (cli.INTERRUPTED, "ockham: interrupted\n")


def test_within_a_query(monkeypatch, capsys):
    """DuckDB makes a RuntimeError of it."""

    def asking():
        threading.Timer(0.05, signal.raise_signal, [signal.SIGINT]).start()
        duckdb.sql("select count(*) from range(100000000) a, range(1000) b").fetchall()

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    try:
        with pytest.raises(SystemExit) as left:
            cli._run_with_exit_codes(lambda: asking)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (left.value.code, capsys.readouterr().err) == (cli.INTERRUPTED, "ockham: interrupted\n")


def test_another_error_is_not_taken_for_it():
    """What is a fault of ours keeps its traceback."""

    def failing():
        raise RuntimeError("out of cheese")

    with pytest.raises(RuntimeError, match="cheese"):
        cli._run_with_exit_codes(lambda: failing)


def test_while_the_pages_begin(monkeypatch):
    """Streamlit stands in our place by then, and has no handler of its own before its server is up."""
    monkeypatch.setitem(sys.modules, "streamlit.web.cli", types.SimpleNamespace(main=interrupt))
    with pytest.raises(SystemExit) as left:
        exec(dashboard.STREAMLIT_BOOTSTRAP, {})
    assert left.value.code == cli.INTERRUPTED
