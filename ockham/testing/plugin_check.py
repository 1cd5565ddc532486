"""Check of the requirements that every plugin must meet: settings, reasons, repeatability, state."""

from __future__ import annotations

import inspect
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

from ockham.chain import UNEXPLAINED
from ockham.context import CODE_PATTERN, GAUGES, KNOBS
from ockham.errors import OckhamError
from ockham.event import Decision, from_json_value, to_json_value
from ockham.plugin import HOOKS, OccamPlugin, setting_names
from ockham.policy.plugin_registry import check_setting, default_settings
from ockham.testing.simulation import BATCHES, SimulatedRun, capture, sample_batches

CLOCKS = ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns")


def check_plugin(plugin: OccamPlugin | Callable[[], OccamPlugin]) -> list[Decision]:
    """Check a plugin in a simulated run that covers all hooks and edge cases.

    Every violated requirement is reported.

    Args:
        plugin: A class, an object whose settings are used, or a function that creates a new object.

    Returns:
        The decisions of the simulated run.

    Raises:
        AssertionError: If a requirement is violated, with one line for each.

    Example:
        >>> from ockham.testing import check_plugin
        >>> decisions = check_plugin(MyPlugin)  # doctest: +SKIP

    """
    problems: list[str] = []
    make = _factory(plugin, problems)
    decisions: list[Decision] = []
    try:
        if not problems:
            instance = make()
            problems += [*_settings(instance), *_declared(instance)]
            decisions = capture(instance, batches=sample_batches()).decisions
            problems += _reasons(instance, decisions)
            problems += [*_repeatable(make, decisions), *_resumable(make, decisions), *_respects_skip(make)]
    except Exception as error:
        # Any exception is a result of the check.
        problems.append(str(error) if isinstance(error, OckhamError) else f"{type(error).__name__}: {error}")
    if problems:
        raise AssertionError("\n".join([f"{len(problems)} plugin requirements are violated:", *problems]))
    return decisions


def _factory(
    plugin: OccamPlugin | Callable[[], OccamPlugin], problems: list[str]
) -> Callable[[], OccamPlugin]:
    """Return a function that creates new objects of the given plugin."""
    if isinstance(plugin, OccamPlugin):
        name, shadow, settings = plugin.name, plugin.shadow, plugin.settings()

        def make() -> OccamPlugin:
            instance = type(plugin)(**settings)
            instance.name = name
            instance.shadow = shadow
            return instance

        return make
    if isinstance(plugin, type) and not issubclass(plugin, OccamPlugin):
        problems.append(f"{plugin.__name__} does not derive from ockham.OccamPlugin")
    return plugin


def _settings(plugin: OccamPlugin) -> Iterator[str]:
    """Yield violations of the rule that a policy can contain all settings and restore them."""
    cls, settings = type(plugin), plugin.settings()
    for name in setting_names(cls):
        if name not in settings:
            yield f"parameter {name!r} is not stored as self.{name}, so a policy cannot contain its value"
    for parameter in inspect.signature(cls).parameters.values():
        if parameter.kind is parameter.POSITIONAL_ONLY or parameter.kind is parameter.VAR_POSITIONAL:
            yield f"parameter {parameter.name!r} cannot be passed by name, as a policy does"
    for name, value in {**default_settings(cls), **settings}.items():
        if not _is_json(value):
            yield f"setting {name!r} is a {type(value).__name__}: a policy contains only JSON values"
        else:
            try:
                check_setting(cls, cls.__name__, name, value, "")
            except OckhamError as error:
                yield str(error)
    if type(plugin)(**settings).settings() != settings:
        yield "an object created from the settings has different settings"


def _declared(plugin: OccamPlugin) -> Iterator[str]:
    """Yield violations in the attributes that a plugin declares."""
    if all(getattr(type(plugin), hook) is getattr(OccamPlugin, hook) for hook in HOOKS):
        yield f"overrides no hook; override one of {', '.join(HOOKS)}"
    for code, meaning in plugin.reasons.items():
        if not CODE_PATTERN.fullmatch(code):
            yield f"reason {code!r} is not a stable code; use capital letters, digits and _"
        if not meaning.strip().endswith("."):
            yield f"reason {code!r} needs a meaning that is a sentence with a full stop"
    for name in plugin.base_knobs():
        if name not in KNOBS:
            yield f"base_knobs() names {name!r}, which is not a knob"
    for name, every in plugin.required_measurements().items():
        if name not in {*GAUGES, "example_losses"} or every < 1:
            yield (
                f"required_measurements() asks for {name!r} every {every}; "
                "name a gauge and an interval of at least 1"
            )


def _reasons(plugin: OccamPlugin, decisions: Sequence[Decision]) -> Iterator[str]:
    for code in sorted({decision.reason_code for decision in decisions} - set(plugin.reasons)):
        if code == UNEXPLAINED:
            fields = sorted({c.field for d in decisions if d.reason_code == code for c in d.changes})
            yield f"changes {', '.join(fields)} without ctx.decide(...), so the log has no reason"
        else:
            yield f"reason {code!r} has no entry in `reasons`"


def _repeatable(make: Callable[[], OccamPlugin], decisions: Sequence[Decision]) -> Iterator[str]:
    """Yield a violation if decisions depend on a clock, on global randomness or on shared state."""
    with _shifted_clock_and_rng():
        again = capture(make(), batches=sample_batches()).decisions
    first = next((a for a, b in zip(decisions, again, strict=False) if repr(a) != repr(b)), None)
    if first is not None or len(decisions) != len(again):
        start = f" from iteration {first.iter_num}" if first else ""
        yield (
            f"decisions differ{start} on the same contexts; "
            "the plugin uses a clock, global randomness or state outside of the object"
        )


def _resumable(make: Callable[[], OccamPlugin], decisions: Sequence[Decision]) -> Iterator[str]:
    """Yield violations if state saved as JSON and loaded into a new object changes later decisions."""
    batches = list(sample_batches())
    cut = BATCHES * 2 // 3 - 5
    first, second = make(), make()
    head = capture(first, batches=batches[:cut])
    state = first.state_dict()
    if not _is_json(state):
        yield "state_dict() returns a value that is not JSON, so a checkpoint cannot contain it"
        return
    stored = json.dumps(to_json_value(state))
    second.load_state_dict(from_json_value(json.loads(stored)))
    for plugin in (first, second):
        tail = SimulatedRun([plugin], after=head.contexts[-1])
        for batch in batches[cut:]:
            tail.run_batch(batch, {})
    if repr(head.decisions + tail.captured.decisions) != repr(list(decisions)):
        yield "decisions differ after state_dict() and load_state_dict(); a part of the state is not saved"
    if json.dumps(to_json_value(state)) != stored:
        yield "state_dict() returned an object that changed later; return a copy"


def _respects_skip(make: Callable[[], OccamPlugin]) -> Iterator[str]:
    """Yield a violation if the plugin changes knobs of a batch that an earlier plugin has skipped."""
    skipped = [replace(batch, fields={**batch.fields, "updated": False}) for batch in sample_batches()]
    for decision in capture(make(), batches=skipped).decisions:
        if decision.hook == "on_batch_start" and decision.changes:
            fields = ", ".join(change.field for change in decision.changes)
            batch = f"iteration {decision.iter_num}, which an earlier plugin skipped"
            yield f"changes {fields} in {batch}"
            return


@contextmanager
def _shifted_clock_and_rng() -> Iterator[None]:
    """Context manager that shifts every clock by one day and reseeds the global random generator."""
    state = random.getstate()
    day = {name: 86_400 * (10**9 if name.endswith("_ns") else 1) for name in CLOCKS}
    with ExitStack() as stack:
        for name, later in day.items():
            clock = getattr(time, name)
            stack.enter_context(mock.patch.object(time, name, lambda c=clock, d=later: c() + d))
        random.seed(86_400)
        try:
            yield
        finally:
            random.setstate(state)


def _is_json(value: Any) -> bool:
    try:
        json.dumps(to_json_value(value), allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True
