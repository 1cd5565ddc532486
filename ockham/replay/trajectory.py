"""Trajectory of a run: its signed contexts in order, without the parts that a resume superseded."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ockham.catalog.signed_sizes import SignedSizes
from ockham.chain import PluginChain, base_knobs
from ockham.errors import OckhamError, RunError, UnverifiableError
from ockham.event import Value, parse_number
from ockham.policy import HYPERPARAMETERS, Policy, policy_from_json
from ockham.policy.document import check_hyperparameter
from ockham.record.payloads import decode_line
from ockham.record.run_folder import RunFolder
from ockham.record.segment_reader import read_complete_lines, read_first_event
from ockham.replay.log_reader import Step, build_context, iter_records, measured_norm, parse_field
from ockham.replay.playback import build_plugins
from ockham.savings import SavingsCounter


@dataclass(slots=True)
class AttemptTrajectory:
    """Steps of one attempt under one policy, without superseded ones, and the initial knobs of a batch.

    `restored` maps the iteration after each rollback to the iteration that followed the restored state.
    It contains all rollbacks of the attempt.
    """

    policy: Policy
    hyperparameters: dict[str, Any]
    base: dict[str, Value]
    required_measurements: dict[str, int]
    settings: dict[str, Any]
    steps: list[Step]
    restored: Mapping[int, int]
    world_size: int = 1


def load_trajectory(folder: RunFolder, rank: int = 0) -> list[AttemptTrajectory]:
    """Return the trajectory of a run by attempt and policy. It ends where a later attempt resumed.

    Events that no tree head covers are left out, as in every figure of a run.

    Raises:
        RunError: If the run does not exist.
        UnverifiableError: If log or policy cannot be read, or no signed context exists.
        PolicyError: If the recorded policy is not a policy.

    """
    folder.require_exists()
    attempts = [attempt for attempt, of in folder.logs() if of == rank]
    opened = {attempt: _opening(folder, attempt, rank) for attempt in attempts}
    legs = []
    for attempt in attempts:
        later = [opened[other].get("iter_num", 0) for other in attempts if other > attempt and opened[other]]
        if opened[attempt]:
            legs += _load_attempt(folder, attempt, rank, opened[attempt], min(later, default=None))
    if not any(leg.steps for leg in legs):
        raise UnverifiableError(f"run {folder.run_id!r} has no signed contexts to ask about")
    return legs


def count_savings(legs: list[AttemptTrajectory]) -> SavingsCounter:
    """Return what the estimate of the saved compute needs, over all batches of the attempts."""
    counter = SavingsCounter(world_size=max((leg.world_size for leg in legs), default=1))
    for leg in legs:
        for step in leg.steps:
            if step.hook == "batch":
                _count_batch(counter, step.data)
    return counter


def backward_over_forward(legs: list[AttemptTrajectory]) -> float | None:
    """Return b: mean cost of backward and optimizer divided by that of the forward, per micro-batch.

    The costs are the recorded stage times of the attempts.
    """
    return count_savings(legs).estimate().backward_over_forward


def cost_ratio(batches: Sequence[Mapping[str, Any]]) -> float | None:
    """Return b of the contexts of batches: data of `context.recorded` events."""
    counter = SavingsCounter()
    for data in batches:
        _count_batch(counter, data)
    return counter.estimate().backward_over_forward


def is_updated(data: Mapping[str, Any]) -> bool:
    """Return True if the chain allowed a batch to update, by its context."""
    return bool(data["left"].get("updated", data["given"].get("updated", True)))


def _count_batch(counter: SavingsCounter, data: Mapping[str, Any]) -> None:
    ends_step = data["micro_step"] + 1 >= data["given"].get("micro_steps", 1)
    seconds = {name: parse_number(value) or 0.0 for name, value in data["seconds"].items()}
    counter.add_batch(data["iter_num"], seconds, updated=is_updated(data), ends_step=ends_step)


def _load_attempt(
    folder: RunFolder, attempt: int, rank: int, opening: Mapping[str, Any], cut: int | None
) -> list[AttemptTrajectory]:
    """Return the steps of an attempt, in one part for each policy in order. An intervention changes it."""
    restored: dict[int, int] = {}
    steps = [
        _require_readable(folder, item)
        for item in iter_records(folder, _note_rollbacks(folder, _lines(folder, attempt, rank), restored))
        if isinstance(item, Step) and (cut is None or item.iter_num < cut)
    ]
    parts: list[tuple[str, list[Step]]] = [
        (revision, list(part))
        for revision, part in itertools.groupby(steps, key=lambda step: str(step.data.get("policy_revision")))
    ]
    return [
        _load_part(folder, revision, part, opening, restored)
        for revision, part in parts or [(opening["policy_revision"], [])]
    ]


def _load_part(
    folder: RunFolder,
    revision: str,
    steps: list[Step],
    opening: Mapping[str, Any],
    restored: Mapping[int, int],
) -> AttemptTrajectory:
    try:
        policy = policy_from_json(folder.read_policy(revision))
    except RunError as error:
        raise UnverifiableError(str(error)) from None
    plugins = build_plugins(policy, trust=False)
    wants = PluginChain(plugins).required_measurements()
    recorded = {**HYPERPARAMETERS, **policy.hyperparameters}
    place = f"policy {revision}: "
    parameters = {
        **recorded,
        **{key: check_hyperparameter(key, recorded[key], place) for key in HYPERPARAMETERS},
    }
    base = base_knobs(plugins, parameters)
    settings, world_size = dict(opening.get("settings", {})), int(opening.get("world_size", 1))
    return AttemptTrajectory(policy, parameters, base, wants, settings, steps, restored, world_size)


def _note_rollbacks(folder: RunFolder, lines: Iterator[bytes], restored: dict[int, int]) -> Iterator[bytes]:
    """Yield the same lines. Add each rollback to a saved state to *restored*."""
    for line in lines:
        if b'"type":"ockham.rollback.performed.v1"' in line:
            try:
                data = decode_line(line)["data"]
                if "snapshot_id" in data:
                    restored[int(data["iter_num"]) + 1] = int(data["anchor_iter_num"]) + 1
            except (ValueError, KeyError, TypeError) as error:
                message = f"{folder.path}: a line that cannot be read: {line[:80]!r} ({error})"
                raise UnverifiableError(message) from None
        yield line


def _require_readable(folder: RunFolder, step: Step) -> Step:
    """Return the step if all its values have the types of their fields."""
    data = step.data
    try:
        build_context(step)
        for part in ("measured", "left", "gradients"):
            for name, value in data.get(part, {}).items():
                if name != "custom":
                    parse_field(name, value)
        if "gradients" in data:
            measured_norm(step)
        for seconds in data["seconds"].values():
            parse_number(seconds)
    except (OckhamError, KeyError, TypeError, ValueError) as error:
        raise UnverifiableError(
            f"run {folder.run_id!r}: the context at sequence {step.sequence} cannot be read: {error!r:.200}"
        ) from None
    return step


def _opening(folder: RunFolder, attempt: int, rank: int) -> dict[str, Any]:
    if next(_lines(folder, attempt, rank), None) is None:
        return {}
    for segment in folder.segments(attempt, rank)[:1]:
        try:
            data = dict(read_first_event(segment)["data"])
            fits = isinstance(data["policy_revision"], str) and isinstance(data.get("settings", {}), dict)
            if fits and all(isinstance(data.get(name, 1), int) for name in ("iter_num", "world_size")):
                return data
            message = "policy_revision, settings, iter_num or world_size is of another kind"
        except (KeyError, TypeError, ValueError) as error:
            message = str(error)
        raise UnverifiableError(
            f"log {attempt}-{rank} of run {folder.run_id!r}: the first event is not valid: {message}"
        )
    return {}


def _lines(folder: RunFolder, attempt: int, rank: int) -> Iterator[bytes]:
    """Return the signed lines of a log."""
    try:
        signed = SignedSizes().read(folder, attempt, rank)
    except OSError as error:
        raise UnverifiableError(f"cannot read the tree heads of {folder.path}: {error.strerror}") from None
    return itertools.islice(_all_lines(folder, attempt, rank), signed)


def _all_lines(folder: RunFolder, attempt: int, rank: int) -> Iterator[bytes]:
    for segment in folder.segments(attempt, rank):
        try:
            yield from read_complete_lines(segment)[0]
        except OSError as error:
            raise UnverifiableError(f"cannot read {segment}: {error.strerror}") from None
