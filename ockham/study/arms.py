"""Arms of an ablation: the policy of each, and the arms that must be trained before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ockham.errors import BadInputError, suggest_name
from ockham.policy import Policy

NO_PULL = {"lambda_ockham": 0.0, "pull": "none"}
# Drift and KL mean nothing without one.
NEEDS_ANCHOR = ("compressor", "limiter", "watchdog", "memory")
RANDOM_SKIP_ARM, EQUAL_COMPUTE_ARM = "random-skip", "none-equal-compute"


@dataclass(slots=True)
class Arm:
    """One arm.

    Attributes:
        name: Part of the run ID.
        document: Policy as in a policy file.
        after: Arm whose update rate must be known first. Empty for none.
        trainer: Settings of the trainer by name.

    """

    name: str
    document: dict[str, Any]
    after: str = ""
    trainer: dict[str, Any] = field(default_factory=dict)


def build_arms(policy: Policy, chosen: Sequence[str] = ()) -> list[Arm]:
    """Return the arms: each plugin removed, only one plugin, none, and the two controls of the gate.

    `only-` arms of plugins that evaluate drift keep the anchor. `only-gate`, `none` and the controls have
    neither anchor nor pull. `random-skip` skips at random with the measured rate of `only-gate`.
    `none-equal-compute` updates every batch, for as many batches as cost the same as `only-gate`, with a
    schedule of that length.

    Raises:
        BadInputError: If a chosen arm does not exist.

    """
    entries = {entry["name"]: entry for entry in policy.content["plugins"]}
    first = [name for name, entry in entries.items() if entry["use"] == "finite"]
    anchors = [name for name, entry in entries.items() if entry["use"] == "anchor"]
    found = [Arm("full", _document(policy, list(entries))), Arm("none", _document(policy, first, bare=True))]
    for name, entry in entries.items():
        if name in first:
            continue
        kept = [other for other in entries if other != name]
        found.append(Arm(f"without-{name}", _document(policy, kept, bare=name in anchors)))
        base = anchors if entry["use"] in NEEDS_ANCHOR else []
        alone = [other for other in entries if other in (*first, name, *base)]
        found.append(Arm(f"only-{name}", _document(policy, alone, bare=not base and name not in anchors)))
    gates = [name for name, entry in entries.items() if entry["use"] == "gate"]
    if gates:
        found.append(
            Arm(RANDOM_SKIP_ARM, _document(policy, [*first, gates[0]], bare=True), after=f"only-{gates[0]}")
        )
        found.append(Arm(EQUAL_COMPUTE_ARM, _document(policy, first, bare=True), after=f"only-{gates[0]}"))
    return _chosen(found, chosen)


def resolve_control_arm(arm: Arm, rate: float, b: float, max_iters: int) -> Arm:
    """Return a control arm for the known update rate and b of the arm that it follows."""
    if arm.name == EQUAL_COMPUTE_ARM:
        batches = max(1, round(max_iters * (1 + rate * b) / (1 + b)))
        return Arm(arm.name, arm.document, arm.after, {"max_iters": batches})
    plugins = {
        name: {**settings, "mode": "random", "target": rate, "surprise_threshold": None}
        if settings["use"] == "gate"
        else settings
        for name, settings in arm.document["plugins"].items()
    }
    return Arm(arm.name, {**arm.document, "plugins": plugins}, arm.after)


def _document(policy: Policy, names: list[str], *, bare: bool = False) -> dict[str, Any]:
    content = policy.content
    return {
        "policy": 1,
        "name": content["name"],
        "hyperparameters": {**content["hyperparameters"], **(NO_PULL if bare else {})},
        "plugins": {
            entry["name"]: {**entry["settings"], "use": entry["use"], "shadow": entry["shadow"]}
            for entry in content["plugins"]
            if entry["name"] in names
        },
    }


def _chosen(found: list[Arm], chosen: Sequence[str]) -> list[Arm]:
    names = [arm.name for arm in found]
    for name in chosen:
        if name not in names:
            raise BadInputError(f"no arm {name!r}{suggest_name(name, names)}")
    if not chosen:
        return found
    needed = {*chosen, *(arm.after for arm in found if arm.name in chosen)}
    return [arm for arm in found if arm.name in needed]
