"""Errors: the class tree, the exit status of each class, and suggestions of names."""

from __future__ import annotations

import ast
import inspect

import pytest

from ockham import errors, resources
from ockham.errors import OckhamError, PluginError, suggest_name

CLASSES = [
    c
    for _, c in inspect.getmembers(errors, inspect.isclass)
    if issubclass(c, Exception) and not issubclass(c, Warning)
]


@pytest.mark.parametrize("cls", CLASSES)
def test_every_error_is_in_the_tree_and_its_diagram(cls):
    """The command line catches one base class."""
    assert issubclass(cls, OckhamError)
    assert cls.__name__ in errors.__doc__
    assert cls.__doc__


@pytest.mark.parametrize(
    ("cls", "status"),
    [
        ("BadInputError", 2),
        ("PolicyError", 2),
        ("QueryError", 2),
        ("PluginError", 1),
        ("LogHaltedError", 3),
        ("InvalidEventError", 3),
        ("UnverifiableError", 3),
        ("ContextError", 2),
    ],
)
def test_exit_status_depends_on_the_class(cls, status):
    """2 input, 1 plugin, 3 log or evidence."""
    assert getattr(errors, cls).exit_status == status


def test_suggest_name_returns_one_name_or_all():
    """A typo gets one name."""
    assert suggest_name("gat", ["gate", "limiter"]) == "; did you mean 'gate'?"
    assert suggest_name("zzz", ["limiter", "gate"]) == "; known: gate, limiter"
    assert suggest_name("zzz", []) == "; known: none"


def test_plugin_error_has_the_fields_of_its_event():
    """plugin.failed contains them."""
    error = PluginError("gate", "on_batch_start", 12, ValueError("no"))
    assert (error.plugin, error.hook, error.iter_num) == ("gate", "on_batch_start", 12)
    assert str(error) == "plugin 'gate' failed in on_batch_start at iteration 12: ValueError: no"


def test_every_warning_of_the_package_has_its_category():
    """The command line prints warnings of this category as one line."""
    for path in resources.PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "warnings.warn":
                assert "OckhamWarning" in map(ast.unparse, node.args), f"{path}:{node.lineno}"
