"""Commands import nothing from an untrusted working folder."""

from __future__ import annotations

import functools
import os
import subprocess
import sys

import pytest

from ockham.record import attempt
from ockham.record.log_writer import LogWriter
from tests.helpers.runs import make_run

# Modules that libraries try to import and that do not exist on Linux, optional packages, and modules of the
# standard library, which the working folder hides if it is first on the path.
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
    """A run of many segments, so that verify starts processes, with a plugin and traps next to it."""
    folder = tmp_path_factory.mktemp("untrusted")
    (folder / "untrusted_loud.py").write_text(PLUGIN.format(mark=str(folder / "made")))
    (folder / "loud.yaml").write_text(
        "extends: balanced\nplugins: {loud: {use: 'untrusted_loud:Loud', factor: 0.5}}\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attempt, "LogWriter", functools.partial(LogWriter, segment_events=40))
        patch.setattr(attempt.Attempt, "_derive_in_background", lambda *_: None)
        patch.syspath_prepend(str(folder))
        make_run(folder / "runs", "a", 60, policy=folder / "loud.yaml")
    sys.modules.pop("untrusted_loud")
    (folder / "untrusted_loud.py").write_text(PLUGIN.format(mark=str(folder / "caught-plugin")))
    for name in TRAPS:
        mark = folder / f"caught-{name}"
        (folder / f"{name}.py").write_text(f"open({str(mark)!r}, 'w').close()\n")
    return folder


def ockham(folder, *words, program=("-c", "from ockham.cli import main; main()")):
    """Run the command like the installed script: -P removes the working folder from the path."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONSAFEPATH"}
    options = ["-P"] if program[0] == "-c" else []
    return subprocess.run(
        [sys.executable, *options, *program, *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
    )


def take_marks(folder):
    """Return the names of the imported traps, and delete their marks."""
    names = [path.name for path in folder.glob("caught-*")]
    for name in names:
        (folder / name).unlink()
    return names


@pytest.mark.parametrize(
    "words",
    [
        ("verify", "a", "--jobs", "2"),
        ("replay", "a"),
        ("query", "select 1 as x"),
        ("whatif", "a", "--set", "gate.target=0.3"),
        ("doctor",),
    ],
)
def test_readers_import_nothing_from_the_working_folder(folder, words):
    """Neither the process nor its child processes import optional packages from there."""
    done = ockham(folder, *words)
    assert done.returncode == 0, done.stderr
    assert take_marks(folder) == []


def test_python_m_ockham_imports_nothing_from_the_working_folder(folder):
    """Python puts the working folder first for -m."""
    done = ockham(folder, "runs", program=("-m", "ockham"))
    assert done.returncode == 0, done.stderr
    assert take_marks(folder) == []


def test_whatif_imports_third_party_plugins_only_if_trusted(folder):
    """The recorded policy names the plugin, and the run is untrusted."""
    done = ockham(folder, "whatif", "a", "--set", "loud.factor=0.25")
    assert done.returncode == 2
    assert take_marks(folder) == []
    assert "third-party code (untrusted_loud:Loud)" in done.stderr
    assert "--trust-plugins" in done.stderr
    trusted = ockham(folder, "whatif", "a", "--set", "loud.factor=0.25", "--trust-plugins")
    assert trusted.returncode == 0, trusted.stderr
    assert "caught-plugin" in take_marks(folder)
