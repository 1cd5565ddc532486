"""OccamPlugin: base class of the plugins. The trainer measures, plugins decide.

Plugins see Python floats, never tensors.

    for each batch                               (the chain calls every plugin in order)
        loss = forward(batch)
        ctx  = facts, knobs at their scheduled value, gauges of the previous batch
        on_batch_start(ctx)      change knobs: skip, scale, limit        <- after forward, before backward
        if ctx.updated:          backward                                (by the trainer)
        on_gradients(ctx)        once per step; grad_norm is measured: limit, slow down or refuse the step
        if ctx.step:             clip, step, pull, projection            (by the trainer)
        on_batch_end(ctx)        gauges of *this* batch are set; request consolidation, rollback or halt
        at an evaluation, or if consolidation was requested:
            on_evaluate(ctx)     val_loss is set; accept or reject; allow or refuse the consolidation
            if ctx.accepted:     a checkpoint is saved
            if ctx.consolidating: the anchor moves to these weights, then
                on_consolidate(ctx)

Every hook is optional, can return the context or None, and states its reason with `ctx.decide(...)`.
A plugin uses no clock and no global randomness: the same contexts must produce the same decisions.
"""

from __future__ import annotations

import hashlib
import inspect
import typing
from collections import deque
from collections.abc import Mapping
from typing import Any, ClassVar

from ockham.context import KNOBS, OccamContext
from ockham.errors import PluginSettingError
from ockham.event import Value

HOOKS = ("on_batch_start", "on_gradients", "on_batch_end", "on_evaluate", "on_consolidate")
_REQUESTS = frozenset({"rollback", "halt"})
# Knobs that each hook can change. A change of another knob would come too late, so the chain refuses it.
HOOK_KNOBS: Mapping[str, frozenset[str]] = {
    "on_batch_start": frozenset(KNOBS) - {"accepted", "step"},
    "on_gradients": frozenset({"learning_rate", "grad_clip", "step"}),
    "on_batch_end": _REQUESTS | {"consolidating"},
    "on_evaluate": _REQUESTS | {"consolidating", "accepted"},
    "on_consolidate": _REQUESTS,
}


class OccamPlugin:
    """Base class of all plugins.

    Parameters of `__init__` are *settings*, which the policy contains. Every other instance attribute is
    *state*: it is stored in checkpoints and key frames, so it must be JSON (numbers, strings, booleans, None,
    lists, dicts, deques). Override `state_dict` and `load_state_dict` together if that does not fit.

    Attributes:
        name: Name of the plugin in policy, log and views. The chain uses the class name if it is empty.
        shadow: If true, the plugin decides and is logged, and the chain restores the knobs.
        survives_rollback: If true, a rollback to a saved state does not restore the state of the plugin, such
            as a count of rollbacks.
        reasons: Meaning of each reason code of the plugin, in one sentence.
        limits: Interval of each setting that has one, such as `(0, 1]`. `check_settings` enforces it.
        passive_hooks: Hooks that are only called if another plugin has them, such as to enforce a ceiling.

    Example:
        >>> class Quiet(OccamPlugin):
        ...     reasons = {"QUIET": "The loss is below the level."}
        ...     def __init__(self, level: float = 1.0) -> None:
        ...         self.level = level
        ...     def on_batch_start(self, ctx: OccamContext) -> None:
        ...         if ctx.task_loss < self.level:
        ...             ctx.updated = False
        ...             ctx.decide("SKIP", "QUIET", ctx.task_loss, self.level)

    """

    name: str = ""
    shadow: bool = False
    survives_rollback: ClassVar[bool] = False
    reasons: ClassVar[Mapping[str, str]] = {}
    limits: ClassVar[Mapping[str, str]] = {}
    passive_hooks: ClassVar[frozenset[str]] = frozenset()

    def on_batch_start(self, ctx: OccamContext) -> OccamContext | None:
        """Change knobs before the backward pass."""

    def on_gradients(self, ctx: OccamContext) -> OccamContext | None:
        """Change learning rate or clipping of a step whose gradient norm was measured, or refuse it."""

    def on_batch_end(self, ctx: OccamContext) -> OccamContext | None:
        """Evaluate the gauges of the step that was taken or skipped."""

    def on_evaluate(self, ctx: OccamContext) -> OccamContext | None:
        """Evaluate a new validation loss."""

    def on_consolidate(self, ctx: OccamContext) -> OccamContext | None:
        """React to the anchor having moved to the present weights."""

    def base_knobs(self) -> dict[str, Value]:
        """Return knob values at which every batch starts, such as a ceiling that a setting defines."""
        return {}

    def required_measurements(self) -> dict[str, int]:
        """Return the expensive measurements that the plugin needs, as field name -> interval in updates."""
        return {}

    def settings(self) -> dict[str, Any]:
        """Return the plugin's settings: parameters of `__init__` that are attributes."""
        return {key: getattr(self, key) for key in setting_names(type(self)) if hasattr(self, key)}

    def check_settings(self) -> None:
        """Check every setting against its interval in `limits` and the choices of its `Literal` hint.

        Call it at the end of `__init__`. None is accepted, NaN is not.

        Raises:
            PluginSettingError: If a setting is outside its interval or is not one of its choices.

        """
        plugin = self.name or type(self).__name__
        for name, interval in self.limits.items():
            value = getattr(self, name)
            if value is not None and not in_interval(value, interval):
                raise PluginSettingError(plugin, f"{name} must be in {interval}, got {value!r:.60}")
        for name, choices in literal_choices(type(self)).items():
            if getattr(self, name) not in (*choices, None):
                accepted = ", ".join(map(repr, choices))
                raise PluginSettingError(
                    plugin, f"{name} is one of {accepted}, got {getattr(self, name)!r:.60}"
                )

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the plugin as JSON values."""
        hidden = {"name", "shadow", *setting_names(type(self))}
        return {key: _json_copy(value) for key, value in vars(self).items() if key not in hidden}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state saved by `state_dict`."""
        for key, value in state.items():
            current = getattr(self, key, None)
            if isinstance(current, deque):
                setattr(self, key, deque(value, maxlen=current.maxlen))
            elif isinstance(current, tuple):
                setattr(self, key, tuple(value))
            else:
                setattr(self, key, _json_copy(value))


def setting_names(cls: type) -> tuple[str, ...]:
    """Return the names of the settings of a plugin class."""
    parameters = list(inspect.signature(cls).parameters.values())
    return tuple(p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY))


def literal_choices(cls: type) -> dict[str, tuple[Any, ...]]:
    """Return the choices of each setting whose type hint is a `Literal`, or a `Literal` or None."""
    choices_by_name = {}
    for name, parameter in inspect.signature(cls, eval_str=True).parameters.items():
        options = (parameter.annotation, *typing.get_args(parameter.annotation))
        choices = [typing.get_args(hint) for hint in options if typing.get_origin(hint) is typing.Literal]
        if choices:
            choices_by_name[name] = choices[0]
    return choices_by_name


def in_interval(value: Any, interval: str) -> bool:
    """Return True if a number is in an interval such as `[0, 1]`, `(0, inf)` or `[1, inf]`."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    low, high = (float(end) for end in interval[1:-1].split(","))
    above = value >= low if interval[0] == "[" else value > low
    return above and (value <= high if interval[-1] == "]" else value < high)


def counter_uniform(*counter: int | str) -> float:
    """Return a uniform number in (0, 1) that depends only on the counter (BLAKE2b, 53 bits).

    The same counter returns the same number on every machine.
    """
    digest = hashlib.blake2b("/".join(map(str, counter)).encode(), digest_size=8).digest()
    return ((int.from_bytes(digest, "big") >> 11) + 0.5) / 2**53


def _json_copy(value: Any) -> Any:
    """Return a JSON copy of a state value, so that a saved state does not change with the plugin."""
    if isinstance(value, (list, tuple, deque)):
        return [_json_copy(item) for item in value]
    if isinstance(value, dict):
        return {key: _json_copy(item) for key, item in value.items()}
    return value
