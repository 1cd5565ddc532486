"""watchdog: warns, rolls back, halts; refuses a consolidation in alarm."""

from __future__ import annotations

import math

import pytest

from ockham.context import OccamContext
from ockham.errors import BadInputError
from ockham.plugins.watchdog import KLWatchdogPlugin
from tests.plugins.run_hook import end, evaluate


def test_warn_rollback_halt():
    """By level, and NaN is the worst of all."""
    plugin = KLWatchdogPlugin(warn=0.5, rollback=1.0, halt=2.0)
    assert end(plugin, {"kl_to_anchor": 0.4})[1] == []
    assert end(plugin, {"kl_to_anchor": 0.6})[1] == ["KL_OVER_WARN"]
    assert end(plugin, {"kl_to_anchor": 1.5})[0].rollback
    assert end(plugin, {"kl_to_anchor": 2.5})[0].halt
    assert end(plugin, {"kl_to_anchor": math.nan})[0].halt


def test_hysteresis():
    """An alarm is said once, and ends below clear times warn."""
    plugin = KLWatchdogPlugin(warn=0.5, clear=0.8)
    said = [end(plugin, {"kl_to_anchor": kl})[1] for kl in (0.6, 0.55, 0.45, 0.39, 0.45)]
    assert said == [["KL_OVER_WARN"], [], [], ["KL_CLEAR"], []]


def test_no_consolidation_in_alarm():
    """Refused, with its reason."""
    plugin = KLWatchdogPlugin(warn=0.5)
    end(plugin, {"kl_to_anchor": 0.6})
    ctx, reasons = evaluate(plugin, consolidating=True)
    assert not ctx.consolidating
    assert reasons == ["REFUSED_WATCHDOG"]


def test_only_a_fresh_measurement_counts():
    """None: not measured at this batch."""
    assert end(KLWatchdogPlugin(), {"kl_to_anchor": None})[1] == []
    assert KLWatchdogPlugin(every=7).required_measurements() == {"kl_to_anchor": 7}


def test_levels_rise():
    """A rollback below the warning would come first."""
    with pytest.raises(BadInputError, match="warn <= rollback <= halt"):
        KLWatchdogPlugin(warn=1.0, rollback=0.5)
    with pytest.raises(BadInputError, match="warn <= rollback <= halt"):
        KLWatchdogPlugin(warn=0.1, rollback=0.5, halt=0.4)


def test_a_new_anchor_ends_the_alarm():
    """Nothing has moved from it yet; then a consolidation is allowed again."""
    plugin = KLWatchdogPlugin(warn=0.5)
    end(plugin, {"kl_to_anchor": 0.6})
    plugin.on_consolidate(OccamContext(1, 1.0))
    assert evaluate(plugin, consolidating=True)[0].consolidating


def test_a_kl_that_is_not_finite_alarms_without_any_other_level():
    """Every time, since nothing is known."""
    plugin = KLWatchdogPlugin()
    assert [end(plugin, {"kl_to_anchor": math.nan})[1] for _ in range(2)] == [["KL_OVER_WARN"]] * 2
