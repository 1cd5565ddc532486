"""Trajectory of a run: its contexts in order, without the parts that a resume superseded."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ockham.chain import PluginChain, base_knobs
from ockham.errors import OckhamError, UnverifiableError
from ockham.event import Value, parse_number
from ockham.policy import HYPERPARAMETERS, Policy, policy_from_json
from ockham.policy.document import check_hyperparameter
from ockham.record.run_folder import RunFolder, read_regular_file
from ockham.record.segment_reader import read_complete_lines, read_first_event
from ockham.replay.log_reader import Step, build_context, iter_records, measured_norm, parse_field
from ockham.replay.playback import build_plugins


@dataclass(slots=True)
class AttemptTrajectory:
    """The part of one attempt that is not superseded: its policy, initial knobs of a batch, and steps."""

    policy: Policy
    hyperparameters: dict[str, Any]
    base: dict[str, Value]
    required_measurements: dict[str, int]
    settings: dict[str, Any]
    steps: list[Step]


def load_trajectory(folder: RunFolder, rank: int = 0) -> list[AttemptTrajectory]:
    """Return the trajectory of a run by attempt. Each part ends where a later attempt resumed.

    Raises:
        RunError: If the run does not exist.
        UnverifiableError: If log or policy cannot be read, or nothing was recorded.
        PolicyError: If the recorded policy is not a policy.

    """
    folder.require_exists()
    attempts = [attempt for attempt, of in folder.logs() if of == rank]
    opened = {attempt: _opening(folder, attempt, rank) for attempt in attempts}
    legs = []
    for attempt in attempts:
        later = [opened[other].get("iter_num", 0) for other in attempts if other > attempt and opened[other]]
        if opened[attempt]:
            legs.append(_load_attempt(folder, attempt, rank, opened[attempt], min(later, default=None)))
    if not any(leg.steps for leg in legs):
        raise UnverifiableError(f"run {folder.run_id!r} has no recorded contexts to ask about")
    return legs


def backward_over_forward(legs: list[AttemptTrajectory]) -> float | None:
    """Return b: median cost of backward and optimizer divided by that of the forward.

    The costs are the recorded stage times of the run.
    """
    batches = [step.data for leg in legs for step in leg.steps if step.hook == "batch"]
    forward = [data["seconds"].get("forward", 0.0) for data in batches]
    backward = [_backward(data["seconds"]) for data in batches if _updated(data)]
    if not backward or not any(backward) or not statistics.median(forward):
        return None
    return float(statistics.median(backward) / statistics.median(forward))


def _backward(seconds: Mapping[str, float]) -> float:
    return seconds.get("backward", 0.0) + seconds.get("optimizer", 0.0)


def _updated(data: Mapping[str, Any]) -> bool:
    return bool(data["left"].get("updated", data["given"].get("updated", True)))


def _load_attempt(
    folder: RunFolder, attempt: int, rank: int, opening: Mapping[str, Any], cut: int | None
) -> AttemptTrajectory:
    revision = opening["policy_revision"]
    try:
        policy = policy_from_json(read_regular_file(folder.policy(revision)))
    except OSError as error:
        raise UnverifiableError(f"cannot read the policy {revision}: {error.strerror}") from None
    plugins = build_plugins(policy, trust=False)
    wants = PluginChain(plugins).required_measurements()
    steps = [
        _require_readable(folder, item)
        for item in iter_records(folder, _lines(folder, attempt, rank))
        if isinstance(item, Step) and (cut is None or item.iter_num < cut)
    ]
    recorded = {**HYPERPARAMETERS, **policy.hyperparameters}
    place = f"policy {revision}: "
    parameters = {
        **recorded,
        **{key: check_hyperparameter(key, recorded[key], place) for key in HYPERPARAMETERS},
    }
    base = base_knobs(plugins, parameters)
    return AttemptTrajectory(policy, parameters, base, wants, dict(opening.get("settings", {})), steps)


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
            if fits and isinstance(data.get("iter_num", 0), int):
                return data
            message = "policy_revision, settings or iter_num is of another kind"
        except (KeyError, TypeError, ValueError) as error:
            message = str(error)
        raise UnverifiableError(
            f"log {attempt}-{rank} of run {folder.run_id!r}: the first event is not valid: {message}"
        )
    return {}


def _lines(folder: RunFolder, attempt: int, rank: int) -> Iterator[bytes]:
    for segment in folder.segments(attempt, rank):
        try:
            yield from read_complete_lines(segment)[0]
        except OSError as error:
            raise UnverifiableError(f"cannot read {segment}: {error.strerror}") from None
