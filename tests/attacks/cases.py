"""One case: a run, honest crashes or attacks, and what the commands report of it against the model.

`CHECKS` contains one function per command. A test that kills commands passes `disturb` to `make_case`. It
gets the written run folder before the model reads it.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ockham.catalog.signed_sizes import SignedSizes
from ockham.catalog.verified_logs import VerifiedLogs
from ockham.cli.checkpoint_lookup import find_checkpoint
from ockham.errors import OckhamError
from ockham.record.checkpoints import find_resume_point
from ockham.record.evidence import read_evidence
from ockham.record.evidence_archive import write_archive
from ockham.record.lineage import lineage
from ockham.record.repair import rebuild
from ockham.record.run_folder import RunFolder
from ockham.record.tlog.note import parse_key
from ockham.record.verify import standalone
from ockham.record.verify.report import NOTE_CLASSES
from ockham.record.verify.run import verify_run
from ockham.run import Run
from tests.attacks.crashes import crash
from tests.attacks.operations import attack
from tests.attacks.oracle import LogModel, Model, compare_logs, read_model
from tests.attacks.templates import Templates
from tests.attacks.world import Draw, World, choose, read_folder

MAX_OPERATIONS = 4
# Files that a verifier need not have: Parquet and tiles are derived, an archive contains no checkpoint.
DERIVED = frozenset({"derived"})
_SIGNED = re.compile(r"log (\S+): \d+ events, signed to (\d+), root")
# Changes a run folder after it was written, such as a repair. A hook for tests that kill commands.
Disturb = Callable[[Path], None]


@dataclass
class Case:
    """A written run folder, what was done to it, and what the model expects."""

    runs: Path
    root: Path
    world: World
    template: str
    honest: bool
    model: Model
    key: str
    parquet: bool
    steps: Sequence[str]
    problems: list[str] = field(default_factory=list)

    @property
    def operations(self) -> list[str]:
        """Return what was done."""
        return self.world.operations

    @property
    def source(self) -> str:
        """Return whether a crash or an attack made the case."""
        return "crash" if self.honest else "attack"

    @property
    def recorded_id(self) -> str:
        """Return the run ID in run.json, or nothing if it cannot be read."""
        try:
            return str(json.loads((self.root / "run.json").read_bytes())["run_id"])
        except (OSError, ValueError, LookupError, TypeError):
            return ""

    @property
    def expected(self) -> str:
        """Return the gravest class, or `sound`."""
        return _name(self.model.findings)


def make_case(templates: Templates, draw: Draw, folder: Path, disturb: Disturb | None = None) -> Case:
    """Draw a run and its changes, and write it below *folder*."""
    template = choose(draw, templates.runs)
    world = templates.world(template)
    honest = draw.integer(0, 3) == 0
    if honest or draw.integer(0, 2) == 0:
        crash(world, draw, templates.key)
    for _ in range(0 if honest else draw.integer(1, MAX_OPERATIONS)):
        attack(world, draw)
    runs = folder / "runs"
    shutil.rmtree(runs, ignore_errors=True)
    root = world.write(runs)
    files = world.files
    if disturb is not None:
        disturb(root)
        files = read_folder(root)
    model = read_model(files, world.run_id, templates.key.text)
    parquet = "change_parquet" in world.operations or draw.integer(0, 19) == 0
    return Case(
        runs, root, world, template.name, honest, model, templates.key.text, parquet, _draw_steps(draw)
    )


def _draw_steps(draw: Draw) -> list[str]:
    """Return what the owner does afterwards, in most cases nothing."""
    number = choose(draw, [0] * 12 + [1, 2, 3])
    return [choose(draw, ["repair", "resume"]) for _ in range(number)]


def check_case(case: Case) -> list[str]:
    """Run all checks over a case. Return the disagreements, each with the name of its check."""
    for check in CHECKS:
        try:
            case.problems += [f"{check.__name__}: {problem}" for problem in check(case)]
        except OckhamError as error:
            case.problems.append(f"{check.__name__}: unexpected {type(error).__name__}: {error}")
        except Exception:
            case.problems.append(f"{check.__name__}: traceback: {traceback.format_exc(limit=-3)}")
    return case.problems


def check_honest_crash(case: Case) -> Iterator[str]:
    """An honest crash contradicts nothing."""
    if case.honest and case.model.findings:
        yield f"the model finds {sorted(case.model.findings)}"


def check_verifiers(case: Case) -> Iterator[str]:
    """Both verifiers give the class of the model, in the folder and in the archive."""
    expected = set(case.model.findings)
    own = _verify(case)
    if not case.model.logs:
        # Nothing can be verified.
        return
    if own is None:
        if case.recorded_id == case.root.name:
            yield "ockham verify refuses the run"
    elif case.recorded_id not in (case.root.name, ""):
        yield "ockham verify accepts a folder of another name than run.json records"
    elif case.root.name != case.world.run_id:
        # Without a readable run.json the name of the folder is the run ID.
        pass
    elif case.honest and "derived" in own:
        yield "ockham verify reports derived files of an honest crash"
    elif problem := _difference(own, expected):
        yield f"ockham verify: {problem}"
    if case.recorded_id != case.world.run_id:
        # The packed verifier takes the run ID from run.json. Nothing is signed under another ID.
        if any(log.signed for log in case.model.logs.values()) and not _standalone(case, case.root):
            yield "verify.py calls a run of another ID sound"
        return
    problem = _difference(_standalone(case, case.root), expected, archive=True)
    if problem:
        yield f"verify.py in the folder: {problem}"
    if own is None:
        return
    packed = case.runs / "evidence.zip"
    packed.unlink(missing_ok=True)
    try:
        write_archive(RunFolder(case.runs, case.root.name), packed)
    except OckhamError as error:
        if case.honest:
            yield f"an honest crash cannot be packed: {error}"
        return
    problem = _difference(_standalone(case, packed), expected, archive=True)
    if problem:
        yield f"verify.py of the archive: {problem}"


def check_evidence(case: Case) -> Iterator[str]:
    """The evidence reader returns exactly the signed lines of the model."""
    evidence = read_evidence(
        RunFolder(case.runs, case.root.name), [parse_key(case.key)], select=lambda _: True
    )
    for (attempt, rank), log in evidence.logs.items():
        model = case.model.logs.get(f"{attempt}-{rank}", LogModel(""))
        read, proven = [line for _, line in log.lines], model.lines[: model.signed]
        if read != proven and case.root.name == case.world.run_id:
            yield f"{len(log.lines)} lines of log {attempt}-{rank} are evidence, not {model.signed}"
    if _contradicted(case) and not evidence.problems:
        yield "the evidence has no problem, and a signed event names another root"


def _contradicted(case: Case) -> bool:
    """Return True if a signed event of the run names another root of a log, or one that is not signed."""
    logs = case.model.logs
    found = {kind for log in logs.values() for kind in compare_logs(log, logs)} - {"gap"}
    return bool(found) and case.root.name == case.world.run_id


def check_catalog(case: Case) -> Iterator[str]:
    """A verified catalog answers with the signed lines, or refuses the run."""
    try:
        logs = VerifiedLogs(SignedSizes([parse_key(case.key)])).read(RunFolder(case.runs, case.root.name))
    except (OckhamError, OSError) as error:
        if case.honest:
            yield f"an honest crash cannot be queried: {error}"
        return
    proven = sum(log.signed for log in case.model.logs.values())
    read = sum(tail.lines for tail, _ in logs.values())
    if read != proven and case.root.name == case.world.run_id:
        yield f"a verified catalog has {read} events, not {proven}"
    if _contradicted(case):
        yield "a verified catalog answers, and a signed event names another root"


def check_lineage(case: Case) -> Iterator[str]:
    """Only bytes of a signed event are confirmed."""
    weights = sorted(case.root.glob("checkpoints/*/*.safetensors"))[:6]
    for path in weights:
        try:
            found = lineage(path, case.runs, [parse_key(case.key)])
        except OckhamError:
            continue
        signed = {file["sha256"] for snapshot_id, data in case.model.saved.items() for file in data["files"]}
        if not found.problems and found.sha256 not in signed:
            yield f"lineage confirms {path.parent.name}/{path.name}, which no signed event names"


def check_resume_point(case: Case) -> Iterator[str]:
    """A resume reads only files of a signed event, and reports only a signed end."""
    try:
        start = find_resume_point(case.runs, case.root.name)
    except OckhamError as error:
        if case.honest:
            yield f"an honest crash cannot be resumed: {error}"
        return
    files = read_folder(case.root)
    digest = hashlib.sha256(files.get("run.json", b"")).hexdigest()
    kinds = ("run.started", "run.resumed")
    first = [data for log in case.model.logs.values() for kind in kinds for data in log.data(kind)]
    if any(data.get("run_json_sha256", digest) != digest for data in first):
        yield "takes settings from a run.json that no signed event names"
    name = start.snapshot_id
    if name is not None and (name in case.model.pruned or not case.model.files_match(files, name)):
        yield f"resumes from {name}, which is pruned, unsigned or changed"
    if start.ended is not None and start.ended not in case.model.ends.values():
        yield f"reports the end {start.ended!r}, which no signed event contains"


def check_lookup(case: Case) -> Iterator[str]:
    """`sample` and `weights` use only files and losses of signed events."""
    if _named_key(case.root) != case.key:
        # Without --key the key in run.json is taken.
        return
    try:
        found = find_checkpoint(case.runs, case.root.name)
    except OckhamError:
        return
    losses = {
        data["val_loss"] for log in case.model.logs.values() for data in log.data("evaluation.recorded")
    }
    if not case.model.files_match(read_folder(case.root), found.snapshot_id):
        yield f"{found.snapshot_id} is used, which is pruned, unsigned or changed"
    if found.val_loss is not None and found.val_loss not in losses:
        yield f"the loss {found.val_loss} is in no signed event"


def check_owner(case: Case) -> Iterator[str]:
    """Repairs and resumes cover no unsigned line and lose no signed one. Crashes stay sound."""
    before = case.model
    forged = {line for log in before.logs.values() for line in log.lines[log.signed :]}
    # A copy of a signed line in another place cannot be distinguished from the original.
    forged -= {line for log in before.logs.values() for line in log.lines[: log.signed]}
    for step in case.steps:
        try:
            run_step(case, step)
        except OckhamError as error:
            if case.honest:
                yield f"{step} of an honest crash fails: {error}"
            return
        files = read_folder(case.root)
        case.model = after = read_model(files, case.world.run_id, case.key)
        for name, log in after.logs.items():
            if any(line in forged for line in log.lines[: log.signed]):
                yield f"after {step} a tree head covers a line of log {name} that was not signed before"
        for name, log in before.logs.items():
            kept = after.logs.get(name, LogModel("")).lines
            if kept[: log.signed] != log.lines[: log.signed]:
                yield f"after {step} signed lines of log {name} are lost"
        if case.honest and after.findings:
            yield f"after {step} of an honest crash the model finds {sorted(after.findings)}"
        case.parquet = case.honest
        yield from (f"after {step}: {problem}" for problem in check_verifiers(case))


def run_step(case: Case, step: str) -> None:
    """Repair or resume a run as its owner does."""
    folder = RunFolder(case.runs, case.root.name)
    if step == "repair":
        rebuild(folder)
        return
    start = find_resume_point(case.runs, folder.run_id)
    with Run(plugins=[], runs=case.runs, run_id=folder.run_id, resumed=start, data=start.data) as run:
        for iteration in range(start.iter_num, start.iter_num + 3):
            run.end_batch(run.start_batch(iteration, 2.0), grad_norm=0.5)


def _named_key(root: Path) -> str:
    try:
        return str(json.loads((root / "run.json").read_bytes())["verifier_key"])
    except (OSError, ValueError, LookupError, TypeError):
        return ""


CHECKS: list[Callable[[Case], Iterator[str]]] = [
    check_honest_crash,
    check_verifiers,
    check_evidence,
    check_catalog,
    check_lineage,
    check_resume_point,
    check_lookup,
    check_owner,
]


def _verify(case: Case) -> set[str] | None:
    """Return the classes of `ockham verify`, or None if it refuses the run."""
    try:
        report = verify_run(
            RunFolder(case.runs, case.root.name), keys=[parse_key(case.key)], parquet=case.parquet
        )
    except OckhamError:
        return None
    for log in report.logs:
        name = f"{log.attempt}-{log.rank}"
        model = case.model.logs.get(name, LogModel(name))
        proven = model.signed
        if log.signed != proven and case.root.name == case.world.run_id:
            case.problems.append(f"check_verifiers: ockham verify signs {name} to {log.signed}, not {proven}")
    return set(report.counts) - NOTE_CLASSES


def _standalone(case: Case, path: Path) -> set[str]:
    """Return the classes of the packed verifier."""
    words = ["verify.py", str(path), "--key", case.key]
    before, sys.argv = sys.argv, words
    try:
        with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()):
            status = standalone.main()
    finally:
        sys.argv = before
    lines = out.getvalue().splitlines()
    for line in lines:
        match = _SIGNED.match(line)
        model = case.model.logs.get(match[1], LogModel("")) if match else LogModel("")
        proven = model.signed
        if match and int(match[2]) != proven and case.recorded_id == case.world.run_id:
            case.problems.append(f"check_verifiers: verify.py signs {match[1]} to {match[2]}, not {proven}")
    kinds = {line.partition(":")[0] for line in lines} & _CLASSES
    if status == 2 or (status and not kinds):
        return {"error"}
    return kinds


_CLASSES = frozenset(
    {"tampering", "unsigned", "contradiction", "gap", "policy missing", "corruption", "checkpoint", "derived"}
)


def _difference(found: set[str], expected: set[str], *, archive: bool = False) -> str:
    """Return how classes differ. After tampering, other classes depend on how much is still read."""
    found = found - DERIVED
    if archive:
        # Checkpoints are not part of the evidence.
        found, expected = found - {"checkpoint"}, expected - {"checkpoint"}
    if found == {"error"}:
        # run.json cannot be read.
        return "" if expected else "refuses a run that the model calls sound"
    if "tampering" in found and "tampering" in expected:
        return ""
    return (
        "" if found == expected else f"{sorted(found) or 'sound'} in place of {sorted(expected) or 'sound'}"
    )


def _name(findings: set[str]) -> str:
    order = ("tampering", "corruption", "unsigned", "contradiction", "gap", "policy missing", "checkpoint")
    return next((kind for kind in order if kind in findings), "sound")
