"""PluginChain: runs plugins in order and attributes each knob change to one plugin.

The chain compares the knobs before and after each plugin. A change without a reason is logged as
`UNEXPLAINED`. Decisions are passed to a callable; the chain uses neither files nor clocks.

Plugins in shadow see each other's knobs, that is, what the acting chain would have done. Acting plugins see
only the real knobs. A change by an acting plugin counts for both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ockham.context import FACTS, KNOBS, DecisionNote, OccamContext, knob_values
from ockham.errors import BadInputError, ContextError, PluginError
from ockham.event import Change, Decision, Value
from ockham.plugin import HOOK_KNOBS, HOOKS, OccamPlugin

Emit = Callable[[Decision], None]
UNEXPLAINED = "UNEXPLAINED"
_CEILINGS = ("grad_clip", "drift_ceiling")


class PluginChain:
    """Plugins in order. `emit` receives every decision when it is made.

    Raises:
        BadInputError: If two plugins have the same name, or an object is not a plugin.
        PluginError: From a hook, if a plugin raises. The chain remains usable.

    """

    def __init__(self, plugins: Iterable[OccamPlugin], emit: Emit | None = None) -> None:
        self.emit: Emit = emit or (lambda _: None)
        self.replace_plugins(plugins)

    def replace_plugins(self, plugins: Iterable[OccamPlugin]) -> None:
        """Use other plugins from the next batch on. Their state is not changed.

        Raises:
            BadInputError: If two plugins have the same name, or an object is not a plugin.

        """
        self.plugins = list(plugins)
        for plugin in self.plugins:
            if not isinstance(plugin, OccamPlugin):
                raise BadInputError(f"{plugin!r} is not a plugin; derive its class from ockham.OccamPlugin")
        names = [plugin_name(plugin) for plugin in self.plugins]
        for name in names:
            if names.count(name) > 1:
                raise BadInputError(f"two plugins have the name {name!r}; give one of them another name")
        self._hook_table = {
            hook: [
                (i, name, plugin, getattr(plugin, hook))
                for i, (name, plugin) in enumerate(zip(names, self.plugins, strict=True))
                if _has(plugin, hook)
            ]
            for hook in HOOKS
        }
        for hook, calls in self._hook_table.items():
            if all(hook in plugin.passive_hooks for _, _, plugin, _ in calls):
                calls.clear()
        self._shadow_base: dict[str, Value] = {}
        for plugin in self.plugins:
            if plugin.shadow:
                self._shadow_base.update(plugin.base_knobs())

    def on_batch_start(self, ctx: OccamContext) -> OccamContext:
        """Run every plugin's `on_batch_start`. Afterwards the knobs contain what the trainer has to do."""
        ctx.shadow_knobs.clear()
        ctx.shadow_knobs.update(ctx.knobs(), **self._shadow_base)
        return self._run("on_batch_start", ctx)

    def on_gradients(self, ctx: OccamContext) -> OccamContext:
        """Run every plugin's `on_gradients` on the measured norm of the gradient of a step."""
        return self._run("on_gradients", ctx)

    def on_batch_end(self, ctx: OccamContext) -> OccamContext:
        """Run every plugin's `on_batch_end` on the gauges of this batch."""
        return self._run("on_batch_end", ctx)

    def on_evaluate(self, ctx: OccamContext) -> OccamContext:
        """Run every plugin's `on_evaluate` on a new validation loss."""
        return self._run("on_evaluate", ctx)

    def on_consolidate(self, ctx: OccamContext) -> OccamContext:
        """Run every plugin's `on_consolidate` after the anchor has moved."""
        return self._run("on_consolidate", ctx)

    def has_hook(self, hook: str, *, acting: bool = False) -> bool:
        """Return True if a plugin has a hook.

        Args:
            hook: Name of the hook, such as `on_gradients`.
            acting: Leave out plugins in shadow, and plugins whose hook is passive.

        """
        calls = self._hook_table[hook]
        if not acting:
            return bool(calls)
        return any(not plugin.shadow and hook not in plugin.passive_hooks for _, _, plugin, _ in calls)

    def state_dict(self) -> dict[str, dict[str, Any]]:
        """Return the state of every plugin by name."""
        return {plugin_name(p): p.state_dict() for p in self.plugins}

    def load_state_dict(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        """Restore the state saved by `state_dict`. Plugins that the state does not contain keep theirs."""
        for plugin in self.plugins:
            if plugin_name(plugin) in state:
                plugin.load_state_dict(state[plugin_name(plugin)])

    def restore_saved_state(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        """Restore the state after a rollback. Plugins that survive rollbacks keep theirs."""
        kept = {plugin_name(plugin) for plugin in self.plugins if plugin.survives_rollback}
        self.load_state_dict({name: value for name, value in state.items() if name not in kept})

    def required_measurements(self) -> dict[str, int]:
        """Return the measurements that plugins require, as field -> interval in updates.

        If several plugins ask for one field, the smallest interval is used.
        """
        intervals: dict[str, int] = {}
        for plugin in self.plugins:
            for name, every in plugin.required_measurements().items():
                intervals[name] = min(every, intervals.get(name, every))
        return intervals

    def _run(self, hook: str, ctx: OccamContext) -> OccamContext:
        after = knob_values(ctx)
        # Knobs of the acting plugins, while the context has those of the shadow plugins.
        acting: tuple[Value, ...] | None = None
        for order, name, plugin, method in self._hook_table[hook]:
            shadow = plugin.shadow
            if shadow and acting is None:
                acting = after
                ctx.set_knobs(ctx.shadow_knobs)
                after = knob_values(ctx)
            elif not shadow and acting is not None:
                after, acting = acting, None
                ctx.set_knobs(dict(zip(KNOBS, after, strict=True)))
            before = after
            try:
                returned = method(ctx)
                if returned is not None and returned is not ctx:
                    _apply_returned_context(ctx, returned)
                if ctx.custom:
                    ctx.check_custom()
                after = knob_values(ctx)
                if after != before:
                    _require_changeable(hook, before, after)
            except Exception as error:
                ctx.set_knobs(dict(zip(KNOBS, before if acting is None else acting, strict=True)))
                ctx.notes.clear()
                raise PluginError(name, hook, ctx.iter_num, error) from error
            changed: tuple[Change, ...] = ()
            if after != before:
                pairs = zip(KNOBS, before, after, strict=True)
                changed = tuple([Change(knob, was, now) for knob, was, now in pairs if was != now])
                ctx.shadow_knobs.update({change.field: change.after for change in changed})
            if changed or ctx.notes:
                self._emit_decisions(hook, ctx, name, order, shadow, changed)
        if acting is not None:
            ctx.set_knobs(dict(zip(KNOBS, acting, strict=True)))
        return ctx

    def _emit_decisions(
        self, hook: str, ctx: OccamContext, name: str, order: int, shadow: bool, changed: tuple[Change, ...]
    ) -> None:
        notes = ctx.notes.copy()
        ctx.notes.clear()
        for note, changes in attribute_changes(notes, changed):
            self.emit(
                Decision(
                    iter_num=ctx.iter_num,
                    micro_step=ctx.micro_step,
                    hook=hook,
                    plugin=name,
                    order=order,
                    shadow=shadow,
                    action=note.action,
                    reason_code=note.reason_code,
                    observed=note.observed,
                    threshold=note.threshold,
                    changes=changes,
                    numbers=note.numbers,
                )
            )


def attribute_changes(
    notes: list[DecisionNote], changed: tuple[Change, ...]
) -> list[tuple[DecisionNote, tuple[Change, ...]]]:
    """Assign each changed knob to the note that names it, the others to the last note."""
    if not notes:
        return [(DecisionNote("TURN", UNEXPLAINED, None, None, (), {}), changed)]
    if len(notes) == 1:
        return [(notes[0], changed)]
    named = [tuple(change for change in changed if change.field in note.fields) for note in notes]
    unnamed = tuple(change for change in changed if not any(change.field in note.fields for note in notes))
    named[-1] += unnamed
    return list(zip(notes, named, strict=True))


def base_knobs(plugins: Iterable[OccamPlugin], hyperparameters: Mapping[str, Any]) -> dict[str, Value]:
    """Return the knob values at which the policy starts every batch.

    The lower one of two ceilings is used.
    """
    knobs: dict[str, Value] = {
        k: v for k, v in hyperparameters.items() if k in ("lambda_ockham", "grad_clip")
    }
    for plugin in plugins:
        for name, value in {} if plugin.shadow else plugin.base_knobs().items():
            knobs[name] = _stricter_ceiling(name, value, knobs.get(name))
    return knobs


def merge_scheduled_knobs(base: Mapping[str, Value], scheduled: Mapping[str, Any]) -> dict[str, Any]:
    """Return the policy's base knobs, overridden by the trainer's scheduled ones."""
    knobs = {**base, **scheduled}
    for name in _CEILINGS:
        if name in scheduled:
            knobs[name] = _stricter_ceiling(name, scheduled[name], base.get(name))
    return knobs


def _stricter_ceiling(name: str, value: Any, other: Any) -> Any:
    return min(value, other) if name in _CEILINGS and other is not None else value


def plugin_name(plugin: OccamPlugin) -> str:
    """Return the name of a plugin, or its class name if it has none."""
    return plugin.name or type(plugin).__name__


def _has(plugin: OccamPlugin, hook: str) -> bool:
    """Return True if a plugin overrides a hook. The empty hook of the base class is not called."""
    return getattr(type(plugin), hook) is not getattr(OccamPlugin, hook)


def _require_changeable(hook: str, before: tuple[Value, ...], after: tuple[Value, ...]) -> None:
    """Raise ContextError if a hook changed a knob that it cannot change any more."""
    for name, old, new in zip(KNOBS, before, after, strict=True):
        if old != new and name not in HOOK_KNOBS[hook]:
            allowed = ", ".join(knob for knob in KNOBS if knob in HOOK_KNOBS[hook])
            hooks = ", ".join(other for other in HOOKS if name in HOOK_KNOBS[other])
            raise ContextError(f"{hook} can change {allowed}; {name} can be changed by {hooks}")


def _apply_returned_context(ctx: OccamContext, returned: object) -> None:
    """Take the knobs of a copy that a plugin returned."""
    if not isinstance(returned, OccamContext):
        raise ContextError(f"a hook returns the context or None, got {type(returned).__name__}")
    changed = [
        name
        for name in FACTS
        if getattr(returned, name) is not getattr(ctx, name) and getattr(returned, name) != getattr(ctx, name)
    ]
    if changed:
        raise ContextError(f"the returned copy has other facts: {', '.join(changed)}")
    ctx.set_knobs(returned.knobs())
    ctx.custom.update(returned.custom)
    ctx.notes.extend(note for note in returned.notes if not any(note is known for known in ctx.notes))
