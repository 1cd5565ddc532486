"""Help as people read it: every verb says what it does, has examples, and each example can be typed."""

from __future__ import annotations

import pytest
import typer.main
from typer.testing import CliRunner

from ockham.cli import build_app
from tests.helpers.cli_parser import parse, verbs

APP = build_app()
ROOT = typer.main.get_command(APP)
VERBS = dict(verbs(ROOT))


def test_the_tree_is_walked():
    """Verbs, and the sub-verbs of odr."""
    assert {"ockham train", "ockham runs", "ockham odr new", "ockham odr upgrade"} <= set(VERBS)
    assert len(VERBS) > 35


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_examples_that_can_be_typed(verb):
    """Under `Examples:`, each on a line of its own, whole at any width, and of this verb."""
    told = CliRunner().invoke(APP, [*verb.split()[1:], "--help"], env={"COLUMNS": "60"}).stdout
    _, found, after = told.partition("\n  Examples:\n")
    assert found, told
    lines = [
        line.strip() for line in after.partition("\nArguments:")[0].partition("\nOptions:")[0].splitlines()
    ]
    examples = [line for line in lines if line]
    assert examples
    for line in examples:
        assert line.startswith(("ockham --runs ", f"{verb} ", verb)), line
        parse(ROOT, line)


@pytest.mark.parametrize("verb", VERBS)
def test_every_argument_and_option_is_explained(verb):
    """No line of the help has an option and nothing beside it."""
    for parameter in VERBS[verb].params:
        assert getattr(parameter, "help", None), f"{verb} {parameter.name}"


@pytest.mark.parametrize("words", [[], ["odr"]])
def test_no_summary_is_cut_on_a_narrow_terminal(words):
    """80 columns show each verb's first sentence whole."""
    told = CliRunner().invoke(APP, [*words, "--help"], env={"COLUMNS": "80"}).stdout
    verbs = told.partition("\nCommands:\n")[2].splitlines()
    assert verbs
    assert [line for line in verbs if line.endswith("...")] == []


@pytest.mark.parametrize(
    "line",
    [
        "ockham nope",
        "ockham query --nope",
        "ockham pin",
        "ockham tail night-1 -n much",
        "ockham odr graph -f pdf",
    ],
)
def test_what_cannot_be_typed_is_seen(line):
    """The parser that the two tests above rely on does refuse."""
    with pytest.raises((AssertionError, typer.BadParameter.__bases__[0])):
        parse(ROOT, line)
