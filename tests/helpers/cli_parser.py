"""A command as it is typed, against the tree of verbs: does it parse, without doing anything?"""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Iterator
from typing import Any

SHELL = (">", "|", "&&", ";", "<")


def words(line: str) -> list[str]:
    """The words of a command line, up to what is the shell's."""
    return list(itertools.takewhile(lambda word: word not in SHELL, shlex.split(line, comments=True)))


def parse(root: Any, line: str) -> Any:
    """The verb's context for an `ockham ...` line, of a root that `typer.main.get_command` made.

    Raises whatever the parser raises: an unknown verb or option, a missing argument, a value of another kind.
    """
    _, *rest = words(line)
    command = root
    if rest[:1] == ["--runs"]:
        rest = rest[2:]
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        name, *rest = rest
        assert name in command.commands, f"no verb {name!r}: {line}"
        command = command.commands[name]
    if {"--help", "--version"} & set(rest):
        return None
    assert not hasattr(command, "commands") or command is root, f"{line}: which verb?"
    return command.make_context(line, rest) if command is not root else None


def verbs(command: Any, name: str = "ockham") -> Iterator[tuple[str, Any]]:
    """Every verb and sub-verb by what is typed."""
    if hasattr(command, "commands"):
        for key, child in command.commands.items():
            yield from verbs(child, f"{name} {key}")
    else:
        yield name, command
