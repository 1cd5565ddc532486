"""Built-in plugins: one file per plugin, independent of each other."""

from __future__ import annotations

import importlib
from collections.abc import Mapping

from ockham.plugin import OccamPlugin

BUILT_IN: Mapping[str, str] = {
    "finite": "ockham.plugins.finite:FinitePlugin",
    "gate": "ockham.plugins.gate:OckhamGatePlugin",
    "spike": "ockham.plugins.spike:SpikePlugin",
    "eq": "ockham.plugins.eq:EQPlugin",
    "saturation": "ockham.plugins.saturation:SaturationPlugin",
    "compressor": "ockham.plugins.compressor:CompressorPlugin",
    "limiter": "ockham.plugins.limiter:LimiterPlugin",
    "watchdog": "ockham.plugins.watchdog:KLWatchdogPlugin",
    "memory": "ockham.plugins.memory:OckhamMemory",
    "anchor": "ockham.plugins.anchor:AnchorPlugin",
}


def load_built_in(name: str) -> type[OccamPlugin]:
    """Return the class of a built-in plugin."""
    module, _, attribute = BUILT_IN[name].partition(":")
    plugin_class: type[OccamPlugin] = getattr(importlib.import_module(module), attribute)
    return plugin_class
