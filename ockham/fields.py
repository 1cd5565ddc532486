"""Table of the context's fields. It defines which field is a fact, a knob or a gauge."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ockham.errors import ContextError
from ockham.event import Value

Role = Literal["fact", "knob", "gauge"]
Kind = Literal["float", "int", "bool", "str", "floats"]


@dataclass(frozen=True, slots=True)
class Field:
    """Name, role, unit, default and description of one field of the context."""

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
    Field("micro_steps", "fact", "int", 1, "1", "Micro-batches of this step; 1 without accumulation."),
    Field("run_id", "fact", "str", "", "", "The run that this batch belongs to."),
    Field(
        "seed", "fact", "int", 0, "", "Seed of the run; plugins draw from (seed, iter_num, micro_step) only."
    ),
    Field("max_iters", "fact", "int", 0, "1", "Planned length of the run in steps; 0 if unknown."),
    Field("warmup_iters", "fact", "int", 0, "1", "Length of the learning-rate warm-up in steps."),
    Field(
        "tokens_seen",
        "fact",
        "int",
        0,
        "tokens",
        "Tokens forwarded before this batch, skipped ones included.",
    ),
    Field("vocab_size", "fact", "int", 0, "1", "Size of the vocabulary; 0 if unknown."),
    Field("model_params", "fact", "int", 0, "1", "Parameters, tied ones counted once."),
    Field(
        "active_params",
        "fact",
        "int",
        0,
        "1",
        "Parameters used for one token; 0 if equal to model_params.",
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
        "Number of tokens of inference_flops; 0 if unknown.",
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
        "Whether an anchor is set. Without one, drift has no meaning.",
    ),
    Field(
        "state_available",
        "fact",
        "bool",
        False,
        "",
        "Whether a state is saved to which a rollback returns.",
    ),
    Field(
        "example_losses",
        "fact",
        "floats",
        (),
        "nats/token",
        "Loss of each example, measured only if a plugin requires it.",
    ),
    Field(
        "rank_loss",
        "fact",
        "float",
        None,
        "nats/token",
        "Loss of this rank; task_loss is the mean of all ranks. null with one rank.",
        nullable=True,
    ),
    Field("learning_rate", "knob", "float", 1e-3, "1", "Learning rate of this step."),
    Field("lambda_ockham", "knob", "float", 0.01, "1", "Strength of the pull towards the anchor."),
    Field(
        "surprise_threshold",
        "knob",
        "float",
        2.0,
        "nats/token",
        "Smallest loss at which a batch is used for an update.",
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
    Field(
        "example_gain", "knob", "floats", (), "ratio", "Weight of each example, mean 1; empty: equal weights."
    ),
    Field("updated", "knob", "bool", True, "", "Whether this batch may update the weights."),
    Field(
        "step",
        "knob",
        "bool",
        True,
        "",
        "Whether the optimizer takes the step of the accepted batches; false drops the gradients.",
    ),
    Field(
        "consolidating",
        "knob",
        "bool",
        False,
        "",
        "Request, then permission, to move the anchor to the present weights.",
    ),
    Field(
        "accepted",
        "knob",
        "bool",
        False,
        "",
        "Whether the weights of this evaluation are saved as a checkpoint.",
    ),
    Field("rollback", "knob", "bool", False, "", "Request to return to a saved state or the anchor."),
    Field("halt", "knob", "bool", False, "", "Request to end the run, valid and resumable."),
    Field(
        "complexity_cost",
        "gauge",
        "float",
        0.0,
        "ratio",
        "Relative drift |theta - anchor|/|anchor| over the matrices.",
    ),
    Field("drift_raw", "gauge", "float", 0.0, "ratio", "Drift before the projection of this step."),
    Field(
        "drift_sq",
        "gauge",
        "float",
        0.0,
        "1",
        "Squared sum |theta - anchor|^2: the penalty of the original formula.",
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
        "KL(anchor || current) on the probe; null if not measured at this batch.",
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
FIELDS_BY_NAME: Mapping[str, Field] = {field.name: field for field in FIELDS}
FACTS: tuple[str, ...] = tuple(f.name for f in FIELDS if f.role == "fact")
KNOBS: tuple[str, ...] = tuple(f.name for f in FIELDS if f.role == "knob")
GAUGES: tuple[str, ...] = tuple(f.name for f in FIELDS if f.role == "gauge")
# Knobs of the step. With accumulation they are those of the last accepted micro-batch.
STEP_KNOBS: tuple[str, ...] = (
    "learning_rate",
    "lambda_ockham",
    "grad_clip",
    "drift_ceiling",
    "grad_noise_std",
)
REQUIRED: tuple[str, ...] = ("iter_num", "task_loss")
PER_BATCH = frozenset(
    {"iter_num", "task_loss", "micro_step", "micro_steps", "example_losses", "rank_loss", "kl_to_anchor"}
)
CARRIED_OVER = tuple(name for name in (*FACTS, *GAUGES) if name not in PER_BATCH)
DEFAULTS: Mapping[str, Value] = {field.name: field.default for field in FIELDS}
_TYPES: Mapping[Kind, type] = {"float": float, "int": int, "bool": bool, "str": str}
PYTHON_TYPES: Mapping[str, type] = {
    field.name: _TYPES[field.kind] for field in FIELDS if field.kind in _TYPES
}


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
    "float": _as_float,
    "int": _as_int,
    "bool": _as_bool,
    "str": _as_str,
    "floats": _as_floats,
}


def coerce_field(name: str, value: Any) -> Value:
    """Return *value* converted to the type of the field *name*.

    Raises:
        ContextError: If the value has the wrong type, or a knob would become NaN.

    """
    kind = type(value)
    # The common case: the value has its type already.
    if kind is PYTHON_TYPES.get(name) and (kind is not float or not math.isnan(value)):
        unchanged: Value = value
        return unchanged
    field = FIELDS_BY_NAME[name]
    if value is None and field.nullable:
        return None
    try:
        converted = _CONVERT[field.kind](value)
    except (TypeError, OverflowError):
        hint = " (read a tensor once, in the trainer)" if hasattr(value, "item") else ""
        raise ContextError(
            f"{name} takes {field.kind}, got {type(value).__name__} {value!r:.60}{hint}"
        ) from None
    if field.role == "knob" and _has_nan(converted):
        raise ContextError(f"{name} was set to NaN; a knob takes a number")
    return converted


def _has_nan(value: Value) -> bool:
    if isinstance(value, tuple):
        return any(math.isnan(item) for item in value)
    return isinstance(value, float) and math.isnan(value)


def to_float(name: str, value: Any) -> float:
    """Return *value* as a Python float, so that a tensor that changes later does not change the record.

    Raises:
        ContextError: If the value is not a number.

    """
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise ContextError(
            f"{name} of a decision takes a number, got {type(value).__name__} {value!r:.60}"
        ) from None
