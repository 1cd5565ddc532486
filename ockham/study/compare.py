"""Comparison of two runs: settings, policy, figures, losses and verdicts at the same batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ockham.policy import Policy
from ockham.replay.trajectory import count_savings
from ockham.study.run_data import RunData

LOSSES_SHOWN = 12


class ComparisonRow(NamedTuple):
    """One row. `difference` is b - a, `relative_difference` b/a - 1. Both are empty without a meaning."""

    section: str
    name: str
    a: Any
    b: Any
    difference: float | None
    relative_difference: float | None = None


def compare(a: RunData, b: RunData, *, all_losses: bool = False) -> tuple[list[ComparisonRow], list[str]]:
    """Return rows, and notes about what cannot be compared and why."""
    notes: list[str] = []
    rows = [
        *_settings(a.settings, b.settings),
        *_policies(a.policy, b.policy),
        *_figures(a, b, notes),
        *_losses(a, b, notes, every=all_losses),
    ]
    return rows + list(_verdicts(a, b, notes)), notes


def _settings(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[ComparisonRow]:
    for name in dict.fromkeys([*a, *b]):
        if a.get(name) != b.get(name):
            yield _row("settings", name, a.get(name), b.get(name))


def _policies(a: Policy, b: Policy) -> Iterator[ComparisonRow]:
    one, other = flatten_policy(a), flatten_policy(b)
    for name in [*one, *(key for key in other if key not in one)]:
        if one.get(name) != other.get(name):
            yield _row("policy", name, one.get(name), other.get(name))


def flatten_policy(policy: Policy) -> dict[str, Any]:
    """Return a policy as `gate.target` -> value, with the order of its plugins."""
    content = policy.content
    found: dict[str, Any] = {f"hyperparameters.{k}": v for k, v in content["hyperparameters"].items()}
    found |= {f"targets.{k}": v for k, v in content["targets"].items()}
    found["plugins"] = " ".join(entry["name"] for entry in content["plugins"])
    for entry in content["plugins"]:
        found |= {
            f"{entry['name']}.{k}": entry[k]
            for k in ("use", "shadow")
            if k == "shadow" or entry[k] != entry["name"]
        }
        found |= {f"{entry['name']}.{k}": v for k, v in entry["settings"].items()}
    return found


def _figures(a: RunData, b: RunData, notes: list[str]) -> Iterator[ComparisonRow]:
    pairs: dict[str, tuple[Any, Any]] = {
        "batches": (len(a.batches), len(b.batches)),
        "updated_batches": (a.updated_batches, b.updated_batches),
        "optimizer_steps": (a.optimizer_steps, b.optimizer_steps),
        "update_rate": (a.update_rate, b.update_rate),
        "evaluations": (len(a.evaluations), len(b.evaluations)),
        "accepted": (a.accepted, b.accepted),
        "best_val_loss": (min(a.losses.values(), default=None), min(b.losses.values(), default=None)),
        "last_val_loss": (_last(a), _last(b)),
        **_compute(a, b, notes),
    }
    for name, (one, other) in pairs.items():
        yield _row("figures", name, one, other)
    if a.quotient_spec == b.quotient_spec and a.quotient and b.quotient and a.quotient > 0:
        yield _row("figures", "occam_quotient", a.quotient, b.quotient)
    else:
        notes.append(
            "the Occam Quotients are missing or were computed differently, so they are not comparable"
        )


def _compute(a: RunData, b: RunData, notes: list[str]) -> dict[str, tuple[Any, Any]]:
    """Return the compute of both runs in forwards, and their losses at equal compute."""
    counter = count_savings([*a.legs, *b.legs])
    stages = counter.forward_costs()
    if stages is None:
        notes.append("no stage times: compute is not compared")
        return {}
    notes.append("backward_over_forward is one for both: the means over the batches of both runs together")
    notes.append("at equal compute, a schedule that was laid out for more compute has not come to its end")
    ratio = counter.estimate().backward_over_forward
    costs = a.compute_cost(stages), b.compute_cost(stages)
    budget = min(costs)
    return {
        "backward_over_forward": (ratio, ratio),
        "compute_forwards": costs,
        "val_loss_at_equal_compute": (a.loss_at_compute(budget, stages), b.loss_at_compute(budget, stages)),
    }


def _losses(a: RunData, b: RunData, notes: list[str], *, every: bool) -> Iterator[ComparisonRow]:
    """Yield losses at the same iterations, or at the same tokens if the steps differ in tokens."""
    steps = a.tokens_per_step, b.tokens_per_step
    if steps[0] == steps[1] or None in steps:
        pairs = [(f"iter {at}", a.losses[at], b.losses[at]) for at in a.losses if at in b.losses]
        if None in steps:
            notes.append(
                "the tokens of a step are unknown: losses are compared at the same iterations, "
                "which can be other numbers of tokens"
            )
    else:
        notes.append(
            f"a step has {steps[0]:,} tokens in a and {steps[1]:,} in b: losses are compared at the same "
            "number of tokens, at the evaluations of a; the loss of b is interpolated"
        )
        pairs = []
        for at, loss in a.losses.items():
            tokens = (at + 1) * (steps[0] or 0)
            other = b.loss_at_tokens(tokens)
            if other is not None:
                pairs.append((f"tokens {tokens}", loss, other))
    step = 1 if every else max(1, -(-len(pairs) // LOSSES_SHOWN))
    for name, one, other in pairs[::-1][::step][::-1]:
        yield _row("losses", name, one, other)


def _verdicts(a: RunData, b: RunData, notes: list[str]) -> Iterator[ComparisonRow]:
    for what, one, other in (
        ("seed", _seed(a), _seed(b)),
        ("data", _data(a), _data(b)),
        ("batch size", _batch_shape(a), _batch_shape(b)),
    ):
        if one != other:
            notes.append(
                f"different {what} ({one} and {other}): the batches differ, so verdicts are not compared"
            )
            return
    if not _data(a):
        notes.append(
            "no digest of the data is recorded: the batches may differ, so verdicts are not compared"
        )
        return
    pairs = [(up, b.verdicts[key]) for key, up in a.verdicts.items() if key in b.verdicts]
    for name, wanted in (
        ("both update", (True, True)),
        ("both skip", (False, False)),
        ("only a updates", (True, False)),
        ("only b updates", (False, True)),
    ):
        count = pairs.count(wanted)
        yield ComparisonRow(
            "verdicts",
            name,
            count if wanted[0] or wanted == (False, False) else None,
            count if wanted[1] or wanted == (False, False) else None,
            None,
        )
    differ = sum(one != other for one, other in pairs)
    share = differ / len(pairs) if pairs else None
    yield ComparisonRow("verdicts", "share that differs", share, share, None)


def _seed(seen: RunData) -> Any:
    return seen.batches[0].data["given"].get("seed", 0)


def _data(seen: RunData) -> Any:
    return str(seen.about.get("data", {}).get("sha256", ""))[:12]


def _batch_shape(seen: RunData) -> Any:
    return tuple(
        seen.settings.get(name) for name in ("batch_size", "block_size", "gradient_accumulation_steps")
    )


def _last(seen: RunData) -> float | None:
    return next(reversed(seen.losses.values()), None)


def _row(section: str, name: str, a: Any, b: Any) -> ComparisonRow:
    """Return a row with both differences. Settings have no relative one, and texts have none."""
    if not all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in (a, b)):
        return ComparisonRow(section, name, a, b, None)
    has_relative = section in ("figures", "losses") and a > 0
    return ComparisonRow(section, name, a, b, b - a, b / a - 1 if has_relative else None)
