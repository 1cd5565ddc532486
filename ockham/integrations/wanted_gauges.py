"""Gauges that plugins read, so that a run under observe measures nothing else."""

from __future__ import annotations

from collections.abc import Iterable

from ockham.plugin import OccamPlugin
from ockham.plugins.anchor import AnchorPlugin
from ockham.plugins.eq import EQPlugin
from ockham.plugins.finite import FinitePlugin
from ockham.plugins.gate import OckhamGatePlugin
from ockham.plugins.limiter import LimiterPlugin
from ockham.plugins.saturation import SaturationPlugin
from ockham.plugins.spike import SpikePlugin
from ockham.plugins.watchdog import KLWatchdogPlugin

# They decide without the drift, or only report a drift that is not finite.
_WITHOUT_DRIFT = (
    AnchorPlugin,
    EQPlugin,
    FinitePlugin,
    KLWatchdogPlugin,
    OckhamGatePlugin,
    SaturationPlugin,
    SpikePlugin,
)


def wants_drift(plugins: Iterable[OccamPlugin]) -> bool:
    """Return True if a plugin reads the drift from the anchor. A plugin of a third party always may."""
    return any(
        not (isinstance(plugin, LimiterPlugin) and plugin.complexity_ceiling is None)
        for plugin in plugins
        if type(plugin) not in _WITHOUT_DRIFT
    )
