"""Comparison of two runs: settings, policy, figures, losses and verdicts at the same batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ockham.policy import Policy
from ockham.replay.trajectory import backward_over_forward
from ockham.study.run_data import RunData

LOSSES_SHOWN = 12


class ComparisonRow(NamedTuple):
    """One row. `difference` is b - a, for quotients b/a - 1, and empty if it has no meaning."""

    section: str
    name: str
    a: Any
    b: Any
    difference: float | None


def compare(a: RunData, b: RunData, *, all_losses: bool = False) -> tuple[list[ComparisonRow], list[str]]:
    """Return rows, and notes about what cannot be compared and why."""
    notes: list[str] = []
    rows = [
        *_settings(a.settings, b.settings),
        *_policies(a.policy, b.policy),
        *_figures(a, b, notes),
        *_losses(a, b, every=all_losses),
    ]
    return rows + list(_verdicts(a, b, notes)), notes


def _settings(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[ComparisonRow]:
    for name in dict.fromkeys([*a, *b]):
        if a.get(name) != b.get(name):
            yield ComparisonRow(
                "settings", name, a.get(name), b.get(name), _difference(a.get(name), b.get(name))
            )


def _policies(a: Policy, b: Policy) -> Iterator[ComparisonRow]:
    one, other = flatten_policy(a), flatten_policy(b)
    for name in [*one, *(key for key in other if key not in one)]:
        if one.get(name) != other.get(name):
            yield ComparisonRow(
                "policy", name, one.get(name), other.get(name), _difference(one.get(name), other.get(name))
            )


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
        "updates": (a.updates, b.updates),
        "update_rate": (a.update_rate, b.update_rate),
        "evaluations": (len(a.evaluations), len(b.evaluations)),
        "accepted": (a.accepted, b.accepted),
        "best_val_loss": (min(a.losses.values(), default=None), min(b.losses.values(), default=None)),
        "last_val_loss": (_last(a), _last(b)),
    }
    ratio = backward_over_forward([*a.legs, *b.legs])
    if ratio is None:
        notes.append("no stage times: compute is not compared")
    else:
        costs = a.compute_cost(ratio), b.compute_cost(ratio)
        pairs["backward_over_forward"] = (ratio, ratio)
        pairs["compute_forwards"] = costs
        notes.append(
            "backward_over_forward is one for both: the medians over the batches of both runs together"
        )
        pairs["val_loss_at_equal_compute"] = (
            a.loss_at_compute(min(costs), ratio),
            b.loss_at_compute(min(costs), ratio),
        )
        notes.append(
            "at equal compute, a schedule that was laid out for more compute has not come to its end"
        )
    for name, (one, other) in pairs.items():
        yield ComparisonRow("figures", name, one, other, _difference(one, other))
    if a.quotient_spec == b.quotient_spec and a.quotient and b.quotient and a.quotient > 0:
        yield ComparisonRow("figures", "occam_quotient", a.quotient, b.quotient, b.quotient / a.quotient - 1)
    else:
        notes.append(
            "the Occam Quotients are missing or were computed differently, so they are not comparable"
        )


def _losses(a: RunData, b: RunData, *, every: bool) -> Iterator[ComparisonRow]:
    shared = [at for at in a.losses if at in b.losses]
    step = 1 if every else max(1, -(-len(shared) // LOSSES_SHOWN))
    for at in shared[::-1][::step][::-1]:
        yield ComparisonRow("losses", f"iter {at}", a.losses[at], b.losses[at], b.losses[at] - a.losses[at])


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
    yield ComparisonRow("verdicts", "share that differs", None, None, differ / len(pairs) if pairs else None)


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


def _difference(a: Any, b: Any) -> float | None:
    numbers = all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in (a, b))
    return b - a if numbers else None
