"""Run the code blocks of a documentation page in order, and compare their output.

A page is Markdown. Its blocks are executed in one empty folder, from top to bottom:

* `console`: each line that begins with `$ ` is a command. The lines below it are its expected output. A line
  `...` matches any number of lines. A command without output lines may print anything.
* `bash`: every line is a command. The output is not compared.
* `python`, `yaml` and others: written to a file if a directive names one. Otherwise, `python` is run.

A directive is an HTML comment on the line above the block:

* `<!-- file: my_loop.py -->`: write the block to this file.
* `<!-- test: exit 1 -->`: the last command of the block ends with this status. All others end with 0.
* `<!-- test: numbers vary -->`: numbers in the output are not compared.
* `<!-- test: skip: REASON -->`: do not run the block. Its commands are still parsed.
* `<!-- test: setup: COMMAND -->`: run a command that the reader does not see.

`python -m tests.helpers.doc_pages docs/tutorial.md` writes the outputs that differ into the page.
"""

from __future__ import annotations

import fcntl
import functools
import multiprocessing
import os
import pty
import re
import runpy
import shlex
import struct
import subprocess
import sys
import tempfile
import termios
import textwrap
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ockham import resources
from tests.helpers import forked_cli, page_inputs

ROOT = resources.data_root()
COMMAND_TIMEOUT_SECONDS = 120
# `ockham train` of a page gets these settings last, so that a page is tested in seconds on a CPU. Without
# --data it also gets a fixed text: the default text, and with it all losses, depend on the version of Python.
SMALL_MODEL = {
    "n_layer": 1,
    "n_head": 2,
    "n_embd": 32,
    "block_size": 8,
    "batch_size": 16,
    "eval_batches": 2,
    "threads": 1,
    "device": "cpu",
    "learning_rate": 2e-2,
    "min_lr": 2e-3,
    "max_iters": 80,
}
_FENCE = re.compile(r"(`{3,})(\w*)")
_DIRECTIVE = re.compile(r"<!-- (file|test): (.*) -->")
_NORMALISED = [
    (r"\x1b\[[0-9;?]*[a-zA-Z]|\r", ""),
    (r"ockham-[0-9a-f]{8}\+[0-9a-f]{8}\+[\w+/=]+", "<key>"),
    (r"\b[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}\b", "<id>"),
    (r"\b\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d)?(\.\d+)?Z?", "<time>"),
    (r"\b[0-9a-f]{12,64}\b…?", "<hex>"),
    (r"\b\d+(\.\d+)? (us|µs|ms|s|seconds)\b", "<duration>"),
    (r"\b\d+ signed tree heads?", "<n> signed tree heads"),
    (r"\bday=\d{4}-\d\d-\d\d", "day=<day>"),
    (r"─+", "─"),
    (r"[ \t]+", " "),
]


@dataclass
class Command:
    """A command of a page with its expected output, and the lines of the page that contain this output."""

    text: str
    expected: list[str] = field(default_factory=list)
    first_line: int = 0


@dataclass
class Block:
    """A fenced code block with its directives."""

    kind: str
    line: int
    body: list[str]
    file: str | None
    options: list[str]

    @property
    def is_skipped(self) -> bool:
        """True if a directive excludes the block from execution."""
        return any(option.startswith("skip") for option in self.options)

    @property
    def exit_status(self) -> int:
        """Expected status of the last command."""
        return next((int(o.split()[1]) for o in self.options if o.startswith("exit ")), 0)

    @property
    def commands(self) -> list[Command]:
        """The commands of a `console` or `bash` block, with continuation lines joined."""
        found: list[Command] = []
        is_open = False
        for number, line in enumerate(self.body, self.line + 1):
            if is_open:
                found[-1].text += "\n" + line
                found[-1].first_line = number + 1
            elif self.kind == "bash" and line.strip():
                found.append(Command(line, first_line=number + 1))
            elif self.kind == "console" and line.startswith("$ "):
                found.append(Command(line[2:], first_line=number + 1))
            elif self.kind == "console":
                found[-1].expected.append(line)
                continue
            is_open = line.endswith("\\")
        return found


class PageError(AssertionError):
    """A block of a page that does not do what the page shows."""


def read_blocks(text: str) -> Iterator[Block | str]:
    """Return the blocks of a page, and hidden set-up commands as text, in their order."""
    lines = text.splitlines()
    file: str | None = None
    options: list[str] = []
    number = 0
    while number < len(lines):
        line = lines[number]
        number += 1
        if match := _DIRECTIVE.fullmatch(line):
            if match[2].startswith("setup: "):
                yield match[2].removeprefix("setup: ")
            elif match[1] == "file":
                file = match[2]
            else:
                options.append(match[2])
        elif match := _FENCE.fullmatch(line):
            end = lines.index(match[1], number)
            yield Block(match[2], number, lines[number:end], file, options)
            file, options, number = None, [], end + 1


def normalise(text: str, *, numbers_vary: bool = False) -> list[str]:
    """Return the lines of an output with everything replaced that differs from run to run."""
    for pattern, replacement in _NORMALISED:
        text = re.sub(pattern, replacement, text)
    if numbers_vary:
        text = re.sub(r"\d[\d,.]*", "<n>", text)
    return [line.strip() for line in text.splitlines() if line.strip()]


def matches(expected: list[str], actual: str, *, numbers_vary: bool = False) -> bool:
    """Return True if an output has the expected lines; `...` matches any number of lines."""
    lines = normalise("\n".join(expected), numbers_vary=numbers_vary)
    parts = ["(.*\n)*?" if line == "..." else re.escape(line) + "\n" for line in lines]
    text = "".join(line + "\n" for line in normalise(actual, numbers_vary=numbers_vary))
    return re.fullmatch("".join(parts), text) is not None


def needs_shell(text: str) -> bool:
    """Return True if a command has pipes, redirections, expansions or several parts."""
    command = text.replace("\\\n", " ").partition(" #")[0]
    without_single = re.sub(r"'[^']*'", "", command)
    bare = re.sub(r'"[^"]*"', "", without_single)
    return bool(set("$`") & set(without_single) or set("|&;<>()*~\n") & set(bare))


class PageRunner:
    """Runs a page in a folder, which is the reader's working folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        tools = folder.parent / f"{folder.name}-tools"
        self.corpus = tools / "corpus"
        page_inputs.write_corpus(self.corpus)
        self.environment = {
            **os.environ,
            "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "ignore",
            "OCKHAM_KEY_DIR": str(tools / "keys"),
            "XDG_STATE_HOME": str(tools / "state"),
            "TERM": "dumb",
        }
        self.environment.pop("CI", None)
        for name, command in {"ockham": "-m ockham", "python": ""}.items():
            script = tools / name
            script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {command} "$@"\n', encoding="utf-8")
            script.chmod(0o755)

    def run(self, text: str, on_difference: Callable[[Command, str], None] | None = None) -> None:
        """Execute a page.

        Args:
            text: The page.
            on_difference: Called with each command whose output differs, and its output. None: raise.

        Raises:
            PageError: If a command ends with another status or prints something else.

        """
        for block in read_blocks(text):
            if isinstance(block, str):
                self._expect(Command(block), 0)
            elif block.file is not None:
                path = self.folder / block.file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("\n".join(block.body) + "\n", encoding="utf-8")
            elif block.is_skipped:
                continue
            elif block.kind == "python":
                (self.folder / "snippet.py").write_text("\n".join(block.body) + "\n", encoding="utf-8")
                self._expect(Command("python snippet.py", first_line=block.line), block.exit_status)
            elif block.kind in ("bash", "console"):
                self._run_commands(block, on_difference)

    def _run_commands(self, block: Block, on_difference: Callable[[Command, str], None] | None) -> None:
        numbers_vary = "numbers vary" in block.options
        commands = block.commands
        for command in commands:
            status = block.exit_status if command is commands[-1] else 0
            output = self._expect(command, status)
            if not any(command.expected) or matches(command.expected, output, numbers_vary=numbers_vary):
                continue
            if on_difference is None:
                expected = "\n".join(command.expected)
                raise PageError(f"$ {command.text}\nexpected:\n{expected}\n\nprinted:\n{output}")
            on_difference(command, output)

    def _expect(self, command: Command, status: int) -> str:
        actual, output = self._execute(command.text)
        if actual != status:
            raise PageError(f"$ {command.text}\nexpected status {status}, got {actual}:\n{output}")
        return output

    def _execute(self, text: str) -> tuple[int, str]:
        """Return status and output of a command at a terminal of 80 columns."""
        words = shlex.split(text, comments=True)
        if not words:
            return 0, ""
        text = self._made_small(text, words)
        if words[0] in ("ockham", "python") and not needs_shell(text):
            words = shlex.split(text, comments=True)
            return run_in_fork(words, self.folder, self.environment)
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", text],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=COMMAND_TIMEOUT_SECONDS,
        )
        return done.returncode, done.stdout

    def _made_small(self, text: str, words: list[str]) -> str:
        """Return a training command with a fixed text and the settings of a small model added."""
        if words[:2] not in (["ockham", "train"], ["ockham", "ablate"]) or "--resume" in words:
            return text
        is_continued = "--init-from" in words
        sizes = {"n_layer", "n_head", "n_embd", "block_size"} if is_continued else set()
        added = [f"--set {name}={value}" for name, value in SMALL_MODEL.items() if name not in sizes]
        if "--data" not in words:
            added.append(f"--data {shlex.quote(str(self.corpus))}")
        command, _, comment = text.partition(" #")
        return f"{command.rstrip()} {' '.join(added)}" + (f" #{comment}" if comment else "")


def run_in_fork(words: list[str], folder: Path, environment: dict[str, str]) -> tuple[int, str]:
    """Run `ockham ...` or `python ...` in a process that is forked from one with all modules loaded.

    Its standard output and error are a terminal of 80 columns.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(forked_cli.PRELOADED_MODULES)
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    chunks: list[bytes] = []
    reader = threading.Thread(target=functools.partial(_read_all, master, chunks), daemon=True)
    reader.start()
    process = context.Process(target=_become, args=(words, str(folder), environment, os.ttyname(slave)))
    process.start()
    process.join(COMMAND_TIMEOUT_SECONDS)
    if process.exitcode is None:
        process.kill()
        process.join()
    os.close(slave)
    reader.join()
    os.close(master)
    return process.exitcode or 0, b"".join(chunks).decode("utf-8", "replace").replace("\r\n", "\n")


def _read_all(descriptor: int, chunks: list[bytes]) -> None:
    """Read a terminal until its other end is closed."""
    try:
        while chunk := os.read(descriptor, 65536):
            chunks.append(chunk)
    except OSError:
        return


def _become(words: list[str], folder: str, environment: dict[str, str], terminal: str) -> None:
    """Run a command in the forked process."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    os.setsid()
    standard_input = os.open(os.devnull, os.O_RDONLY)
    output = os.open(terminal, os.O_RDWR)
    for descriptor, source in enumerate((standard_input, output, output)):
        os.dup2(source, descriptor)
    sys.stdin, sys.stdout, sys.stderr = (open(fd, "wr"[fd == 0], closefd=False) for fd in range(3))
    if words[0] == "ockham":
        from ockham.cli import main

        sys.argv = words
        main()
    elif words[1] == "-m":
        sys.argv = words[2:]
        runpy.run_module(words[2], run_name="__main__", alter_sys=True)
    else:
        sys.argv = words[1:]
        sys.path.insert(0, str((Path(folder) / words[1]).parent))
        runpy.run_path(words[1], run_name="__main__")


def rewrite(page: Path) -> bool:
    """Run a page and write the outputs that differ into it; return True if one did."""
    text = page.read_text(encoding="utf-8")
    changes: list[tuple[int, int, list[str]]] = []

    def replace(command: Command, output: str) -> None:
        clean = re.sub(_NORMALISED[0][0], "", output)
        lines = [line.rstrip() for line in textwrap.dedent(clean).splitlines()]
        while lines and not lines[0]:
            lines.pop(0)
        while lines and not lines[-1]:
            lines.pop()
        keeps_blank_line = [""] if command.expected[-1] == "" else []
        start = command.first_line - 1
        changes.append((start, start + len(command.expected), [*lines, *keeps_blank_line]))

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "page"
        place.mkdir()
        PageRunner(place).run(text, replace)
    lines = text.splitlines()
    for start, end, output in reversed(changes):
        lines[start:end] = output
    page.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return bool(changes)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(name, "changed" if rewrite(Path(name)) else "unchanged")
