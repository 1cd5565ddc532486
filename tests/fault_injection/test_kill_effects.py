"""A kill at every file effect of a writer, then repairs, resumes and further kills in any order.

make fault-injection    every effect, before it and within each write
make test               a sample
"""

from __future__ import annotations

import collections
import contextlib
import io
import itertools
import os
import random
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import orjson
import pytest

from ockham.record.checkpoints import find_resume_point
from ockham.record.evidence_archive import write_archive
from ockham.record.run_folder import RunFolder
from ockham.record.tlog.note import load_or_create_signer
from ockham.record.verify import standalone
from ockham.record.verify.report import NOTE_CLASSES
from ockham.record.verify.run import verify_run
from tests.attacks.oracle import read_model
from tests.attacks.world import read_folder
from tests.fault_injection.checkpoint_writer import repair_work, run_until_kill, train_work
from tests.fault_injection.crash_disk import traced

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

BATCHES = 15
STEPS = ("repair", "verify", "resume", "killed repair", "killed resume")
# About the number of effects of one step.
MAX_EFFECTS = {"repair": 120, "resume": 450}
# Calls that change a file, as strace names them -> name of the effect.
CALLS = {
    "openat": "open",
    "write": "write",
    "fsync": "fsync",
    "fdatasync": "fdatasync",
    "ftruncate": "ftruncate",
    "rename": "rename",
    "unlink": "unlink",
    "unlinkat": "unlink",
    "mkdir": "mkdir",
    "rmdir": "rmdir",
}
OTHER_CALLS = (
    "creat pwrite64 writev pwritev truncate renameat renameat2 link linkat symlink mkdirat fallocate "
    "copy_file_range sendfile"
)


@dataclass
class History:
    """What a run reported before its kills, and counts for the record."""

    runs: Path
    heads: set[tuple[str, int, str]] = field(default_factory=set)
    iteration: int = -1
    counts: collections.Counter[str] = field(default_factory=collections.Counter)

    def run(self, name: str, draw: random.Random, kill_at: int | None = None, *, torn: bool = False) -> None:
        """Train or repair, and kill it at an effect if the name of the step contains `killed`."""
        work = repair_work(self.runs) if "repair" in name else train_work(self.runs, BATCHES)
        if kill_at is None:
            kill_at = 0
            if "killed" in name:
                kill_at = draw.randint(1, MAX_EFFECTS["repair" if "repair" in name else "resume"])
        reports, killed = run_until_kill(self.runs, work, kill_at, torn=torn)
        for attempt, size, root, iteration in reports:
            self.heads.add((f"{attempt}-0", size, root))
            self.iteration = iteration
        self.counts["kills"] += killed
        self.counts[f"{name}, killed" if killed else f"{name}, complete"] += 1


def check(history: History, *, resumed: bool = False) -> None:
    """Check that the run is sound for three verifiers, and that it has everything that was acknowledged."""
    folder = RunFolder(history.runs, "a")
    if not folder.exists():
        assert history.heads == set()
        return
    key = load_or_create_signer().verifier
    model = read_model(read_folder(folder.path), "a", str(key))
    assert model.findings == set()
    assert [head for head in history.heads if not _has_head(model, *head)] == []
    assert find_resume_point(history.runs, "a").iter_num > history.iteration
    history.counts["verifications"] += 1
    if not folder.logs():
        return
    report = verify_run(folder, keys=[key])
    assert [finding for finding in report.findings if finding.kind not in NOTE_CLASSES] == []
    signed = {f"{log.attempt}-{log.rank}": log.signed for log in report.logs}
    assert signed == dict.fromkeys(signed, 0) | {name: log.signed for name, log in model.logs.items()}
    if resumed:
        left = [(each.kind, each.place) for each in report.findings if each.kind in ("crash tail", "foreign")]
        assert [each for each in left if not _may_remain(*each)] == []
    archive = history.runs.parent / "evidence.zip"
    archive.unlink(missing_ok=True)
    write_archive(folder, archive)
    # Before the first file of the only log, nothing can be packed.
    accepted = {"sound"} if any(log.heads for log in model.logs.values()) else {"sound", "no log in it"}
    for evidence in (folder.path, archive):
        assert _standalone(evidence, str(key)) in accepted


def _may_remain(kind: str, place: str) -> bool:
    """Return True for what a resume leaves: a checkpoint without a signed event, and a begun tree head."""
    heads = place.startswith("log/") and place.endswith(("/checkpoint", "/checkpoints"))
    return place.startswith("checkpoints/resume-") if kind == "foreign" else heads


def _has_head(model, log: str, size: int, root: str) -> bool:
    return model.logs[log].signed >= size and model.logs[log].has_root(size, root)


def _standalone(evidence: Path, key: str) -> str:
    """Return the last line of the packed verifier."""
    words = ["verify.py", str(evidence), "--key", key]
    with mock.patch.object(sys, "argv", words), contextlib.redirect_stdout(io.StringIO()) as out:
        status = standalone.main()
    last = out.getvalue().splitlines()[-1]
    assert (status == 0) == (last == "sound")
    return last


def disturb(runs: Path, kill_at: int, *, torn: bool = False, steps: int = 3) -> collections.Counter[str]:
    """Kill a writer at one effect, then do *steps* drawn steps and a resume. Return counts."""
    history, draw = History(runs), random.Random(2 * kill_at + torn)
    history.run("killed writer", draw, kill_at, torn=torn)
    check(history)
    names = draw.choices(STEPS, k=steps)
    for name in names:
        if name != "verify":
            history.run(name, draw)
        check(history, resumed=name == "resume")
    history.run("resume", draw)
    check(history, resumed=True)
    shutil.rmtree(runs)
    return history.counts


@pytest.mark.parametrize("kill_at", [3, 15, 26, 40, 97, 180, 260, 330, 410])
def test_kill_at_an_effect_leaves_a_sound_run(tmp_path, kill_at):
    """A sample of the effects. Nothing acknowledged is lost, and all verifiers agree."""
    load_or_create_signer()
    disturb(tmp_path / "runs", kill_at, torn=kill_at % 2 == 0, steps=1)


@pytest.mark.fault_injection
@pytest.mark.parametrize("torn", [False, True])
def test_kill_at_every_effect_leaves_a_sound_run(tmp_path, torn):
    """Until the writer ends without a kill. The kill precedes the effect, or is within a write."""
    load_or_create_signer()
    counts: collections.Counter[str] = collections.Counter()
    kill_at = 0
    while not counts["killed writer, complete"]:
        kill_at += 1
        try:
            counts += disturb(tmp_path / "runs", kill_at, torn=torn)
        except Exception as error:
            raise AssertionError(f"killed at effect {kill_at}, torn={torn}") from error
    assert counts["killed writer, killed"] == kill_at - 1 > 300
    print(f"torn={torn}", dict(counts))


def kill_at_each_effect(folder: Path, step: str, effects: Iterable[int]) -> int:
    """Kill a repair or a resume of a killed run at effects until it ends. Return the number of kills."""
    load_or_create_signer()
    runs, before = folder / "runs", folder / "before"
    first = History(runs)
    first.run("killed writer", random.Random(0), 330)
    assert first.heads
    shutil.copytree(runs, before)
    kills = 0
    for kill_at in effects:
        shutil.rmtree(runs)
        shutil.copytree(before, runs)
        history = History(runs, set(first.heads), first.iteration)
        history.run(f"killed {step}", random.Random(0), kill_at)
        check(history)
        if not history.counts["kills"]:
            break
        kills += 1
    return kills


@pytest.mark.parametrize(("step", "effects"), [("repair", [2, 9, 30]), ("resume", [5, 25])])
def test_killed_repair_or_resume_leaves_a_sound_run(tmp_path, step, effects):
    """A sample of the effects."""
    assert kill_at_each_effect(tmp_path, step, effects) == len(effects)


@pytest.mark.fault_injection
@pytest.mark.parametrize("step", ["repair", "resume"])
def test_repair_or_resume_killed_at_every_effect_leaves_a_sound_run(tmp_path, step):
    """The run was killed before, between two checkpoints."""
    kills = kill_at_each_effect(tmp_path, step, itertools.count(1))
    assert kills > 30
    print(f"{step}: {kills} kills")


@pytest.mark.skipif(shutil.which("strace") is None, reason="no strace on this machine")
def test_counted_effects_are_those_of_strace(tmp_path):
    """Otherwise a kill could miss a system call."""
    command = [sys.executable, "-m", "tests.fault_injection.checkpoint_writer", str(tmp_path / "runs"), "7"]
    root = Path(__file__).parents[2]
    env = {**os.environ, "PYTHONPATH": str(root)}
    calls = ",".join([*CALLS, *OTHER_CALLS.split()])
    ops = traced(command, tmp_path / "trace", env, calls=calls, output=tmp_path / "effects")
    below = [op for op in ops if any(str(tmp_path / "runs") in text for text in (op.target, *_texts(op)))]
    changes = [op for op in below if op.call != "openat" or _creates(op.words)]
    assert {op.call for op in changes} <= CALLS.keys()
    counted = collections.Counter(orjson.loads((tmp_path / "effects").read_bytes()))
    assert counted == collections.Counter(CALLS[op.call] for op in changes)
    assert counted.total() > 150


def _texts(op) -> list[str]:
    return [text.decode() for text in op.quoted] if op.call != "write" else []


def _creates(words: str) -> bool:
    """Return True if a file with a name is created or truncated."""
    return ("O_CREAT" in words or "O_TRUNC" in words) and "O_TMPFILE" not in words
