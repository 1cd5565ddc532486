"""Classes of the commands: help in panels, standard metavars, and usage errors in one line."""

from __future__ import annotations

import difflib
import functools
import inspect
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from ockham.cli.output import set_verbosity
from ockham.errors import BadInputError, suggest_name

# Typer contains a copy of click since version 0.26; earlier versions import click itself.
UsageError: Any = typer.BadParameter.__mro__[1]
HELP_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 120}
# Typer puts a default that is given as text into parentheses.
_TEXT_DEFAULT = re.compile(r"default: \(([^)]*)\)(?=[;\]])")
_RANGE = re.compile(r"(\[|; )(?:[-+.\w]+<=)?x(?:[<>]=[-+.\w]+)?(;|\])")
# SQL that starts with a comment. Without the space in front it would be an option.
_SQL_COMMENT = re.compile(r"--(?:\s|[^=\n]*\n)")
MIN_SIMILARITY = 0.7
NUMBER_KINDS = {int: "a whole number", float: "a number"}
METAVARS = {int: "N", float: "X", Path: "PATH"}


class OckhamCommand(TyperCommand):
    """A command whose help shows no Python types, and whose errors quote the value."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.context_settings = {**HELP_SETTINGS, **self.context_settings}
        for parameter in self.params:
            _set_metavar(parameter)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:  # noqa: ARG002 - signature of the base class
        """Return the words of the usage line after the command name."""
        arguments = [parameter for parameter in self.params if parameter.param_type_name == "argument"]
        return ["[OPTIONS]", *(_format_argument(argument) for argument in arguments)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments and the options of the help."""
        arguments, options = [], []
        for parameter in self.get_params(ctx):
            if parameter.param_type_name == "argument":
                arguments.append((_format_argument(parameter), getattr(parameter, "help", None) or ""))
            elif (record := parameter.get_help_record(ctx)) is not None:
                options.append((record[0], _format_option_help(parameter, record[1])))
        for title, rows in (("Arguments", arguments), ("Options", options)):
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words; an invalid value is quoted in the error, with the accepted values."""
        if any(parameter.metavar == "SQL" for parameter in self.params):
            args = [f" {word}" if _SQL_COMMENT.match(word) else word for word in args]
        # Otherwise the parser of the completion stops at an option without a value, and sees no argument.
        if ctx.resilient_parsing and args and args[-1].startswith("-"):
            args = args[:-1]
        words = list(args)
        try:
            return super().parse_args(ctx, args)
        except UsageError as error:
            error.ctx = error.ctx or ctx
            if (
                isinstance(error, typer.BadParameter)
                and error.param is not None
                and not hasattr(error, "param_type")
            ):
                error.message = self._describe_value(ctx, words, error.param) or error.message
            raise

    def main(self, *args: Any, standalone_mode: bool = True, **settings: Any) -> Any:
        """Run the command; a usage error becomes a BadInputError."""
        return _run_main(super().main, args, settings, standalone_mode=standalone_mode)

    def _describe_value(self, ctx: Any, words: list[str], parameter: Any) -> str | None:
        """Return the problem of a value and what is accepted, or None if the value was not typed."""
        values, _, _ = self.make_parser(ctx).parse_args(args=words)
        value = values.get(parameter.name)
        descriptor = getattr(parameter, "type_descriptor", None)
        if value is None or descriptor is None or isinstance(value, list):
            return None
        if descriptor.choices:
            choices = ", ".join(str(getattr(choice, "value", choice)) for choice in descriptor.choices)
            return f"{value!r} is not accepted; accepted: {choices}"
        kind = NUMBER_KINDS.get(descriptor.annotation)
        if kind is None:
            return None
        limits = _format_limits(descriptor.parameter_info.min, descriptor.parameter_info.max)
        try:
            descriptor.annotation(value)
        except ValueError:
            return f"{value!r} is not {kind}" + (f"; accepted: {limits}" if limits else "")
        return f"{value} is out of range; accepted: {limits}"


class PanelGroup(TyperGroup):
    """A group whose help lists its commands in panels. Subclasses set `panels`."""

    panels: ClassVar[Mapping[str, Sequence[str]]] = {}

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - signature of the base class
        """Return the command names in the order of the panels."""
        names = [name for panel in self.panels.values() for name in panel if name in self.commands]
        return [*names, *(name for name in self.commands if name not in names)]

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - signature of the base class
        """Write one section of the help for each panel."""
        width = max(map(len, self.commands))
        for title, names in self.panels.items():
            rows = [
                (name.ljust(width), self.commands[name].get_short_help_str(formatter.width - 6 - width))
                for name in names
                if name in self.commands
            ]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the commands first, then the options of the group."""
        self.format_commands(ctx, formatter)
        OckhamCommand.format_options(self, ctx, formatter)  # type: ignore[arg-type]

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that the first word names."""
        name = args[0]
        if name not in self.commands and not name.startswith("-") and not ctx.resilient_parsing:
            raise UsageError(f"unknown command {name!r}{suggest_name(name, self.commands)}", ctx=ctx)
        return super().resolve_command(ctx, args)

    def main(self, *args: Any, standalone_mode: bool = True, **settings: Any) -> Any:
        """Run the group; a usage error becomes a BadInputError."""
        return _run_main(super().main, args, settings, standalone_mode=standalone_mode)


def configure_commands(app: typer.Typer) -> None:
    """Give all commands of an app and of its groups the common class, options and help layout."""
    for command in app.registered_commands:
        # A module-level app, such as that of `odr`, belongs to every command line that is built.
        if command.callback is not None and command.cls is not OckhamCommand:
            command.help = _format_examples(inspect.getdoc(command.callback) or "")
            command.callback = _add_verbosity_options(command.callback)
            _add_completion(command.callback)
        command.cls = OckhamCommand
    for group in app.registered_groups:
        if group.typer_instance is not None:
            configure_commands(group.typer_instance)
    if app.registered_callback is not None and app.registered_callback.callback is not None:
        app.registered_callback.help = _format_examples(
            inspect.getdoc(app.registered_callback.callback) or ""
        )


def _format_examples(text: str) -> str:
    """Keep every example on a line of its own: a wrapped example cannot be copied."""
    text = text.replace("Examples:\n", "Examples:\n\n")
    return re.sub(r"\n\n+(?=  +(?:ockham|torchrun) )", "\n\n\b\n", text)


def _add_verbosity_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function with the options -q and -v, which work before and after the command."""
    from ockham.cli.options import QuietOption, VerboseOption

    hints = get_type_hints(function, include_extras=True)
    signature = inspect.signature(function)
    parameters = [
        parameter.replace(annotation=hints.get(name, parameter.annotation))
        for name, parameter in signature.parameters.items()
    ]
    for name, annotation in (("quiet", QuietOption), ("verbose", VerboseOption)):
        parameters.append(
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=annotation)
        )

    @functools.wraps(function)
    def call(*args: Any, quiet: bool = False, verbose: bool = False, **settings: Any) -> Any:
        set_verbosity(quiet=quiet, verbose=verbose)
        return function(*args, **settings)

    call.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return call


def _add_completion(function: Callable[..., Any]) -> None:
    """Let the shell complete the values of arguments and options with a known metavar."""
    from ockham.cli.completion import find_completer

    for annotation in function.__annotations__.values():
        for info in getattr(annotation, "__metadata__", ()):
            if getattr(info, "autocompletion", info) is None:
                info.autocompletion = find_completer(info.metavar)


def _set_metavar(parameter: Any) -> None:
    """Set a metavar in capitals where the signature has none."""
    if parameter.metavar is not None or getattr(parameter, "is_flag", False):
        return
    if parameter.param_type_name == "argument":
        parameter.metavar = parameter.name.upper()
        return
    descriptor = getattr(parameter, "type_descriptor", None)
    if descriptor is None:
        return
    if descriptor.choices:
        parameter.metavar = "|".join(str(getattr(choice, "value", choice)) for choice in descriptor.choices)
    else:
        parameter.metavar = METAVARS.get(descriptor.annotation, parameter.name.upper())


def _format_argument(argument: Any) -> str:
    """Return `RUN`, `[SQL]` or `[RECORD]...`."""
    name = argument.metavar or argument.name.upper()
    text = name if argument.required else f"[{name}]"
    return text if argument.nargs == 1 else f"{text}..."


def _format_option_help(option: Any, text: str) -> str:
    """Return the help of an option with plain words for its default and its limits."""
    descriptor = getattr(option, "type_descriptor", None)
    text = _TEXT_DEFAULT.sub(r"default: \1", text)
    if descriptor is None:
        return text
    limits = _format_limits(descriptor.parameter_info.min, descriptor.parameter_info.max)
    return _RANGE.sub(lambda match: f"{match[1]}{limits}{match[2]}", text) if limits else text


def _format_limits(low: float | None, high: float | None) -> str:
    if low is None and high is None:
        return ""
    if high is None:
        return f"{low} or more"
    return f"at most {high}" if low is None else f"{low} to {high}"


def _run_main(
    main: Callable[..., Any], args: Sequence[Any], settings: dict[str, Any], *, standalone_mode: bool
) -> Any:
    try:
        status = main(*args, standalone_mode=False, **settings)
    except UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()
            sys.exit(2)
        raise BadInputError(_format_usage_error(error)) from None
    if standalone_mode:
        sys.exit(status if isinstance(status, int) else 0)
    return status


def _format_usage_error(error: Any) -> str:
    """Return `<thing>: <problem>; <what is accepted or what to do>` for an error of the parser."""
    context, parameter = error.ctx, getattr(error, "param", None)
    path = context.command_path if context is not None else "ockham"
    usage = " ".join([path, *context.command.collect_usage_pieces(context)]) if context is not None else path
    if parameter is not None:
        name = parameter.metavar if parameter.param_type_name == "argument" else max(parameter.opts, key=len)
        if hasattr(error, "param_type"):
            return f"{name}: missing {parameter.param_type_name}; usage: {usage}"
        return f"{name}: {error.message.removeprefix('Value error, ').rstrip('.')}"
    option = getattr(error, "option_name", None)
    if option is not None and hasattr(error, "possibilities"):
        return f"{option}: unknown option of `{path}`{_suggest_option(option, context)}"
    if option is not None:
        return f"{option}: missing value; `{path} --help` describes it"
    message = error.message.rstrip(".")
    message = message[:1].lower() + message[1:]
    advice = "" if ";" in message else f"; usage: {usage}"
    # Every error starts with `ockham: `.
    command = path.removeprefix("ockham").strip()
    thing = f"{command}: " if command else ""
    return f"{thing}{message}{advice}"


def _suggest_option(option: str, context: Any) -> str:
    options = [
        max(parameter.opts, key=len)
        for parameter in context.command.get_params(context)
        if parameter.param_type_name == "option"
    ]
    names = {name.lstrip("-"): name for name in options}
    close = difflib.get_close_matches(option.lstrip("-"), names, n=1, cutoff=MIN_SIMILARITY)
    return f"; did you mean {names[close[0]]}?" if close else f"; options: {', '.join(sorted(options))}"
