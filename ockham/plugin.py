"""OccamPlugin: what judges. The trainer measures, plugins judge: a plugin sees Python floats, never a tensor.

    for each batch                               (the chain calls every plugin in order)
        loss = forward(batch)
        ctx  = facts, knobs at their scheduled value, gauges of the batch before
        on_batch_start(ctx)      turn knobs: skip, scale, limit          <- after the forward, before the backward
        if ctx.updated:          backward, clip, step, pull, projection  (the trainer, mechanically)
        on_batch_end(ctx)        gauges of *this* batch are in; ask for consolidation, rollback or halt
        at an evaluation, or where consolidation was asked for:
            on_evaluate(ctx)     val_loss is in; accept or refuse; allow or refuse the consolidation
            if ctx.accepted:     a checkpoint is saved
            if ctx.consolidating: the anchor moves here, then
                on_consolidate(ctx)

Every hook is optional, may return the context or nothing, and gives its reason with `ctx.decide(...)`.
A plugin keeps no clock and no global randomness: the same contexts must give the same decisions.
"""

from __future__ import annotations

import hashlib
import inspect
import typing
from collections import deque
from collections.abc import Mapping
from typing import Any, ClassVar

from ockham.context import OccamContext
from ockham.errors import BadInputError
from ockham.event import Value

HOOKS = ("on_batch_start", "on_batch_end", "on_evaluate", "on_consolidate")


class OccamPlugin:
    """Base of all plugins.

    Parameters of `__init__` are *settings* (they stand in the policy); every other instance attribute is *state*
    (it goes into checkpoints and key frames, so it must be JSON: numbers, strings, booleans, None, lists, dicts,
    deques). Override `state_dict` and `load_state_dict` together where that does not fit.

    Attributes:
        name: how policy, log and views call the plugin; the chain fills in the class name where it is empty.
        shadow: if true the plugin decides and is logged, and the chain puts the knobs back.
        reasons: each reason code that the plugin gives, and its meaning in one sentence.
        limits: interval of each setting that has one, such as `(0, 1]`; see `check_settings`.

    """

    name: str = ""
    shadow: bool = False
    reasons: ClassVar[Mapping[str, str]] = {}
    limits: ClassVar[Mapping[str, str]] = {}

    def on_batch_start(self, ctx: OccamContext) -> OccamContext | None:
        """Turn knobs before the backward pass."""

    def on_batch_end(self, ctx: OccamContext) -> OccamContext | None:
        """Judge the gauges of the step that was just taken, or skipped."""

    def on_evaluate(self, ctx: OccamContext) -> OccamContext | None:
        """Judge a fresh validation loss."""

    def on_consolidate(self, ctx: OccamContext) -> OccamContext | None:
        """The anchor has moved to the present weights."""

    def base_knobs(self) -> dict[str, Value]:
        """Knob values that every batch starts at because of this plugin's settings, such as a ceiling."""
        return {}

    def required_measurements(self) -> dict[str, int]:
        """Costly measurements that the plugin needs: field name -> every how many updates."""
        return {}

    def settings(self) -> dict[str, Any]:
        """The plugin's settings: parameters of `__init__` that are attributes too."""
        return {key: getattr(self, key) for key in setting_names(type(self)) if hasattr(self, key)}

    def check_settings(self) -> None:
        """For the end of `__init__`: every setting in its `limits`, and one of its `Literal`; None passes, NaN never.

        Raises:
            BadInputError: naming plugin, setting and what is accepted.

        """
        called = self.name or type(self).__name__
        for name, interval in self.limits.items():
            value = getattr(self, name)
            if value is not None and not in_interval(value, interval):
                raise BadInputError(f"{called}: {name} lies in {interval}, got {value!r:.60}")
        for name, choices in literal_choices(type(self)).items():
            if getattr(self, name) not in (*choices, None):
                told = ", ".join(map(repr, choices))
                raise BadInputError(f"{called}: {name} is one of {told}, got {getattr(self, name)!r:.60}")

    def state_dict(self) -> dict[str, Any]:
        """All that the plugin remembers, as JSON values."""
        hidden = {"name", "shadow", *setting_names(type(self))}
        return {key: _json_copy(value) for key, value in vars(self).items() if key not in hidden}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up where `state_dict` left."""
        for key, value in state.items():
            current = getattr(self, key, None)
            if isinstance(current, deque):
                setattr(self, key, deque(value, maxlen=current.maxlen))
            elif isinstance(current, tuple):
                setattr(self, key, tuple(value))
            else:
                setattr(self, key, _json_copy(value))


def setting_names(cls: type) -> tuple[str, ...]:
    """Names of the parameters of a plugin class."""
    parameters = list(inspect.signature(cls).parameters.values())
    return tuple(p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY))


def literal_choices(cls: type) -> dict[str, tuple[Any, ...]]:
    """Settings whose hint is a `Literal`, or one or None, and their choices."""
    found = {}
    for name, parameter in inspect.signature(cls, eval_str=True).parameters.items():
        options = (parameter.annotation, *typing.get_args(parameter.annotation))
        choices = [typing.get_args(hint) for hint in options if typing.get_origin(hint) is typing.Literal]
        if choices:
            found[name] = choices[0]
    return found


def in_interval(value: Any, interval: str) -> bool:
    """Whether a number lies in an interval written as in mathematics: `[0, 1]`, `(0, inf)`, `[1, inf]`."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    low, high = (float(end) for end in interval[1:-1].split(","))
    above = value >= low if interval[0] == "[" else value > low
    return above and (value <= high if interval[-1] == "]" else value < high)


def counter_uniform(*counter: int | str) -> float:
    """A draw in (0, 1) from a counter alone: the same counter, the same draw on every machine (BLAKE2b, 53 bits)."""
    digest = hashlib.blake2b("/".join(map(str, counter)).encode(), digest_size=8).digest()
    return ((int.from_bytes(digest, "big") >> 11) + 0.5) / 2**53


def _json_copy(value: Any) -> Any:
    """A JSON copy of a state value, so that a snapshot does not change when the plugin goes on."""
    if isinstance(value, (list, tuple, deque)):
        return [_json_copy(item) for item in value]
    if isinstance(value, dict):
        return {key: _json_copy(item) for key, item in value.items()}
    return value
