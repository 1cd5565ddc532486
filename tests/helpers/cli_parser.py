"""Parse command lines against the tree of commands, without running them."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Iterator
from typing import Any

SHELL_WORDS = (">", "|", "&&", ";", "<")


def split_words(line: str) -> list[str]:
    """Return the words of an `ockham` command, without torchrun before it and shell syntax after it."""
    words = shlex.split(line, comments=True)
    if words and words[0] == "torchrun":
        words = words[words.index("ockham") :]
    return list(itertools.takewhile(lambda word: word not in SHELL_WORDS, words))


def parse(root: Any, line: str) -> Any:
    """Return the context of the command that a line names, or None for --help and --version.

    Args:
        root: Command that `typer.main.get_command` returned.
        line: An `ockham ...` line.

    Raises:
        AssertionError: If the command does not exist.
        UsageError: If the parser rejects an option, an argument or a value.

    """
    _, *words = split_words(line)
    command = root
    if words[:1] == ["--runs"]:
        words = words[2:]
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        name, *words = words
        assert name in command.commands, f"unknown command {name!r}: {line}"
        command = command.commands[name]
    if {"--help", "-h", "--version"} & set(words):
        return None
    assert not hasattr(command, "commands") or command is root, f"command missing: {line}"
    return command.make_context(line, words) if command is not root else None


def list_commands(command: Any, name: str = "ockham") -> Iterator[tuple[str, Any]]:
    """Yield every command and subcommand with the words that select it."""
    if hasattr(command, "commands"):
        for key, child in command.commands.items():
            yield from list_commands(child, f"{name} {key}")
    else:
        yield name, command
