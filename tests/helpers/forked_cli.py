"""Commands in processes that are forked from one with torch and the rest imported: a whole process each, without the start.

Status, output, working folder, environment and signals are those of a process; what a fresh interpreter alone can show
(which modules it loads, what it finds in the working folder, its seed of hashes) needs `subprocess`.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path

from ockham.cli import GROUPS

PRELOADED = [
    "torch",
    "torch.distributed.fsdp",
    "torch._dynamo",
    "ockham.guard.guard",
    "ockham.nano.overrides",
    "ockham.nano.ddp",
    "ockham.odr.check",
    "ockham.odr.fix",
    "ockham.odr.output_formats",
    "ockham.odr.arrow_tables",
    "ockham.record.verify.run",
    "ockham.replay.runner",
    "ockham.run",
    "pandas",  # Arrow asks for it
    "pyarrow.pandas_compat",
    "sqlglot.dialects.duckdb",  # read at the first query
    "sqlglot.optimizer.annotate_types",
    "typer._adapters",  # Pydantic, at the first option that is read
    *(f"ockham.cli.{name}" for name in GROUPS),
]


def run(
    *words: str, stdin: str = "", env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess:
    """A command up to its end, as `begun` takes it."""
    return ended([begun(*words, stdin=stdin, env=env, cwd=cwd)])[0]


def begun(
    *words: str, stdin: str = "", env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> BaseProcess:
    """`ockham ...`, `-m module ...` or `file.py ...`, begun; `ended` tells of it.

    Args:
        words: what is typed, without `python`.
        stdin: what it reads.
        env: its whole environment; None: this process's.
        cwd: its working folder; None: this process's.

    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    files = [tempfile.mkstemp(prefix="ockham-test-")[1] for _ in range(3)]
    Path(files[0]).write_text(stdin, encoding="utf-8")
    place = str(cwd or Path.cwd())
    process = context.Process(
        target=_become, args=(words, dict(os.environ if env is None else env), place, files)
    )
    process.words, process.files = words, files
    process.start()
    return process


def _become(words: tuple[str, ...], env: dict[str, str], cwd: str, files: list[str]) -> None:
    """In the new process: be the command."""
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    for descriptor, path in enumerate(files):
        os.dup2(os.open(path, os.O_RDWR | os.O_APPEND), descriptor)
    sys.stdin, sys.stdout, sys.stderr = (open(fd, "wr"[fd == 0], closefd=False) for fd in range(3))
    if words[0] == "ockham":
        from ockham.cli import main

        sys.argv = list(words)
        main()
    elif words[0] == "-m":
        sys.argv = list(words[1:])
        runpy.run_module(words[1], run_name="__main__")
    else:
        sys.argv = list(words)
        runpy.run_path(words[0], run_name="__main__")


def ended(processes: list[BaseProcess], seconds: float = 100) -> list[subprocess.CompletedProcess]:
    """Status and output of each, which must all end by themselves."""
    deadline = time.monotonic() + seconds
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
        if process.exitcode is None:
            for each in processes:
                each.kill()
            raise TimeoutError([Path(path).read_text() for each in processes for path in each.files[1:]])
    return [_told(process) for process in processes]


def _told(process: BaseProcess) -> subprocess.CompletedProcess:
    _, out, err = (Path(path).read_text() for path in process.files)
    for path in process.files:
        Path(path).unlink()
    return subprocess.CompletedProcess(process.words, process.exitcode, out, err)
