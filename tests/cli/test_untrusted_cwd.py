"""Who reads a stranger's run may stand in a stranger's folder: what lies there is never run."""

from __future__ import annotations

import functools
import os
import subprocess
import sys

import pytest

from ockham.record import attempt
from ockham.record.log_writer import LogWriter
from tests.helpers.runs import made_run

# Tried by libraries of ours on every start and never there on Linux, tried where they are not installed, and the standard
# library's own, which the working folder hides where it comes first.
TRAPS = (
    "org",
    "msvcrt",
    "winreg",
    "bcrypt",
    "numexpr",
    "bottleneck",
    "json",
    "pickle",
    "multiprocessing",
    "pyarrow",
)
PLUGIN = """
import pathlib
import ockham
pathlib.Path({mark!r}).write_text("imported")
class Loud(ockham.OccamPlugin):
    def __init__(self, factor: float = 0.5): self.factor = factor
    def on_batch_start(self, ctx):
        ctx.learning_rate *= self.factor
        ctx.decide("SCALE", "LOUD", 1.0, 2.0)
        return ctx
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run of many segments, so that verify begins processes, with a plugin and traps beside it."""
    folder = tmp_path_factory.mktemp("stranger")
    (folder / "stranger_loud.py").write_text(PLUGIN.format(mark=str(folder / "made")))
    (folder / "loud.yaml").write_text(
        "extends: balanced\nplugins: {loud: {use: 'stranger_loud:Loud', factor: 0.5}}\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attempt, "LogWriter", functools.partial(LogWriter, segment_events=40))
        patch.setattr(attempt.Attempt, "_derive_in_background", lambda *_: None)
        patch.syspath_prepend(str(folder))
        made_run(folder / "runs", "a", 60, policy=folder / "loud.yaml")
    sys.modules.pop("stranger_loud")
    (folder / "stranger_loud.py").write_text(PLUGIN.format(mark=str(folder / "caught-plugin")))
    for name in TRAPS:
        (folder / f"{name}.py").write_text(f"open({str(folder / f'caught-{name}')!r}, 'w').close()\n")
    return folder


def ockham(folder, *words, program=("-c", "from ockham.cli import main; main()")):
    """As the installed command is run: `-P` leaves the working folder out, as a script in another folder does."""
    given = {key: value for key, value in os.environ.items() if key != "PYTHONSAFEPATH"}
    return subprocess.run(
        [sys.executable, *(["-P"] if program[0] == "-c" else []), *program, *words],
        cwd=folder, env=given, capture_output=True, text=True, timeout=100,
    )  # fmt: skip


def caught(folder):
    found = [path.name for path in folder.glob("caught-*")]
    for name in found:
        (folder / name).unlink()
    return found


@pytest.mark.parametrize(
    "words",
    [("verify", "a", "--jobs", "2"), ("replay", "a"), ("query", "select 1 as x"), ("whatif", "a", "--set", "gate.target=0.3"), ("doctor",)],
)  # fmt: skip
def test_reading_runs_nothing_that_lies_in_the_working_folder(folder, words):
    """Neither what a library would like to have, nor what the processes begin with that we begin."""
    done = ockham(folder, *words)
    assert done.returncode == 0, done.stderr
    assert caught(folder) == []


def test_python_m_ockham_does_not_run_it_either(folder):
    """`-m` puts the working folder before everything else."""
    done = ockham(folder, "runs", program=("-m", "ockham"))
    assert done.returncode == 0, done.stderr
    assert caught(folder) == []


def test_settings_of_a_strangers_plugin_are_not_checked_by_importing_it(folder):
    """A what-if on the recorded policy: its plugin's path is the stranger's word."""
    done = ockham(folder, "whatif", "a", "--set", "loud.factor=0.25")
    assert (done.returncode, caught(folder)) == (2, [])
    assert "third-party code (stranger_loud:Loud)" in done.stderr
    assert "--trust-plugins" in done.stderr
    trusted = ockham(folder, "whatif", "a", "--set", "loud.factor=0.25", "--trust-plugins")
    assert trusted.returncode == 0, trusted.stderr
    assert "caught-plugin" in caught(folder)
