"""Replay of a complete run: every attempt, rank and chunk, by up to one process per core."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from ockham.errors import BadInputError, PolicyError, UnverifiableError
from ockham.plugins import BUILT_IN
from ockham.policy import Policy, policy_from_json
from ockham.policy.plugin_registry import code_digest, plugin_class
from ockham.record.run_folder import RunFolder, read_regular_file
from ockham.replay.chunks import Chunk, LogChunks, split_log
from ockham.replay.engine import MAX_DIFFERENCES, Difference, ReplayResult, replay_chunk
from ockham.replay.json_diff import canonical_json
from ockham.replay.log_reader import KeyFrame, iter_records
from ockham.replay.playback import build_plugins, third_party_plugins

# Bytes of log; below, starting processes costs more than it saves.
MIN_BYTES_FOR_WORKERS = 20_000_000


@dataclass(slots=True)
class LogReplay:
    """Replay result of one log. `code` contains the recorded and the present code digest of each plugin."""

    attempt: int
    rank: int
    policy_revision: str
    events: int
    proof: ReplayResult = field(default_factory=ReplayResult)
    code: dict[str, dict[str, Any]] = field(default_factory=dict)
    # Unsigned events, which are not replayed. `problem` is set if the lines are not the signed ones.
    unsigned: int = 0
    problem: str = ""


@dataclass(slots=True)
class ReplayReport:
    """Replay result of a run, with wall time in seconds and the number of processes."""

    run_id: str
    logs: list[LogReplay]
    seconds: float = 0.0
    processes: int = 1

    def total(self, name: str) -> int:
        """Return the sum of a count of `ReplayResult` over all logs."""
        return sum(getattr(log.proof, name) for log in self.logs)

    @property
    def identical(self) -> bool:
        """True if there is no difference, and the lines are the signed ones."""
        return self.total("found") == 0 and not any(log.problem for log in self.logs)

    @property
    def differences(self) -> list[tuple[LogReplay, Difference]]:
        """The first differences in order."""
        return [(log, one) for log in self.logs for one in log.proof.differences][:MAX_DIFFERENCES]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        counts = ("contexts", "decisions", "identical", "not_replayed", "unfinished", "frames", "found")
        return {
            "run_id": self.run_id,
            "identical": self.identical,
            "counts": {name: self.total(name) for name in counts},
            "seconds": self.seconds,
            "processes": self.processes,
            "decisions_per_second": self.total("decisions") / self.seconds if self.seconds else None,
            "logs": [
                {
                    "attempt": log.attempt,
                    "rank": log.rank,
                    "policy_revision": log.policy_revision,
                    "events": log.events,
                    "unsigned": log.unsigned,
                    "problem": log.problem,
                    "code": log.code,
                    **asdict(log.proof),
                }
                for log in self.logs
            ],
        }


class _Task(NamedTuple):
    folder: RunFolder
    chunk: Chunk
    canonical: bytes
    revision: str
    trust: bool
    fresh_start: bool
    replay_twice: bool


def replay_run(
    folder: RunFolder,
    *,
    trust: bool = False,
    processes: int | None = None,
    iteration: int | None = None,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> ReplayReport:
    """Recompute every decision of a run.

    Args:
        folder: The run. Nothing in it is written.
        trust: Import third-party plugins and replay them too.
        processes: Maximum number of processes. None uses one per core if the log is large enough.
        iteration: Replay only the chunk that contains this iteration. None replays all.
        progress: Called with the number of finished chunks and of all chunks.

    Raises:
        RunError: If the run does not exist.
        BadInputError: If the run has no such iteration.
        UnverifiableError: If log, policy or key frames are missing or unreadable.
        PolicyError: If a trusted plugin cannot be used.

    """
    began = time.monotonic()
    folder.require_exists()
    maps = [split_log(folder, attempt, rank) for attempt, rank in folder.logs()]
    if not any(found.events for found in maps):
        raise UnverifiableError(f"{folder.path} has no log whose events can be read")
    logs = [
        LogReplay(m.attempt, m.rank, m.revision, m.events, unsigned=m.unsigned, problem=m.problem)
        for m in maps
    ]
    tasks: list[tuple[LogReplay, _Task]] = []
    for found, log in zip(maps, logs, strict=True):
        if found.revision:
            tasks += [(log, task) for task in _tasks(folder, found, log, trust=trust, iteration=iteration)]
    if iteration is not None and not tasks:
        raise UnverifiableError(f"run {folder.run_id!r} has no key frame before iteration {iteration}")
    if iteration is None:
        _compare_attempts(maps, logs)
        _compare_rollbacks(maps, logs)
    elif not any(_contains_iteration(task.chunk, iteration) for _, task in tasks):
        raise BadInputError(f"run {folder.run_id!r} has no iteration {iteration}")
    whole = sum(found.size for found in maps)
    wanted = processes or (os.cpu_count() or 1 if whole >= MIN_BYTES_FOR_WORKERS else 1)
    count = max(1, min(wanted, len(tasks)))
    # The last chunk first: state of one chunk in a class or module is wrong for another chunk.
    proofs = []
    for proof in _proofs([task for _, task in reversed(tasks)], count):
        proofs.append(proof)
        progress(len(proofs), len(tasks))
    for (log, _), proof in zip(tasks, reversed(proofs), strict=True):
        _merge_result(log.proof, proof)
    return ReplayReport(folder.run_id, logs, time.monotonic() - began, count)


def _contains_iteration(stretch: Chunk, iteration: int) -> bool:
    subject = f'"subject":"iter/{iteration}"'.encode()
    return any(subject in line for line in stretch.lines())


def _tasks(
    folder: RunFolder, found: LogChunks, log: LogReplay, *, trust: bool, iteration: int | None
) -> list[_Task]:
    revisions = {found.revision: None, **{chunk.revision: None for chunk in found.stretches}}
    policies = {revision: _policy(folder, revision, log.proof) for revision in revisions}
    policy = policies[found.revision]
    log.code = _code(policy, found, trust=trust)
    chosen = found.stretches
    if iteration is not None:
        chosen = [s for s in chosen if s.first_iter <= iteration][-1:]
    # Objects may have been used before the run took them.
    fresh = found.loaded.get("source") != "objects"
    twice = trust and len(chosen) == 1 and bool(third_party_plugins(policy))
    return [_Task(folder, s, policies[s.revision].canonical, s.revision, trust, fresh, twice) for s in chosen]


def _policy(folder: RunFolder, recorded: str, proof: ReplayResult) -> Policy:
    """Return the recorded policy. Bytes that do not match their revision are a difference."""
    path = folder.policy(recorded)
    try:
        canonical = read_regular_file(path)
    except OSError as error:
        raise UnverifiableError(f"cannot read the policy {path}: {error.strerror}") from None
    revision = f"sha256:{hashlib.sha256(canonical).hexdigest()}"
    if revision != recorded:
        proof.add_difference(0, 0, "policy", "policy_revision", recorded, revision)
    try:
        return policy_from_json(canonical)
    except PolicyError as error:
        raise UnverifiableError(f"{path}: {error}") from None


def _code(policy: Policy, found: LogChunks, *, trust: bool) -> dict[str, dict[str, Any]]:
    """Return for each plugin its origin and the recorded and present digest of its code.

    A present digest of None means that the code was not imported.
    """
    foreign = third_party_plugins(policy)
    sources = found.loaded.get("plugins")
    listed = [source for source in sources if isinstance(source, dict)] if isinstance(sources, list) else []
    then = {str(source.get("plugin")): source.get("code_sha256") for source in listed}
    return {
        entry["name"]: {
            "use": entry["use"],
            "recorded_sha256": then.get(entry["name"]),
            "replayed_sha256": None
            if entry["name"] in foreign and not trust
            else code_digest(plugin_class(entry["use"])),
        }
        for entry in policy.content["plugins"]
    }


def _proofs(tasks: list[_Task], processes: int) -> Iterator[ReplayResult]:
    if processes <= 1:
        yield from map(_prove, tasks)
        return
    # A fork would copy the locks of threads that it does not copy.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        yield from pool.map(_prove, tasks)


def _prove(task: _Task) -> ReplayResult:
    """Replay one chunk. A single chunk of trusted code runs twice, to find state in a class or module."""
    if not task.replay_twice:
        return _prove_once(task)
    return max(_prove_once(task), _prove_once(task), key=lambda proof: proof.found)


def _prove_once(task: _Task) -> ReplayResult:
    plugins = build_plugins(policy_from_json(task.canonical), trust=task.trust)
    return replay_chunk(
        iter_records(task.folder, task.chunk.lines()), plugins, task.revision, fresh_start=task.fresh_start
    )


def _merge_result(whole: ReplayResult, part: ReplayResult) -> None:
    for name in ("contexts", "decisions", "identical", "not_replayed", "unfinished", "frames", "found"):
        setattr(whole, name, getattr(whole, name) + getattr(part, name))
    whole.differences = (whole.differences + part.differences)[:MAX_DIFFERENCES]


def _compare_attempts(maps: list[LogChunks], logs: list[LogReplay]) -> None:
    """Compare the state at each resume with that of an earlier attempt at the same iteration."""
    left: dict[tuple[int, int], KeyFrame] = {}
    for found, log in zip(maps, logs, strict=True):
        for frame in found.frames:
            if frame.trigger == "CHECKPOINT":
                left[found.rank, frame.iter_num] = frame
            elif frame.trigger == "RESUME":
                before = left.get((found.rank, frame.iter_num), frame)
                for name in before.state if before.revision == frame.revision else ():
                    old, new = before.state[name], frame.state.get(name)
                    if canonical_json(old) != canonical_json(new):
                        log.proof.add_difference(frame.iter_num, frame.sequence, name, "state", old, new)


def _compare_rollbacks(maps: list[LogChunks], logs: list[LogReplay]) -> None:
    """Compare the state after each rollback to a saved state with the states that were saved before.

    Plugins that survive rollbacks, and third-party plugins, are left out.
    """
    saved: dict[int, list[KeyFrame]] = {}
    for found, log in zip(maps, logs, strict=True):
        uses = {name: code["use"] for name, code in log.code.items() if code["use"] in BUILT_IN}
        names = [name for name, use in uses.items() if not plugin_class(use).survives_rollback]
        for frame in found.frames:
            if frame.trigger == "CHECKPOINT":
                saved.setdefault(found.rank, []).append(frame)
            elif frame.trigger == "ROLLBACK" and not any(
                _has_same_state(frame, other, names) for other in saved.get(found.rank, [])
            ):
                log.proof.add_difference(
                    frame.iter_num, frame.sequence, "chain", "state", "another state", "a saved state"
                )


def _has_same_state(frame: KeyFrame, other: KeyFrame, names: Iterable[str]) -> bool:
    shared = [name for name in names if name in other.state]
    return all(canonical_json(frame.state.get(name)) == canonical_json(other.state[name]) for name in shared)
