"""OccamContext: what goes down the chain, one for each batch.

Every field has one of three roles; the table in `ockham/fields.py` is the only place that says which:

* a *fact* was measured before the chain runs and never changes;
* a *knob* may be turned by a plugin; each batch starts at the trainer's scheduled value, so
  `ctx.learning_rate *= 0.5` never compounds;
* a *gauge* is measured by the trainer after the step and carries over to the next batch.

`custom` is open to plugins: name -> float, for metrics of their own; it carries over too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from operator import itemgetter
from typing import Any, NamedTuple, Self

from ockham.errors import ContextError, suggest_name
from ockham.event import Value
from ockham.fields import (
    CARRIED_OVER,
    DEFAULTS,
    FACTS,
    FIELDS,
    FIELDS_BY_NAME,
    GAUGES,
    KNOBS,
    REQUIRED,
    coerce_field,
    to_float,
)
from ockham.quotient import occam_quotient

__all__ = [
    "FACTS",
    "FIELDS",
    "FIELDS_BY_NAME",
    "GAUGES",
    "KNOBS",
    "REQUIRED",
    "DecisionNote",
    "OccamContext",
    "knob_values",
]
_KNOBS = frozenset(KNOBS)
_knobs_of: Callable[[Mapping[str, Value]], tuple[Value, ...]] = itemgetter(*KNOBS)
_METRIC_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,63}")
CODE_PATTERN = re.compile(r"[A-Z][A-Z0-9_]{1,63}")
_is_code = lru_cache(maxsize=1_024)(CODE_PATTERN.fullmatch)  # the same few come with every batch
_names_number = lru_cache(maxsize=1_024)(re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}").fullmatch)


def knob_values(ctx: OccamContext) -> tuple[Value, ...]:
    """All knobs in the order of `KNOBS`."""
    return _knobs_of(ctx.__dict__)


class DecisionNote(NamedTuple):
    """What a plugin said with `decide`, before the chain has attributed the turned knobs."""

    action: str
    reason_code: str
    observed: float | None
    threshold: float | None
    fields: tuple[str, ...]
    numbers: Mapping[str, float]


class OccamContext:
    """Facts, knobs and gauges of one batch; see the table in `ockham.fields`.

    Raises:
        ContextError: when a fact or gauge is set, a field does not exist, or a value has the wrong type.

    """

    # No slots: filling an instance's dict in one go takes a tenth of the time of setting forty slots, each batch.
    iter_num: int
    task_loss: float
    micro_step: int
    run_id: str
    seed: int
    max_iters: int
    warmup_iters: int
    tokens_seen: int
    vocab_size: int
    model_params: int
    active_params: int
    inference_flops: float
    inference_tokens: int
    memory_footprint_mb: float
    anchor_available: bool
    example_losses: tuple[float, ...]
    rank_loss: float | None
    learning_rate: float
    lambda_ockham: float
    surprise_threshold: float
    grad_clip: float
    drift_ceiling: float
    grad_noise_std: float
    example_gain: tuple[float, ...]
    updated: bool
    consolidating: bool
    accepted: bool
    rollback: bool
    halt: bool
    complexity_cost: float
    drift_raw: float
    drift_sq: float
    grad_norm: float
    update_rate: float
    updates: int
    val_loss: float | None
    kl_to_anchor: float | None
    occam_quotient: float | None
    custom: dict[str, float]
    notes: list[DecisionNote]
    shadow_knobs: dict[str, Value]

    def __init__(
        self, iter_num: int, task_loss: float, *, custom: Mapping[str, float] | None = None, **fields: Any
    ) -> None:
        values = self.__dict__
        values.update(DEFAULTS, custom=dict(custom or {}), notes=[], shadow_knobs={})
        for name, value in (("iter_num", iter_num), ("task_loss", task_loss), *fields.items()):
            if name not in FIELDS_BY_NAME:
                raise ContextError(f"OccamContext has no field {name!r}{suggest_name(name, FIELDS_BY_NAME)}")
            values[name] = coerce_field(name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _KNOBS:
            self.__dict__[name] = coerce_field(name, value)
        elif name in FIELDS_BY_NAME:
            raise ContextError(
                f"{name} is a {FIELDS_BY_NAME[name].role} of iteration {self.iter_num}, only the trainer measures it; "
                f"plugins may turn: {', '.join(KNOBS)}"
            )
        else:
            raise ContextError(
                f"OccamContext has no field {name!r}{suggest_name(name, KNOBS)}; metrics of your own go into ctx.custom"
            )

    def __delattr__(self, name: str) -> None:
        raise ContextError(f"{name} is a field of iteration {self.iter_num} and can't be deleted")

    def __copy__(self) -> Self:
        """A copy with knobs, notes and `custom` of its own; the rest of a context never changes."""
        clone = object.__new__(type(self))
        clone.__dict__.update(
            self.__dict__,
            custom=self.custom.copy(),
            notes=self.notes.copy(),
            shadow_knobs=self.shadow_knobs.copy(),
        )
        return clone

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self.__copy__()

    def __repr__(self) -> str:
        shown = ", ".join(
            f"{f.name}={getattr(self, f.name)!r}"
            for f in FIELDS
            if f.name in REQUIRED or getattr(self, f.name) != f.default
        )
        return f"OccamContext({shown})"

    def decide(
        self,
        action: str,
        reason_code: str,
        observed: float | None = None,
        threshold: float | None = None,
        fields: Iterable[str] = (),
        numbers: Mapping[str, float] | None = None,
    ) -> OccamContext:
        """Say why: logged as one decision, also when no knob turned.

        Args:
            action: what was done, a stable word such as `SKIP`.
            reason_code: why, a stable code such as `BELOW_THRESHOLD`; numbers never go into it.
            observed: the value that was judged.
            threshold: the limit that it was judged against.
            fields: the turned knobs that this call explains; knobs that no call names belong to the last one.
            numbers: further values that the decision rests on, by name.

        """
        for what, code in (("action", action), ("reason_code", reason_code)):
            if not _is_code(code):
                raise ContextError(
                    f"{what} {code!r} is not a stable code: capital letters, digits and _, 2 to 64 of them"
                )
        kept = {}
        for name, value in numbers.items() if numbers else ():
            if not _names_number(name):
                raise ContextError(
                    f"{name!r:.80} cannot name a number of a decision: letters, digits and _, at most 64"
                )
            kept[name] = to_float(name, value)
        observed = None if observed is None else to_float("observed", observed)
        threshold = None if threshold is None else to_float("threshold", threshold)
        self.notes.append(DecisionNote(action, reason_code, observed, threshold, tuple(fields), kept))
        return self

    def check_custom(self) -> None:
        """For the chain: refuse a metric that the record can't keep.

        Raises ContextError if a name or a value does not fit.
        """
        for name, value in tuple(self.custom.items()):
            if type(value) is not float:
                if isinstance(value, bool) or not isinstance(value, (float, int)):
                    raise ContextError(
                        f"ctx.custom[{name!r:.70}] takes a float, got {type(value).__name__} {value!r:.60}"
                    )
                self.custom[name] = float(value)
            if type(name) is not str or not _METRIC_NAME.fullmatch(name):
                raise ContextError(
                    f"{name!r:.70} can't name a metric in ctx.custom: letters, digits, _ and ., at most 64"
                )

    def set_gauges(self, **gauges: Any) -> None:
        """For the trainer alone: set gauges, measured after the step."""
        for name, value in gauges.items():
            if name not in GAUGES:
                raise ContextError(
                    f"measure() takes gauges, and {name!r} is none{suggest_name(name, GAUGES)}"
                )
            self.__dict__[name] = coerce_field(name, value)

    def next_context(self, iter_num: int, task_loss: float, **fields: Any) -> OccamContext:
        """The next batch's context: run-long facts, gauges and `custom` carry over, knobs start again."""
        after = OccamContext(iter_num, task_loss, custom=self.custom, **fields)
        after.__dict__.update((name, getattr(self, name)) for name in CARRIED_OVER if name not in fields)
        return after

    def knobs(self) -> dict[str, Value]:
        """All knobs by name."""
        return dict(zip(KNOBS, knob_values(self), strict=True))

    def set_knobs(self, knobs: Mapping[str, Value]) -> None:
        """For the chain: put knobs to given values."""
        self.__dict__.update(knobs)

    def compute_occam_quotient(self, task_performance: float) -> float:
        """OQ of this context's FLOPs and MB at the given performance; see `ockham.quotient`."""
        return occam_quotient(task_performance, *self.cost())

    def cost(self) -> tuple[float, float]:
        """Inference FLOPs and MB: as measured, or both estimated from the number of parameters, never mixed."""
        if self.inference_flops > 0 and self.memory_footprint_mb > 0:
            return self.inference_flops, self.memory_footprint_mb
        return 2.0 * self.model_params, 4.0 * self.model_params / 1e6

    def to_dict(self) -> dict[str, Any]:
        """All fields and `custom`, as plain values."""
        return {**{name: getattr(self, name) for name in FIELDS_BY_NAME}, "custom": dict(self.custom)}
