"""Help: every command has a description, panels, plain metavars and examples that parse."""

from __future__ import annotations

import pytest
import typer.main
from typer.testing import CliRunner

from ockham.cli import RootGroup, build_app
from ockham.cli.odr import OdrGroup
from tests.helpers.cli_parser import list_commands, parse

APP = build_app()
ROOT = typer.main.get_command(APP)
COMMANDS = dict(list_commands(ROOT))
USAGE_ERROR = typer.BadParameter.__mro__[1]


def read_help(*words, columns=80):
    return CliRunner().invoke(APP, [*words, "--help"], env={"COLUMNS": str(columns)}).stdout


def test_list_commands_contains_commands_and_subcommands():
    """The tests below cover the whole tree."""
    assert {"ockham train", "ockham runs", "ockham odr new", "ockham odr upgrade"} <= set(COMMANDS)
    assert len(COMMANDS) > 35


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command_has_examples_that_parse(command):
    """Each example stays on one line on a narrow terminal, and names the command."""
    text = read_help(*command.split()[1:], columns=60)
    _, heading, rest = text.partition("\n  Examples:\n")
    assert heading
    section = rest.partition("\nArguments:")[0].partition("\nOptions:")[0]
    examples = [line.strip() for line in section.splitlines() if line.strip()]
    assert examples
    for example in examples:
        assert example.startswith(("ockham --runs ", command, "torchrun ")), example
        parse(ROOT, example)


@pytest.mark.parametrize(("words", "group"), [((), RootGroup), (("odr",), OdrGroup)])
def test_help_of_each_group_lists_every_command_in_a_panel(words, group):
    """No command is missing from the panels, and no panel names an unknown command."""
    text = read_help(*words)
    listed = [name for names in group.panels.values() for name in names]
    commands = ROOT.commands["odr"].commands if words else ROOT.commands
    assert sorted(listed) == sorted(commands)
    for title in group.panels:
        assert f"\n{title}:\n" in text


@pytest.mark.parametrize("words", [(), ("odr",)])
def test_help_of_each_group_has_examples_that_parse(words):
    """The top level of the help contains examples too."""
    section = read_help(*words).partition("\n  Examples:\n")[2]
    examples = [line.strip() for line in section.splitlines() if line.strip().startswith("ockham ")]
    assert examples
    for example in examples:
        parse(ROOT, example)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_argument_and_option_has_help(command):
    """Every line of the help has a description."""
    for parameter in COMMANDS[command].params:
        assert getattr(parameter, "help", None), f"{command} {parameter.name}"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_no_python_types(command):
    """Metavars such as RUN and N replace types such as <str>."""
    text = read_help(*command.split()[1:])
    assert "<" not in text.replace("x<=", "").replace("<=x", "")
    assert "{" not in text.partition("\n")[0]


@pytest.mark.parametrize("command", COMMANDS)
def test_each_option_has_one_long_spelling(command):
    """No option has an alias."""
    for parameter in COMMANDS[command].params:
        long_names = [name for name in parameter.opts if name.startswith("--")]
        assert len(long_names) <= 1, long_names


@pytest.mark.parametrize(
    "command",
    [
        "ockham why",
        "ockham show",
        "ockham verify",
        "ockham replay",
        "ockham lineage",
        "ockham prove",
        "ockham schema",
        "ockham doctor",
        "ockham tail",
        "ockham odr list",
        "ockham odr show",
    ],
)
def test_each_reader_has_format_and_output(command):
    """-f and -o are options of all readers."""
    names = {name for parameter in COMMANDS[command].params for name in parameter.opts}
    assert {"-f", "-o", "-q", "-v"} <= names


@pytest.mark.parametrize("words", [[], ["odr"]])
def test_no_summary_is_cut_at_80_columns(words):
    """The first sentence of each command fits."""
    text = read_help(*words).partition("\n  Examples:\n")[2]
    assert [line for line in text.splitlines() if line.endswith("...")] == []


def test_short_help_option_prints_the_help():
    """-h is --help."""
    assert (
        CliRunner().invoke(APP, ["verify", "-h"]).stdout
        == CliRunner().invoke(APP, ["verify", "--help"]).stdout
    )


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
def test_parse_rejects_an_invalid_line(line):
    """The parser that the tests above use finds errors."""
    with pytest.raises((AssertionError, USAGE_ERROR)):
        parse(ROOT, line)
