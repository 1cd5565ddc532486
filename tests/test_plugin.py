"""OccamPlugin: settings are parameters, all else is state, and random draws depend only on counters."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections import deque
from typing import ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ockham.context import OccamContext
from ockham.errors import BadInputError
from ockham.plugin import OccamPlugin, counter_uniform, in_interval, literal_choices
from ockham.plugins import BUILT_IN, load_built_in
from ockham.policy.plugin_registry import default_settings


class Kept(OccamPlugin):
    """Plugin with settings, and with state of every JSON type."""

    limits: ClassVar = {"level": "(0, 1]", "steps": "[1, inf)"}

    def __init__(
        self, level: float = 0.5, *, mode: Literal["a", "b"] | None = None, steps: int | None = None
    ):
        self.level, self.mode, self.steps = level, mode, steps
        self.count, self.last, self.pair = 0, None, (1, 2)
        self.seen = deque(maxlen=3)
        self.by_name = {"a": [1.0]}
        self.check_settings()


def test_settings_are_parameters_and_state_is_the_rest():
    """Name and shadow are neither."""
    plugin = Kept(0.25, mode="b")
    plugin.name, plugin.shadow = "kept", True
    assert plugin.settings() == {"level": 0.25, "mode": "b", "steps": None}
    assert plugin.state_dict() == {
        "count": 0,
        "last": None,
        "pair": [1, 2],
        "seen": [],
        "by_name": {"a": [1.0]},
    }


@given(st.lists(st.floats(allow_nan=False), max_size=6), st.integers(), st.none() | st.text())
def test_state_survives_json_with_its_types(seen, count, last):
    """deque and tuple are restored."""
    one, two = Kept(), Kept()
    one.seen.extend(seen)
    one.count, one.last, one.pair = count, last, (3, 4)
    two.load_state_dict(json.loads(json.dumps(one.state_dict())))
    assert two.state_dict() == one.state_dict()
    assert (type(two.seen), two.seen.maxlen, type(two.pair)) == (deque, 3, tuple)


def test_state_is_a_copy():
    """Later changes have no effect."""
    one, two = Kept(), Kept()
    state = one.state_dict()
    one.by_name["a"].append(2.0)
    assert state["by_name"] == {"a": [1.0]}
    two.load_state_dict(state)
    two.by_name["a"].append(3.0)
    assert state["by_name"] == {"a": [1.0]}


def test_plugin_without_hooks_has_no_effect():
    """Each hook of the base class returns None."""
    plugin, ctx = OccamPlugin(), OccamContext(0, 1.0)
    assert [plugin.on_batch_start(ctx), plugin.on_batch_end(ctx), plugin.on_evaluate(ctx)] == [None] * 3
    assert plugin.on_consolidate(ctx) is None
    assert (plugin.base_knobs(), plugin.required_measurements(), plugin.settings(), plugin.state_dict()) == (
        {},
        {},
        {},
        {},
    )


@pytest.mark.parametrize(
    ("settings", "metadata"),
    [
        ({"level": 0.0}, "Kept: level must be in (0, 1], got 0.0"),
        ({"level": 1.5}, "Kept: level must be in (0, 1], got 1.5"),
        ({"level": math.nan}, "Kept: level must be in (0, 1], got nan"),
        ({"level": "0.5"}, "Kept: level must be in (0, 1], got '0.5'"),
        ({"level": True}, "Kept: level must be in (0, 1], got True"),
        ({"steps": 0}, "Kept: steps must be in [1, inf), got 0"),
        ({"mode": "c"}, "Kept: mode is one of 'a', 'b', got 'c'"),
    ],
)
def test_setting_outside_of_its_limits_is_an_error(settings, metadata):
    """Plugin, setting, accepted and given value."""
    with pytest.raises(BadInputError) as caught:
        Kept(**settings)
    assert str(caught.value) == metadata


def test_intervals_follow_mathematical_notation():
    """NaN and text are in no interval."""
    assert [in_interval(x, "(0, 1]") for x in (0, 1e-300, 1, 1.0000001)] == [False, True, True, False]
    assert [in_interval(x, "[0, inf)") for x in (0, math.inf, -1e-300)] == [True, False, False]
    assert in_interval(math.inf, "[0, inf]")
    assert not any(in_interval(x, "[-inf, inf]") for x in (math.nan, None, "1", True))


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_plugins_reject_nan_and_unknown_choices(name):
    """Every setting is tried."""
    cls = load_built_in(name)
    choices = literal_choices(cls)
    for key, default in default_settings(cls).items():
        if key in choices:
            with pytest.raises(BadInputError, match=f"{key} is one of"):
                cls(**{key: "nothing of the kind"})
        elif key != "seed":
            assert key in cls.limits, f"{name}.{key} has no limits, default {default}"
            with pytest.raises(BadInputError, match=f"{key} must be in"):
                cls(**{key: math.nan})


def test_counter_uniform_is_equal_on_every_machine():
    """Fixed values, in (0, 1), uniform."""
    assert (
        counter_uniform(1, 2, 3, "gate")
        == counter_uniform(1, 2, 3, "gate")
        != counter_uniform(1, 2, 4, "gate")
    )
    assert counter_uniform(0) == 0.516288615126363
    drawn = [counter_uniform(7, i) for i in range(4_000)]
    assert all(0 < x < 1 for x in drawn)
    counts = [sum(i / 10 <= x < (i + 1) / 10 for x in drawn) for i in range(10)]
    assert all(330 < n < 470 for n in counts)


def test_counter_uniform_does_not_depend_on_the_process():
    """The hash seed has no effect."""
    code = "from ockham.plugin import counter_uniform; print(counter_uniform(1, 'a'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert float(done.stdout) == counter_uniform(1, "a")
