"""Real runs that attacks start from, written with `ockham.Run`."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import math
import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from ockham.plugins.gate import OckhamGatePlugin
from ockham.record import attempt
from ockham.record.checkpoints import CheckpointFiles, find_resume_point
from ockham.record.log_writer import LogWriter
from ockham.record.tlog.note import load_or_create_signer
from ockham.run import Run
from tests.attacks.crashes import crash
from tests.attacks.world import Files, Key, World, make_key, read_folder
from tests.helpers.ranks import run_on_threads
from tests.helpers.safetensors_file import make_safetensors

DATA = {"name": "made", "sha256": "0" * 64}
SEGMENT_EVENTS = 25


@dataclass
class Template:
    """A complete run, and all checkpoints that it ever saved."""

    name: str
    run_id: str
    files: Files
    attic: Files = field(default_factory=dict)


@dataclass(frozen=True)
class Templates:
    """All runs, and the keys."""

    runs: tuple[Template, ...]
    key: Key
    old_key: Key

    def world(self, template: Template) -> World:
        """Return a copy of a run that can be changed."""
        donors = [other.files for other in self.runs if other is not template]
        return World(dict(template.files), template.run_id, donors, template.attic, self.old_key)


class SeededDraw:
    """Choices of a seeded generator."""

    def __init__(self, seed: object) -> None:
        self._random = random.Random(str(seed))

    def integer(self, low: int, high: int) -> int:
        """Return a number from low to high."""
        return self._random.randint(low, high)


def make_templates(folder: Path) -> Templates:
    """Write all runs below *folder*. The trusted key is the one of the user."""
    signer = load_or_create_signer()
    key = Key(signer.key, signer.verifier.name)
    with _small_segments():
        finished = [_run(folder, f"finished-{length}", "a", length) for length in (1, 14)]
        other = _run(folder, "other", "b", 9)
        resumed = [_resumed(folder, f"resumed-{seed}", finished[1], key, seed) for seed in range(2)]
        twice = _resumed(folder, "twice", resumed[0], key, 7)
        ranks = _ranks(folder, "ranks", None, 2)
        one_rank = _resumed_ranks(folder, "fewer-ranks", ranks, key, 1)
        two_ranks = _resumed_ranks(folder, "same-ranks", ranks, key, 2)
    runs = (*finished, other, *resumed, twice, ranks, one_rank, two_ranks)
    return Templates(runs, key, make_key(b"an old key"))


@contextlib.contextmanager
def _small_segments() -> Iterator[None]:
    writer, derive = attempt.LogWriter, attempt.Attempt._derive_in_background
    attempt.LogWriter = functools.partial(LogWriter, segment_events=SEGMENT_EVENTS)
    attempt.Attempt._derive_in_background = lambda *_: None
    try:
        yield
    finally:
        attempt.LogWriter, attempt.Attempt._derive_in_background = writer, derive


def _run(folder: Path, name: str, run_id: str, batches: int) -> Template:
    template = Template(name, run_id, {})
    with Run("balanced", runs=folder / name, run_id=run_id, data=DATA, facts=_facts(batches)) as run:
        _train(run, range(batches), template)
    template.files = read_folder(run.folder.path)
    return template


def _resumed(folder: Path, name: str, before: Template, key: Key, seed: int) -> Template:
    """Resume a run after a crash."""
    template, runs = _killed(folder, name, before, key, seed)
    start = find_resume_point(runs, before.run_id)
    with Run(runs=runs, run_id=before.run_id, resumed=start, data=DATA, facts=_facts(99)) as run:
        if start.path is not None:
            run.load_state_dict(start.state["run"])
        _train(run, range(start.iter_num, start.iter_num + 9), template)
    template.files = read_folder(run.folder.path)
    return template


def _killed(folder: Path, name: str, before: Template, key: Key, seed: int) -> tuple[Template, Path]:
    world = World(dict(before.files), before.run_id, (), before.attic, key)
    draw = SeededDraw(("killed", seed))
    crash(world, draw, key)
    while not any(path.startswith("checkpoints/resume") for path in world.files):
        world = World(dict(before.files), before.run_id, (), before.attic, key)
        crash(world, draw, key)
    runs = folder / name
    world.write(runs)
    return Template(name, before.run_id, {}, dict(before.attic)), runs


def _ranks(folder: Path, name: str, start: Any, world_size: int) -> Template:
    template = Template(name, "a", {})
    _run_ranks(folder / name, template, world_size, resume=False)
    return template


def _resumed_ranks(folder: Path, name: str, before: Template, key: Key, world_size: int) -> Template:
    template, runs = _killed(folder, name, before, key, 3)
    _run_ranks(runs, template, world_size, resume=True)
    return template


def _run_ranks(runs: Path, template: Template, world_size: int, *, resume: bool) -> None:
    lock = threading.Lock()

    def work(rank: int, gather: Any) -> None:
        kwargs: dict[str, Any] = {"facts": _facts(99)}
        first = 0
        if resume:
            kwargs["resumed"] = find_resume_point(runs, "a", rank=rank, world_size=world_size)
            first = kwargs["resumed"].iter_num
        plugins = [OckhamGatePlugin(surprise_threshold=2.0)]
        kwargs |= {"rank": rank, "world_size": world_size}
        kwargs["all_gather"] = gather if world_size > 1 else None
        with Run(plugins=plugins, runs=runs, run_id="a", data=DATA, **kwargs) as run:
            _train(run, range(first, first + 9), template, lock)

    problems = [error for error in run_on_threads(work, world_size) if error is not None]
    if problems:
        raise problems[0]
    template.files = read_folder(runs / "a")


def _facts(batches: int) -> dict[str, Any]:
    return {"max_iters": batches, "vocab_size": 256, "model_params": 1000, "warmup_iters": 1, "seed": 7}


def _train(run: Run, batches: range, template: Template, lock: threading.Lock | None = None) -> None:
    draw = random.Random(f"{template.name} {batches}")
    for i in batches:
        loss = 2 + 3 * math.exp(-i / 40) + draw.gauss(0, 0.2)
        ctx = run.start_batch(i, loss, learning_rate=1e-3)
        run.end_batch(ctx, grad_norm=draw.uniform(0.3, 2.0))
        saved = []
        if i % 3 == 2:
            run.evaluate(ctx, 2 + 3 * math.exp(-i / 40), tokens=100)
            if ctx.accepted:
                saved.append(run.save_checkpoint(ctx, "accepted", _pack))
            saved.append(run.save_checkpoint(ctx, "resume", _pack))
        for snapshot_id in saved if run.peers.rank == 0 else ():
            with lock or contextlib.nullcontext():
                path = run.folder.checkpoint(snapshot_id)
                found = {
                    f"checkpoints/{snapshot_id}/{file.name}": file.read_bytes() for file in path.iterdir()
                }
                template.attic.update(found)


def _pack(metadata: Any, state: Any) -> CheckpointFiles:
    weights = make_safetensors(metadata)
    files = {"model.safetensors": weights}
    if state is not None:
        files["state.json"] = orjson.dumps({**state, "iter_num": metadata["iter_num"]})
    return CheckpointFiles(files, hashlib.sha256(weights).hexdigest())
