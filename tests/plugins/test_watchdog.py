"""watchdog: warns, rolls back, halts, and refuses a consolidation during an alarm."""

from __future__ import annotations

import math

import pytest

from ockham.context import OccamContext
from ockham.errors import BadInputError
from ockham.plugins.watchdog import KLWatchdogPlugin
from tests.helpers.plugin_hooks import end_batch, evaluate


def test_watchdog_warns_rolls_back_and_halts_by_level():
    """NaN has the effect of the highest level."""
    plugin = KLWatchdogPlugin(warn=0.5, rollback=1.0, halt=2.0)
    assert end_batch(plugin, {"kl_to_anchor": 0.4})[1] == []
    assert end_batch(plugin, {"kl_to_anchor": 0.6})[1] == ["KL_OVER_WARN"]
    assert end_batch(plugin, {"kl_to_anchor": 1.5})[0].rollback
    assert end_batch(plugin, {"kl_to_anchor": 2.5})[0].halt
    assert end_batch(plugin, {"kl_to_anchor": math.nan})[0].halt


def test_watchdog_alarm_ends_below_the_clear_level():
    """An alarm is reported once and ends below clear times warn."""
    plugin = KLWatchdogPlugin(warn=0.5, clear=0.8)
    reasons = [end_batch(plugin, {"kl_to_anchor": kl})[1] for kl in (0.6, 0.55, 0.45, 0.39, 0.45)]
    assert reasons == [["KL_OVER_WARN"], [], [], ["KL_CLEAR"], []]


def test_watchdog_refuses_consolidation_during_an_alarm():
    """The refusal has a reason code."""
    plugin = KLWatchdogPlugin(warn=0.5)
    end_batch(plugin, {"kl_to_anchor": 0.6})
    ctx, reasons = evaluate(plugin, consolidating=True)
    assert not ctx.consolidating
    assert reasons == ["REFUSED_WATCHDOG"]


def test_watchdog_ignores_batches_without_measurement():
    """None means that KL was not measured at this batch."""
    assert end_batch(KLWatchdogPlugin(), {"kl_to_anchor": None})[1] == []
    assert KLWatchdogPlugin(every=7).required_measurements() == {"kl_to_anchor": 7}


def test_watchdog_rejects_levels_that_do_not_rise():
    """A rollback level below the warning level would apply first."""
    with pytest.raises(BadInputError, match="warn <= rollback <= halt"):
        KLWatchdogPlugin(warn=1.0, rollback=0.5)
    with pytest.raises(BadInputError, match="warn <= rollback <= halt"):
        KLWatchdogPlugin(warn=0.1, rollback=0.5, halt=0.4)


def test_watchdog_alarm_ends_with_a_new_anchor():
    """A consolidation is allowed again afterwards."""
    plugin = KLWatchdogPlugin(warn=0.5)
    end_batch(plugin, {"kl_to_anchor": 0.6})
    plugin.on_consolidate(OccamContext(1, 1.0))
    assert evaluate(plugin, consolidating=True)[0].consolidating


def test_watchdog_warns_at_every_nonfinite_kl():
    """This holds without other levels."""
    plugin = KLWatchdogPlugin()
    assert [end_batch(plugin, {"kl_to_anchor": math.nan})[1] for _ in range(2)] == [["KL_OVER_WARN"]] * 2
