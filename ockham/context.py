"""OccamContext: what goes down the chain, one for each batch.

Every field has one of three roles, and this file's table is the only place that says which:

* a *fact* was measured before the chain runs and never changes;
* a *knob* may be turned by a plugin; each batch starts at the trainer's scheduled value, so
  `ctx.learning_rate *= 0.5` never compounds;
* a *gauge* is measured by the trainer after the step and carries over to the next batch.

`custom` is open to plugins: name -> float, for metrics of their own; it carries over too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Literal, NamedTuple

from ockham.errors import ContextError, nearest
from ockham.event import Value
from ockham.quotient import occam_quotient

Role = Literal["fact", "knob", "gauge"]
Kind = Literal["float", "int", "bool", "str", "floats"]


@dataclass(frozen=True, slots=True)
class Field:
    """One row of the table: a field of the context, its role, its unit and where it starts."""

    name: str
    role: Role
    kind: Kind
    default: Value
    unit: str
    doc: str
    nullable: bool = False


_INF = math.inf
FIELDS: tuple[Field, ...] = (
    Field("iter_num", "fact", "int", 0, "1", "Optimizer step, from 0; required."),
    Field("task_loss", "fact", "float", 0.0, "nats/token", "Loss of this batch before any update; required."),
    Field(
        "micro_step",
        "fact",
        "int",
        0,
        "1",
        "Micro-batch within the step, from 0; (iter_num, micro_step) is the key.",
    ),
    Field("run_id", "fact", "str", "", "", "The run that this batch belongs to."),
    Field(
        "seed", "fact", "int", 0, "", "Seed of the run; plugins draw from (seed, iter_num, micro_step) only."
    ),
    Field("max_iters", "fact", "int", 0, "1", "Planned length of the run in steps; 0 where unknown."),
    Field("warmup_iters", "fact", "int", 0, "1", "Length of the learning-rate warm-up in steps."),
    Field(
        "tokens_seen",
        "fact",
        "int",
        0,
        "tokens",
        "Tokens forwarded before this batch, skipped ones included.",
    ),
    Field("vocab_size", "fact", "int", 0, "1", "Size of the vocabulary; 0 where unknown."),
    Field("model_params", "fact", "int", 0, "1", "Parameters, tied ones counted once."),
    Field(
        "active_params",
        "fact",
        "int",
        0,
        "1",
        "Parameters used for one token; 0 where equal to model_params.",
    ),
    Field(
        "inference_flops", "fact", "float", 0.0, "FLOP", "FLOPs of inference over inference_tokens tokens."
    ),
    Field(
        "inference_tokens",
        "fact",
        "int",
        0,
        "tokens",
        "Tokens that inference_flops stands for; 0 where not said.",
    ),
    Field(
        "memory_footprint_mb", "fact", "float", 0.0, "MB (1e6 bytes)", "Bytes of the weights at inference."
    ),
    Field(
        "anchor_available",
        "fact",
        "bool",
        False,
        "",
        "Whether an anchor has been set, so that drift means something.",
    ),
    Field(
        "example_losses",
        "fact",
        "floats",
        (),
        "nats/token",
        "Loss of each example, read only if a plugin asks for it.",
    ),
    Field("learning_rate", "knob", "float", 1e-3, "1", "Learning rate of this step."),
    Field("lambda_ockham", "knob", "float", 0.01, "1", "Strength of the pull towards the anchor."),
    Field(
        "surprise_threshold",
        "knob",
        "float",
        2.0,
        "nats/token",
        "Loss from which a batch is worth an update.",
    ),
    Field("grad_clip", "knob", "float", _INF, "1", "Largest L2 norm of the gradient; Infinity: no clipping."),
    Field(
        "drift_ceiling",
        "knob",
        "float",
        _INF,
        "ratio",
        "Relative drift to which the trainer pulls the weights back.",
    ),
    Field(
        "grad_noise_std", "knob", "float", 0.0, "ratio", "Noise added to the gradient, relative to its RMS."
    ),
    Field("example_gain", "knob", "floats", (), "ratio", "Weight of each example, mean 1; empty: all alike."),
    Field("updated", "knob", "bool", True, "", "Whether this batch may update the weights."),
    Field("consolidating", "knob", "bool", False, "", "Request, then permission, to move the anchor here."),
    Field(
        "accepted", "knob", "bool", False, "", "Whether this evaluation's weights are kept as a checkpoint."
    ),
    Field("rollback", "knob", "bool", False, "", "Request to return to the anchor."),
    Field("halt", "knob", "bool", False, "", "Request to end the run, valid and resumable."),
    Field(
        "complexity_cost",
        "gauge",
        "float",
        0.0,
        "ratio",
        "Relative drift |theta - anchor|/|anchor| over the matrices.",
    ),
    Field("drift_raw", "gauge", "float", 0.0, "ratio", "The same before this step's projection."),
    Field(
        "drift_sq", "gauge", "float", 0.0, "1", "Squared sum |theta - anchor|^2: the old formula's penalty."
    ),
    Field("grad_norm", "gauge", "float", 0.0, "1", "L2 norm of the gradient before clipping."),
    Field("update_rate", "gauge", "float", 1.0, "ratio", "Updated batches / finite batches so far."),
    Field("updates", "gauge", "int", 0, "1", "Optimizer steps applied so far."),
    Field(
        "val_loss",
        "gauge",
        "float",
        None,
        "nats/token",
        "Loss of the last evaluation; null before the first.",
        nullable=True,
    ),
    Field(
        "kl_to_anchor",
        "gauge",
        "float",
        None,
        "nats/token",
        "KL(anchor || current) on the probe, where measured at this batch.",
        nullable=True,
    ),
    Field(
        "occam_quotient",
        "gauge",
        "float",
        None,
        "1/(nat FLOP MB)",
        "OQ of the last evaluation; null before the first.",
        nullable=True,
    ),
)
TABLE: Mapping[str, Field] = {field.name: field for field in FIELDS}
FACTS: tuple[str, ...] = tuple(f.name for f in FIELDS if f.role == "fact")
KNOBS: tuple[str, ...] = tuple(f.name for f in FIELDS if f.role == "knob")
GAUGES: tuple[str, ...] = tuple(f.name for f in FIELDS if f.role == "gauge")
REQUIRED: tuple[str, ...] = ("iter_num", "task_loss")
PER_BATCH = frozenset({"iter_num", "task_loss", "micro_step", "example_losses", "kl_to_anchor"})
_CARRIED = tuple(name for name in (*FACTS, *GAUGES) if name not in PER_BATCH)
_DEFAULTS = tuple((field.name, field.default) for field in FIELDS)
knob_values: Callable[[Any], tuple[Value, ...]] = attrgetter(*KNOBS)
_NUMBER_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
CODE_PATTERN = re.compile(r"[A-Z][A-Z0-9_]{1,63}")


class Note(NamedTuple):
    """What a plugin said with `decide`, before the chain has attributed the turned knobs."""

    action: str
    reason_code: str
    observed: float | None
    threshold: float | None
    fields: tuple[str, ...]
    numbers: Mapping[str, float]


def _as_float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError
    return float(value)


def _as_int(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError
    return int(value)


def _as_bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _as_str(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _as_floats(value: Any) -> tuple[float, ...]:
    return tuple(_as_float(item) for item in value)


_CONVERT: Mapping[Kind, Callable[[Any], Value]] = {
    "float": _as_float, "int": _as_int, "bool": _as_bool, "str": _as_str, "floats": _as_floats,
}  # fmt: skip
_set = object.__setattr__


def _convert(name: str, value: Any) -> Value:
    field = TABLE[name]
    if value is None and field.nullable:
        return None
    try:
        return _CONVERT[field.kind](value)
    except TypeError:
        hint = " (read a tensor once, in the trainer)" if hasattr(value, "item") else ""
        raise ContextError(
            f"{name} takes {field.kind}, got {type(value).__name__} {value!r:.60}{hint}"
        ) from None


def _number(name: str, value: Any) -> float:
    """A plain double: what was judged, not a tensor that changes later."""
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ContextError(
            f"{name} of a decision takes a number, got {type(value).__name__} {value!r:.60}"
        ) from None


class OccamContext:
    """Facts, knobs and gauges of one batch; see the table in this module.

    Raises:
        ContextError: when a fact or gauge is set, a field does not exist, or a value has the wrong type.

    """

    __slots__ = (*(field.name for field in FIELDS), "custom", "notes", "shadow_knobs")
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
    notes: list[Note]
    shadow_knobs: dict[str, Value]

    def __init__(
        self, iter_num: int, task_loss: float, *, custom: Mapping[str, float] | None = None, **fields: Any
    ) -> None:
        for name, default in _DEFAULTS:
            _set(self, name, default)
        for name, value in (("iter_num", iter_num), ("task_loss", task_loss), *fields.items()):
            if name not in TABLE:
                raise ContextError(f"OccamContext has no field {name!r}{nearest(name, TABLE)}")
            _set(self, name, _convert(name, value))
        _set(self, "custom", dict(custom or {}))
        _set(self, "notes", [])
        _set(self, "shadow_knobs", {})

    def __setattr__(self, name: str, value: Any) -> None:
        field = TABLE.get(name)
        if field is None:
            raise ContextError(
                f"OccamContext has no field {name!r}{nearest(name, KNOBS)}; metrics of your own go into ctx.custom"
            )
        if field.role != "knob":
            raise ContextError(
                f"{name} is a {field.role} of iteration {self.iter_num}, only the trainer measures it; "
                f"plugins may turn: {', '.join(KNOBS)}"
            )
        converted = _convert(name, value)
        if isinstance(converted, float) and math.isnan(converted):
            raise ContextError(
                f"{name} was turned to NaN at iteration {self.iter_num}; a knob takes a number"
            )
        _set(self, name, converted)

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
            if not CODE_PATTERN.fullmatch(code):
                raise ContextError(
                    f"{what} {code!r} is not a stable code: capital letters, digits and _, 2 to 64 of them"
                )
        kept = {}
        for name, value in (numbers or {}).items():
            if not _NUMBER_NAME.fullmatch(name):
                raise ContextError(
                    f"{name!r:.80} cannot name a number of a decision: letters, digits and _, at most 64"
                )
            kept[name] = _number(name, value)
        judged = [
            None if v is None else _number(w, v)
            for w, v in (("observed", observed), ("threshold", threshold))
        ]
        self.notes.append(Note(action, reason_code, judged[0], judged[1], tuple(fields), kept))
        return self

    def measure(self, **gauges: Any) -> None:
        """For the trainer alone: set gauges, measured after the step."""
        for name, value in gauges.items():
            if name not in GAUGES:
                raise ContextError(f"measure() takes gauges, and {name!r} is none{nearest(name, GAUGES)}")
            _set(self, name, _convert(name, value))

    def following(self, iter_num: int, task_loss: float, **fields: Any) -> OccamContext:
        """The next batch's context: run-long facts, gauges and `custom` carry over, knobs start again."""
        after = OccamContext(iter_num, task_loss, custom=self.custom, **fields)
        for name in _CARRIED:
            if name not in fields:
                _set(after, name, getattr(self, name))
        return after

    def knobs(self) -> dict[str, Value]:
        """All knobs by name."""
        return dict(zip(KNOBS, knob_values(self), strict=True))

    def turn(self, knobs: Mapping[str, Value]) -> None:
        """For the chain: put knobs to given values."""
        for name, value in knobs.items():
            _set(self, name, value)

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
        return {**{name: getattr(self, name) for name in TABLE}, "custom": dict(self.custom)}
