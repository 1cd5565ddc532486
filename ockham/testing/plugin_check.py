"""What every plugin promises, tried on it: settings, reasons, repeatability, state."""

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
    """Run a plugin over a made-up run with everything in it that a real one has, and say all that is wrong.

    Args:
        plugin: a class, an object whose settings are taken, or a function that makes a fresh object.

    Returns:
        The decisions of the made-up run.

    Raises:
        AssertionError: one line for each promise that is not kept.

    """
    wrong: list[str] = []
    make = _factory(plugin, wrong)
    decisions: list[Decision] = []
    try:
        if not wrong:
            one = make()
            wrong += [*_settings(one), *_declared(one)]
            decisions = capture(one, batches=sample_batches()).decisions
            wrong += [*_reasons(one, decisions), *_repeatable(make, decisions), *_resumable(make, decisions)]
            wrong += _respects_skip(make)
    except Exception as error:  # whatever it is, it is an answer about the plugin
        wrong.append(str(error) if isinstance(error, OckhamError) else f"{type(error).__name__}: {error}")
    if wrong:
        raise AssertionError("\n".join([f"{len(wrong)} promises of a plugin are not kept:", *wrong]))
    return decisions


def _factory(plugin: OccamPlugin | Callable[[], OccamPlugin], wrong: list[str]) -> Callable[[], OccamPlugin]:
    """Whatever was given, as something that makes fresh objects."""
    if isinstance(plugin, OccamPlugin):
        name, shadow, settings = plugin.name, plugin.shadow, plugin.settings()

        def remade() -> OccamPlugin:
            fresh = type(plugin)(**settings)
            fresh.name, fresh.shadow = name, shadow
            return fresh

        return remade
    if isinstance(plugin, type) and not issubclass(plugin, OccamPlugin):
        wrong.append(f"{plugin.__name__} does not derive from ockham.OccamPlugin")
    return plugin


def _settings(plugin: OccamPlugin) -> Iterator[str]:
    """A policy holds the settings: it must find them again, and be able to write them down."""
    cls, settings = type(plugin), plugin.settings()
    for name in setting_names(cls):
        if name not in settings:
            yield f"parameter {name!r} is not kept as self.{name}: a policy could not name its value"
    for parameter in inspect.signature(cls).parameters.values():
        if parameter.kind is parameter.POSITIONAL_ONLY or parameter.kind is parameter.VAR_POSITIONAL:
            yield f"parameter {parameter.name!r} can't be given by name, as a policy gives it"
    for name, value in {**default_settings(cls), **settings}.items():
        if not _is_json(value):
            yield f"setting {name!r} is a {type(value).__name__}: a policy holds JSON values alone"
        else:
            try:
                check_setting(cls, cls.__name__, name, value, "")
            except OckhamError as error:
                yield str(error)
    if type(plugin)(**settings).settings() != settings:
        yield "an object made from its own settings has others"


def _declared(plugin: OccamPlugin) -> Iterator[str]:
    """What the plugin says about itself."""
    if all(getattr(type(plugin), hook) is getattr(OccamPlugin, hook) for hook in HOOKS):
        yield f"no hook of its own: one of {', '.join(HOOKS)}"
    for code, meaning in plugin.reasons.items():
        if not CODE_PATTERN.fullmatch(code):
            yield f"reason {code!r} is not a stable code: capital letters, digits and _"
        if not meaning.strip().endswith("."):
            yield f"reason {code!r} needs its meaning in a sentence"
    for name in plugin.base_knobs():
        if name not in KNOBS:
            yield f"base_knobs() names {name!r}, which is no knob"
    for name, every in plugin.required_measurements().items():
        if name not in {*GAUGES, "example_losses"} or every < 1:
            yield f"wants() asks for {name!r} every {every}: a measured field, and 1 or more"


def _reasons(plugin: OccamPlugin, decisions: Sequence[Decision]) -> Iterator[str]:
    for code in sorted({decision.reason_code for decision in decisions} - set(plugin.reasons)):
        if code == UNEXPLAINED:
            fields = sorted({c.field for d in decisions if d.reason_code == code for c in d.changes})
            yield f"turns {', '.join(fields)} without ctx.decide(...): logged, but nobody will know why"
        else:
            yield f"reason {code!r} has no entry in `reasons`"


def _repeatable(make: Callable[[], OccamPlugin], decisions: Sequence[Decision]) -> Iterator[str]:
    """Again, by a fresh object, at another time and with other global randomness."""
    with _shifted_clock_and_rng():
        again = capture(make(), batches=sample_batches()).decisions
    first = next((a for a, b in zip(decisions, again, strict=False) if repr(a) != repr(b)), None)
    if first is not None or len(decisions) != len(again):
        at = f" from iteration {first.iter_num}" if first else ""
        yield f"other decisions{at} on the same contexts: a clock, global randomness, or state outside of the object"


def _resumable(make: Callable[[], OccamPlugin], decisions: Sequence[Decision]) -> Iterator[str]:
    """Saved in the middle as JSON and loaded into a fresh object, it goes on as if nothing had happened."""
    whole, cut = list(sample_batches()), BATCHES * 2 // 3 - 5
    first, second = make(), make()
    head = capture(first, batches=whole[:cut])
    state = first.state_dict()
    if not _is_json(state):
        yield "state_dict() holds what is no JSON value, so it can't go into a checkpoint"
        return
    kept = json.dumps(to_json_value(state))
    second.load_state_dict(from_json_value(json.loads(kept)))
    for plugin in (first, second):
        tail = SimulatedRun([plugin], after=head.contexts[-1])
        for batch in whole[cut:]:
            tail.run_batch(batch, {})
    if repr(head.decisions + tail.captured.decisions) != repr(list(decisions)):
        yield "after state_dict() and load_state_dict() other decisions: something that it remembers is not saved"
    if json.dumps(to_json_value(state)) != kept:
        yield "state_dict() has changed since it was taken: it must be a copy"


def _respects_skip(make: Callable[[], OccamPlugin]) -> Iterator[str]:
    """A batch that a plugin before it has skipped stays skipped, and its knobs are left alone."""
    skipped = [replace(batch, fields={**batch.fields, "updated": False}) for batch in sample_batches()]
    for decision in capture(make(), batches=skipped).decisions:
        if decision.hook == "on_batch_start" and decision.changes:
            fields = ", ".join(change.field for change in decision.changes)
            yield f"turns {fields} at iteration {decision.iter_num}, a batch that is skipped already"
            return


@contextmanager
def _shifted_clock_and_rng() -> Iterator[None]:
    """Every clock a day later, and other global randomness; all back afterwards."""
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
