"""Run commands in forks of a process that has imported torch and other packages. This saves start time.

Status, output, working folder, environment and signals are those of a process. Tests of a fresh interpreter
(imported modules, search path, hash seed) need `subprocess`.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path

from ockham.cli import GROUPS

PRELOADED_MODULES = [
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
    # Arrow imports pandas.
    "pandas",
    "pyarrow.pandas_compat",
    # The first query imports sqlglot.
    "sqlglot.dialects.duckdb",
    "sqlglot.optimizer.annotate_types",
    # The first option that is parsed imports Pydantic.
    "typer._adapters",
    *(f"ockham.cli.{name}" for name in GROUPS),
]


def ockham(
    runs: Path,
    *words: str,
    stdin: str = "",
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> subprocess.CompletedProcess:
    """Run `ockham --runs RUNS WORDS...` in the folder of the runs, with additional environment variables."""
    environment = {**os.environ, **(env or {})}
    return run("ockham", "--runs", str(runs), *words, stdin=stdin, env=environment, cwd=cwd or runs)


def run(
    *words: str, stdin: str = "", env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess:
    """Run a command to its end. The arguments are those of `start`."""
    return wait([start(*words, stdin=stdin, env=env, cwd=cwd)])[0]


def start(
    *words: str, stdin: str = "", env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> BaseProcess:
    """Start `ockham ...`, `-m module ...` or `file.py ...`. Pass the process to `wait`.

    Args:
        words: Words of the command, without `python`.
        stdin: Text that the command reads.
        env: Complete environment. None: that of this process.
        cwd: Working folder. None: that of this process.

    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED_MODULES)
    files = [tempfile.mkstemp(prefix="ockham-test-")[1] for _ in range(3)]
    Path(files[0]).write_text(stdin, encoding="utf-8")
    folder = str(cwd or Path.cwd())
    environment = dict(os.environ if env is None else env)
    process = context.Process(target=_run_command, args=(words, environment, folder, files))
    process.words = words
    process.files = files
    process.start()
    return process


def wait(processes: list[BaseProcess], seconds: float = 240) -> list[subprocess.CompletedProcess]:
    """Return status and output of each process.

    Raises:
        TimeoutError: If a process has not ended after *seconds*.

    """
    deadline = time.monotonic() + seconds
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
        if process.exitcode is None:
            for unfinished in processes:
                unfinished.kill()
            raise TimeoutError([Path(path).read_text() for each in processes for path in each.files[1:]])
    return [_collect(process) for process in processes]


def _run_command(words: tuple[str, ...], env: dict[str, str], cwd: str, files: list[str]) -> None:
    """Run a command in the forked process."""
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    # Under nohup the tests themselves ignore it.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    for descriptor, path in enumerate(files):
        os.dup2(os.open(path, os.O_RDWR | os.O_APPEND), descriptor)
    sys.stdin = open(0, closefd=False)
    sys.stdout = open(1, "w", closefd=False)
    sys.stderr = open(2, "w", closefd=False)
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


def _collect(process: BaseProcess) -> subprocess.CompletedProcess:
    _, out, err = (Path(path).read_text() for path in process.files)
    for path in process.files:
        Path(path).unlink()
    return subprocess.CompletedProcess(process.words, process.exitcode, out, err)
