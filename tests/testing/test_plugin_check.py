"""check_plugin: it accepts every built-in plugin, and names the problem of each invalid plugin."""

from __future__ import annotations

import math
import random
import time
from collections import deque
from typing import ClassVar

import pytest

from ockham.plugin import OccamPlugin
from ockham.plugins import BUILT_IN, load_built_in
from ockham.plugins.eq import EQPlugin
from ockham.plugins.gate import OckhamGatePlugin
from ockham.plugins.memory import OckhamMemory
from ockham.plugins.saturation import SaturationPlugin
from ockham.testing import capture, check_plugin


class Good(OccamPlugin):
    """Plugin that halves the step of quiet batches. It equals the example in docs/plugins.md."""

    name = "quiet"
    reasons: ClassVar = {"QUIET": "The loss is near the mean of late."}

    def __init__(self, factor: float = 0.5, window: int = 5):
        self.factor, self.window = factor, window
        self.losses = deque(maxlen=window)

    def on_batch_start(self, ctx):
        if not (ctx.updated and math.isfinite(ctx.task_loss)):
            return
        mean = sum(self.losses) / len(self.losses) if self.losses else math.inf
        self.losses.append(ctx.task_loss)
        if abs(ctx.task_loss - mean) < 0.2:
            ctx.learning_rate *= self.factor
            ctx.decide("SCALE", "QUIET", ctx.task_loss, mean)


def metadata(plugin):
    with pytest.raises(AssertionError) as caught:
        check_plugin(plugin)
    return str(caught.value)


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_plugins_meet_all_requirements(name):
    """With their defaults."""
    assert check_plugin(load_built_in(name))


@pytest.mark.parametrize(
    "plugin",
    [
        OckhamGatePlugin(surprise_threshold=2.0, stall_batches=10),
        OckhamGatePlugin(mode="random"),
        EQPlugin(target="learning_rate"),
        SaturationPlugin(noise_type="both"),
        OckhamMemory(quality_fraction=0.6, performance="bits_saved"),
        lambda: Good(0.25),
        Good,
    ],
)
def test_check_plugin_accepts_objects_and_functions(plugin):
    """An object by its settings."""
    assert check_plugin(plugin)


class Silent(Good):
    def on_batch_start(self, ctx):
        ctx.lambda_ockham *= 2


class Undeclared(Good):
    reasons: ClassVar = {"OTHER": "Never given."}


class Meaningless(Good):
    reasons: ClassVar = {"QUIET": "quiet"}


class Shouting(Good):
    reasons: ClassVar = {"QUIET": "Near the mean.", "not-a-code": "Never given."}


class Clock(Good):
    def on_batch_start(self, ctx):
        ctx.learning_rate *= 1 + time.time() % 1e-3
        ctx.decide("SCALE", "QUIET")


class GlobalRandom(Good):
    def on_batch_start(self, ctx):
        if random.random() < 0.5:
            ctx.decide("SCALE", "QUIET")


class SharedState(Good):
    count: ClassVar = [0]

    def on_batch_start(self, ctx):
        self.count[0] += 1
        ctx.decide("SCALE", "QUIET", self.count[0])


class Forgetful(Good):
    def state_dict(self):
        return {}


class NoJson(Good):
    def __init__(self, factor: float = 0.5, window: int = 5):
        super().__init__(factor, window)
        self.seen = {1, 2}


class Alias(Good):
    def state_dict(self):
        return self.__dict__.setdefault("kept", {"losses": []})

    def load_state_dict(self, state):
        self.kept = dict(state)

    def on_batch_start(self, ctx):
        self.state_dict()["losses"].append(ctx.task_loss)
        ctx.decide("SCALE", "QUIET", len(self.kept["losses"]))


class Hidden(Good):
    def __init__(self, factor: float = 0.5, window: int = 5):
        super().__init__(factor, window)
        del self.window
        self._window = window


class Rewritten(Good):
    def __init__(self, factor: float = 0.5, window: int = 5):
        super().__init__(factor * 2, window)


class Setting(Good):
    def __init__(self, factor: float = 0.5, window: int = 5, how=math.sqrt):
        super().__init__(factor, window)
        self.how = how


class WrongDefault(Good):
    def __init__(self, factor: float = "half", window: int = 5):
        super().__init__(0.5, window)
        self.factor = factor

    def on_batch_start(self, ctx):
        return ctx


class Idle(OccamPlugin):
    pass


class Raises(Good):
    def on_evaluate(self, ctx):
        raise ValueError("no such thing")


class SetsFact(Good):
    def on_batch_end(self, ctx):
        ctx.grad_norm = 0.0


class TurnsToNan(Good):
    def on_batch_start(self, ctx):
        ctx.learning_rate *= ctx.task_loss
        ctx.decide("SCALE", "QUIET")


class Eager(Good):
    def on_batch_start(self, ctx):
        ctx.updated = True
        ctx.decide("UPDATE", "QUIET")


class LateSkip(Good):
    def on_batch_end(self, ctx):
        if ctx.grad_norm > 2:
            ctx.updated = False
            ctx.decide("SKIP", "QUIET", ctx.grad_norm, 2.0)


class WrongWishes(Good):
    def required_measurements(self):
        return {"kl_to_ancor": 1}

    def base_knobs(self):
        return {"grad_norm": 1.0}


class Positional(Good):
    def __init__(self, factor: float = 0.5, /, window: int = 5):
        super().__init__(factor, window)


@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        (Silent, "changes lambda_ockham without ctx.decide"),
        (Undeclared, "reason 'QUIET' has no entry in `reasons`"),
        (Meaningless, "reason 'QUIET' needs a meaning that is a sentence"),
        (Shouting, "reason 'not-a-code' is not a stable code"),
        (Clock, "a clock, global randomness"),
        (GlobalRandom, "a clock, global randomness"),
        (SharedState, "state outside of the object"),
        (Forgetful, "a part of the state is not saved"),
        (NoJson, "a value that is not JSON"),
        (Alias, "state_dict() returned an object that changed later"),
        (Hidden, "parameter 'window' is not stored as self.window"),
        (Rewritten, "an object created from the settings has different settings"),
        (Setting, "setting 'how' is a builtin_function_or_method"),
        (WrongDefault, "WrongDefault.factor takes a number, got str 'half'"),
        (Idle, "overrides no hook"),
        (Raises, "plugin 'quiet' failed in on_evaluate at iteration 9: ValueError: no such thing"),
        (SetsFact, "grad_norm is a gauge of iteration 0, which only the trainer sets"),
        (TurnsToNan, "learning_rate was set to NaN"),
        (Eager, "changes updated in iteration 0, which an earlier plugin skipped"),
        (LateSkip, "on_batch_end can change consolidating, rollback, halt; updated can be changed by"),
        (WrongWishes, "base_knobs() names 'grad_norm', which is not a knob"),
        (WrongWishes, "required_measurements() asks for 'kl_to_ancor' every 1"),
        (Positional, "parameter 'factor' cannot be passed by name"),
        (dict, "dict does not derive from ockham.OccamPlugin"),
    ],
)
def test_check_plugin_reports_each_violation(bad, expected):
    """One line per requirement."""
    assert expected in metadata(bad)


def test_check_plugin_restores_clocks_and_randomness():
    """They are patched during the check."""
    before, state = time.time(), random.getstate()
    check_plugin(Good)
    assert 0 <= time.time() - before < 3_600
    assert random.getstate() == state


def test_capture_returns_decisions_and_contexts():
    """Scheduled knobs start again in each batch."""
    seen = capture(Good(window=1), losses=[2.0, 2.1, math.nan, 2.2], learning_rate=1.0)
    assert seen.reasons == ["QUIET", "QUIET"]
    assert [ctx.learning_rate for ctx in seen.contexts] == [1.0, 0.5, 1.0, 0.5]
    assert seen.contexts[-1].updates == 4


def test_capture_counts_as_a_run():
    """Updates and update rate are equal."""
    seen = capture(OckhamGatePlugin(surprise_threshold=2.0), losses=[3.0, 1.0, 1.0, 3.0])
    assert [ctx.updated for ctx in seen.contexts] == [True, False, False, True]
    assert (seen.contexts[-1].updates, seen.contexts[-1].update_rate) == (2, 0.5)
