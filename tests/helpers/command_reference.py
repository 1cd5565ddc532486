"""Markdown for the command reference, from the Typer application and the error classes."""

from __future__ import annotations

import enum
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import typer
from typer.models import ArgumentInfo, OptionInfo

from ockham import errors
from ockham.cli import build_app

_METAVARS = {str: "TEXT", int: "INTEGER", float: "NUMBER", Path: "PATH"}


class Parameter(NamedTuple):
    """An argument or option of a command, as the reference shows it."""

    spelling: str
    value: str
    default: str
    help: str
    is_argument: bool
    is_required: bool
    is_repeated: bool


class Command(NamedTuple):
    """A command with its full name, the group that `--help` shows it in, and its function."""

    name: str
    panel: str
    callback: Callable[..., Any]


def list_commands(app: typer.Typer | None = None, prefix: str = "ockham") -> Iterator[Command]:
    """Return all commands in the order of `--help`, subcommands included."""
    app = app or build_app()
    for info in app.registered_commands:
        if info.callback is not None and not info.hidden:
            name = info.name or info.callback.__name__.replace("_", "-")
            yield Command(f"{prefix} {name}", _text(info.rich_help_panel), info.callback)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            yield from list_commands(group.typer_instance, f"{prefix} {group.name}")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def list_parameters(callback: Callable[..., Any]) -> list[Parameter]:
    """Return the arguments and options of a command function, without hidden ones."""
    hints = typing.get_type_hints(callback, include_extras=True)
    found = []
    for name, parameter in inspect.signature(callback).parameters.items():
        kind, info = _split_annotation(hints[name])
        if info is not None and not info.hidden:
            found.append(_describe(name, kind, info, parameter.default))
    return found


def _split_annotation(hint: Any) -> tuple[Any, OptionInfo | ArgumentInfo | None]:
    """Return the type and Typer's description of `Annotated[type, typer.Option(...)]`."""
    for extra in getattr(hint, "__metadata__", ()):
        if isinstance(extra, OptionInfo | ArgumentInfo):
            return hint.__origin__, extra
    return hint, None


def _describe(name: str, kind: Any, info: OptionInfo | ArgumentInfo, default: Any) -> Parameter:
    """Return one row of a command's table."""
    inner, is_repeated = _unwrap(kind)
    is_argument = isinstance(info, ArgumentInfo)
    is_required = default is inspect.Parameter.empty or default is ...
    value = "" if inner is bool else info.metavar or _value(inner)
    if is_argument:
        spelling = info.metavar or name.upper()
        value = "" if inner in _METAVARS else value
    else:
        # In `Annotated`, Typer keeps the first spelling as the default.
        words = [info.default, *(info.param_decls or ())]
        declared = [word for word in words if isinstance(word, str) and word.startswith("-")]
        dashed = f"--{name.replace('_', '-')}"
        spelling = ", ".join(declared) or (f"{dashed} / --no-{dashed[2:]}" if inner is bool else dashed)
    return Parameter(
        spelling,
        value.strip(),
        _default(info, default),
        " ".join((info.help or "").split()),
        is_argument,
        is_required,
        is_repeated,
    )


def _unwrap(kind: Any) -> tuple[Any, bool]:
    """Return the type inside `X | None` and `list[X]`, and whether the value may be repeated."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        kind = next(part for part in typing.get_args(kind) if part is not types.NoneType)
    if typing.get_origin(kind) is list:
        return typing.get_args(kind)[0], True
    return kind, False


def _value(kind: Any) -> str:
    if typing.get_origin(kind) is typing.Literal:
        return "|".join(str(choice) for choice in typing.get_args(kind))
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return "|".join(str(choice.value) for choice in kind)
    return _METAVARS.get(kind, "TEXT")


def _default(info: OptionInfo | ArgumentInfo, default: Any) -> str:
    variables = [info.envvar] if isinstance(info.envvar, str) else info.envvar or []
    shown = [f"`${variable}`" for variable in variables]
    if isinstance(info.show_default, str):
        shown.append(info.show_default)
    elif default not in (inspect.Parameter.empty, ..., None, False, "", True, []):
        value = default.value if isinstance(default, enum.Enum) else default
        shown.append(f"`{value}`")
    return ", else ".join(shown)


def escape_cell(text: str) -> str:
    """Return a text that does not end a cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|")


def split_docstring(callback: Callable[..., Any]) -> tuple[str, str, list[str]]:
    """Return the first sentence, the rest of the description, and the example lines of a command."""
    text, _, examples = (inspect.getdoc(callback) or "").partition("Examples:")
    summary, _, rest = text.strip().partition("\n\n")
    paragraphs = [" ".join(paragraph.split()) for paragraph in rest.split("\n\n")]
    lines = [line.strip() for line in examples.replace("\b", "").splitlines() if line.strip()]
    return " ".join(summary.split()), "\n\n".join(p for p in paragraphs if p), lines


def overview() -> list[str]:
    """Return a table of all commands with their first sentence."""
    rows = ["| command | purpose |", "|---|---|"]
    for command in list_commands():
        anchor = command.name.replace(" ", "-")
        rows.append(
            f"| [`{command.name}`](#{anchor}) | {escape_cell(split_docstring(command.callback)[0])} |"
        )
    return rows


def commands() -> list[str]:
    """Return a section for each command."""
    lines: list[str] = []
    for command in list_commands():
        summary, rest, examples = split_docstring(command.callback)
        parameters = list_parameters(command.callback)
        lines += [f"### {command.name}", "", summary, ""]
        lines += [rest, ""] if rest else []
        lines += ["```text", _usage(command.name, parameters), "```", ""]
        lines += [*_parameter_table(parameters), ""] if parameters else []
        lines += ["Examples:", "", "```text", *examples, "```", ""] if examples else []
    return lines[:-1]


def _usage(name: str, parameters: list[Parameter]) -> str:
    words = [name, "[OPTIONS]"]
    for parameter in parameters:
        if parameter.is_argument:
            word = parameter.spelling.strip("[]{}.")
            word = f"{word}..." if parameter.is_repeated else word
            words.append(word if parameter.is_required else f"[{word}]")
    return " ".join(words)


def _parameter_table(parameters: list[Parameter]) -> list[str]:
    rows = ["| argument or option | default | meaning |", "|---|---|---|"]
    for parameter in parameters:
        name = f"`{parameter.spelling} {parameter.value}`".replace(" `", "`").replace("|", "\\|")
        default = "required" if parameter.is_required else parameter.default
        is_unsaid = parameter.is_repeated and not parameter.is_argument and "repeated" not in parameter.help
        repeated = " Can be repeated." if is_unsaid else ""
        rows.append(f"| {name} | {escape_cell(default)} | {escape_cell(parameter.help)}{repeated} |")
    return rows


def exit_statuses() -> list[str]:
    """Return a table of the error classes with their exit status and first docstring line."""
    rows = ["| error | exit status | meaning |", "|---|---|---|"]
    classes = [value for value in vars(errors).values() if inspect.isclass(value)]
    for error in classes:
        if issubclass(error, errors.OckhamError):
            first = (inspect.getdoc(error) or "").split("\n\n")[0]
            first = re.sub(r"``?", "`", first)
            rows.append(f"| `{error.__name__}` | {error.exit_status} | {escape_cell(first)} |")
    return rows
