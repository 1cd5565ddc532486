"""Errors: one tree, one exit status for each class, and the nearest name."""

from __future__ import annotations

import inspect

import pytest

from ockham import errors
from ockham.errors import OckhamError, PluginError, suggest_name

CLASSES = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, Exception)]


@pytest.mark.parametrize("cls", CLASSES)
def test_every_error_stands_in_the_tree_and_in_its_drawing(cls):
    """One root, so that the command line catches one class; the drawing lists all."""
    assert issubclass(cls, OckhamError)
    assert cls.__name__ in errors.__doc__
    assert cls.__doc__


@pytest.mark.parametrize(
    ("cls", "status"),
    [("BadInputError", 2), ("PolicyError", 2), ("QueryError", 2), ("PluginError", 1), ("LogHaltedError", 3),
     ("InvalidEventError", 3), ("UnverifiableError", 3), ("ContextError", 2)],
)  # fmt: skip
def test_exit_statuses(cls, status):
    """2: what a person typed; 1: a plugin; 3: the log or the evidence."""
    assert getattr(errors, cls).exit_status == status


def test_the_nearest_name_or_all_of_them():
    """A typo is answered with one name, anything else with the list."""
    assert suggest_name("gat", ["gate", "limiter"]) == "; did you mean 'gate'?"
    assert suggest_name("zzz", ["limiter", "gate"]) == "; known: gate, limiter"
    assert suggest_name("zzz", []) == "; known: none"


def test_a_plugin_error_says_who_where_and_when():
    """Its fields are what the event `plugin.failed` is made of."""
    error = PluginError("gate", "on_batch_start", 12, ValueError("no"))
    assert (error.plugin, error.hook, error.iter_num) == ("gate", "on_batch_start", 12)
    assert str(error) == "plugin 'gate' failed in on_batch_start at iteration 12: ValueError: no"
