"""OccamContext: the values of one batch that pass down the plugin chain.

Every field has one of three roles, defined by the table in `ockham/fields.py`:

* a *fact* is measured before the chain runs and never changes;
* a *knob* can be changed by a plugin. Each batch starts at the trainer's scheduled value, so
  `ctx.learning_rate *= 0.5` never compounds;
* a *gauge* is measured by the trainer after the step and is carried over to the next batch. `is_measured`
  returns True for a new measurement and False for a value that was carried over.

`custom` maps metric names of plugins to floats. It is carried over too.
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
from ockham.quotient import Performance, compute_performance, occam_quotient

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
_GAUGES = frozenset(GAUGES)
_knobs_of: Callable[[Mapping[str, Value]], tuple[Value, ...]] = itemgetter(*KNOBS)
_METRIC_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,63}")
CODE_PATTERN = re.compile(r"[A-Z][A-Z0-9_]{1,63}")
# Cached because every batch uses the same few codes and names.
_is_code = lru_cache(maxsize=1_024)(CODE_PATTERN.fullmatch)
_names_number = lru_cache(maxsize=1_024)(re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}").fullmatch)


def knob_values(ctx: OccamContext) -> tuple[Value, ...]:
    """Return the values of all knobs in the order of `KNOBS`."""
    return _knobs_of(ctx.__dict__)


class DecisionNote(NamedTuple):
    """Arguments of one `decide` call, before the chain attributes the changed knobs."""

    action: str
    reason_code: str
    observed: float | None
    threshold: float | None
    fields: tuple[str, ...]
    numbers: Mapping[str, float]


class OccamContext:
    """Facts, knobs and gauges of one batch. `ockham.fields` contains the table of all fields.

    Raises:
        ContextError: If a fact or gauge is assigned, a field does not exist, or a value has the wrong type.

    Example:
        >>> ctx = OccamContext(0, 2.5, learning_rate=1e-3)
        >>> ctx.learning_rate *= 0.5
        >>> ctx = ctx.decide("SCALE", "HIGH_LOSS", observed=2.5, threshold=2.0)

    """

    # No slots: one update of the instance's dict takes a tenth of the time of setting forty slots.
    iter_num: int
    task_loss: float
    micro_step: int
    micro_steps: int
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
    state_available: bool
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
    step: bool
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
    measured_gauges: set[str]

    def __init__(
        self, iter_num: int, task_loss: float, *, custom: Mapping[str, float] | None = None, **fields: Any
    ) -> None:
        values = self.__dict__
        values.update(DEFAULTS, custom=dict(custom or {}), notes=[], shadow_knobs={}, measured_gauges=set())
        for name, value in (("iter_num", iter_num), ("task_loss", task_loss), *fields.items()):
            if name not in FIELDS_BY_NAME:
                raise ContextError(f"OccamContext has no field {name!r}{suggest_name(name, FIELDS_BY_NAME)}")
            values[name] = coerce_field(name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _KNOBS:
            self.__dict__[name] = coerce_field(name, value)
        elif name in FIELDS_BY_NAME:
            role = FIELDS_BY_NAME[name].role
            raise ContextError(
                f"{name} is a {role} of iteration {self.iter_num}, which only the trainer sets; "
                f"plugins can set the knobs {', '.join(KNOBS)}"
            )
        else:
            hint = suggest_name(name, KNOBS)
            raise ContextError(
                f"OccamContext has no field {name!r}{hint}; store metrics of a plugin in ctx.custom"
            )

    def __delattr__(self, name: str) -> None:
        raise ContextError(f"{name} is a field of iteration {self.iter_num} and cannot be deleted")

    def __copy__(self) -> Self:
        """Return a copy with its own knobs, notes and `custom`. All other values are immutable."""
        clone = object.__new__(type(self))
        clone.__dict__.update(
            self.__dict__,
            custom=self.custom.copy(),
            notes=self.notes.copy(),
            shadow_knobs=self.shadow_knobs.copy(),
            measured_gauges=self.measured_gauges.copy(),
        )
        return clone

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self.__copy__()

    def __repr__(self) -> str:
        fields = ", ".join(
            f"{f.name}={getattr(self, f.name)!r}"
            for f in FIELDS
            if f.name in REQUIRED or getattr(self, f.name) != f.default
        )
        return f"OccamContext({fields})"

    def decide(
        self,
        action: str,
        reason_code: str,
        observed: float | None = None,
        threshold: float | None = None,
        fields: Iterable[str] = (),
        numbers: Mapping[str, float] | None = None,
    ) -> OccamContext:
        """Record the reason for a decision. The chain logs it even if no knob changed.

        Args:
            action: The action as a stable code, such as `SKIP`.
            reason_code: The reason as a stable code such as `BELOW_THRESHOLD`. It never contains
                numbers.
            observed: The value that was compared with the threshold. None if nothing was compared.
            threshold: The limit that `observed` was compared with. None without a limit.
            fields: Changed knobs that this call explains. Knobs that no call names are attributed to the last
                call.
            numbers: Further values that the decision depends on, by name.

        Returns:
            This context.

        Raises:
            ContextError: If a code, a name or a number is not valid.

        """
        for what, code in (("action", action), ("reason_code", reason_code)):
            if not _is_code(code):
                raise ContextError(
                    f"{what} {code!r} is not a stable code; use 2 to 64 capital letters, digits and _"
                )
        checked_numbers = {}
        for name, value in numbers.items() if numbers else ():
            if not _names_number(name):
                raise ContextError(
                    f"{name!r:.80} is not a valid name of a number; use at most 64 letters, digits and _"
                )
            checked_numbers[name] = to_float(name, value)
        observed = None if observed is None else to_float("observed", observed)
        threshold = None if threshold is None else to_float("threshold", threshold)
        self.notes.append(
            DecisionNote(action, reason_code, observed, threshold, tuple(fields), checked_numbers)
        )
        return self

    def check_custom(self) -> None:
        """Check that the record can store every metric in `custom`. Called by the chain after each plugin.

        Raises:
            ContextError: If a name or a value is not valid.

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
                    f"{name!r:.70} is not a valid metric name in ctx.custom; "
                    "use at most 64 letters, digits, _ and ."
                )

    def set_gauges(self, **gauges: Any) -> None:
        """Set gauges that the trainer measured after the step.

        Raises:
            ContextError: If a name is not a gauge, or a value has the wrong type.

        """
        values, measured = self.__dict__, self.measured_gauges
        for name, value in gauges.items():
            if name not in _GAUGES:
                raise ContextError(
                    f"set_gauges() takes gauges, and {name!r} is not a gauge{suggest_name(name, GAUGES)}"
                )
            values[name] = coerce_field(name, value)
            measured.add(name)

    def begin_gradients(self, grad_norm: float, knobs: Mapping[str, Value]) -> None:
        """Set the measured norm and the knobs of the step before `on_gradients`. Called by the run only.

        Args:
            grad_norm: L2 norm of the gradient before clipping.
            knobs: Knobs of the last accepted micro-batch that differ from those of this one.

        """
        self.set_gauges(grad_norm=grad_norm)
        self.set_knobs(knobs)
        self.shadow_knobs.update(knobs)

    def is_measured(self, gauge: str) -> bool:
        """Return True if this batch or evaluation measured a gauge. Other gauges are carried over.

        With gradient accumulation, only the last micro-batch of a step measures the step.

        Raises:
            ContextError: If the name is not a gauge.

        """
        if gauge not in GAUGES:
            raise ContextError(f"{gauge!r} is not a gauge{suggest_name(gauge, GAUGES)}")
        return gauge in self.measured_gauges

    @property
    def ends_step(self) -> bool:
        """True for the last micro-batch of a step, and for every batch without accumulation."""
        return self.micro_step >= self.micro_steps - 1

    def next_context(self, iter_num: int, task_loss: float, **fields: Any) -> OccamContext:
        """Return the context of the next batch.

        Facts of the run, gauges and `custom` carry over; knobs start again.
        """
        after = OccamContext(iter_num, task_loss, custom=self.custom, **fields)
        values, before = after.__dict__, self.__dict__
        for name in CARRIED_OVER:
            if name not in fields:
                values[name] = before[name]
        return after

    def knobs(self) -> dict[str, Value]:
        """Return the values of all knobs by name."""
        return dict(zip(KNOBS, knob_values(self), strict=True))

    def set_knobs(self, knobs: Mapping[str, Value]) -> None:
        """Set knobs without a type check. Called by the chain only."""
        self.__dict__.update(knobs)

    def compute_occam_quotient(self, task_performance: float) -> float:
        """Return the Occam Quotient of this context's FLOPs and MB at the given performance."""
        return occam_quotient(task_performance, *self.cost())

    def quotient_of_loss(self, loss: float, performance: Performance = "inverse_loss") -> float | None:
        """Return the Occam Quotient of a loss in nats per token at the cost of this context.

        None if the cost is unknown, NaN if the loss is not finite and positive.
        """
        flops, megabytes = self.cost()
        if flops <= 0 or megabytes <= 0:
            return None
        return occam_quotient(compute_performance(loss, performance, self.vocab_size), flops, megabytes)

    def cost(self) -> tuple[float, float]:
        """Return inference FLOPs and memory in MB.

        Both are measured values, or both are estimated from the number of parameters. They are never mixed.
        """
        if self.inference_flops > 0 and self.memory_footprint_mb > 0:
            return self.inference_flops, self.memory_footprint_mb
        return 2.0 * self.model_params, 4.0 * self.model_params / 1e6

    def to_dict(self) -> dict[str, Any]:
        """Return all fields and `custom` as plain Python values."""
        return {**{name: getattr(self, name) for name in FIELDS_BY_NAME}, "custom": dict(self.custom)}
