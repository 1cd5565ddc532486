"""Ockham: event-driven decision logging and audit for GPT training.

The public names; each is loaded on first use, so `import ockham` loads neither torch nor duckdb nor streamlit.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ockham.catalog import Catalog as Catalog
    from ockham.chain import PluginChain as PluginChain
    from ockham.context import OccamContext as OccamContext
    from ockham.errors import BadInputError as BadInputError
    from ockham.errors import OckhamError as OckhamError
    from ockham.frontier import ModelSnapshot as ModelSnapshot
    from ockham.frontier import OccamMetrics as OccamMetrics
    from ockham.guard import Guard as Guard
    from ockham.plugin import OccamPlugin as OccamPlugin
    from ockham.plugins.anchor import AnchorPlugin as AnchorPlugin
    from ockham.plugins.compressor import CompressorPlugin as CompressorPlugin
    from ockham.plugins.eq import EQPlugin as EQPlugin
    from ockham.plugins.finite import FinitePlugin as FinitePlugin
    from ockham.plugins.gate import OckhamGatePlugin as OckhamGatePlugin
    from ockham.plugins.limiter import LimiterPlugin as LimiterPlugin
    from ockham.plugins.memory import OckhamMemory as OckhamMemory
    from ockham.plugins.memory import OckhamMemoryV2 as OckhamMemoryV2
    from ockham.plugins.saturation import SaturationPlugin as SaturationPlugin
    from ockham.plugins.watchdog import KLWatchdogPlugin as KLWatchdogPlugin
    from ockham.policy import Policy as Policy
    from ockham.policy import load_policy as load_policy
    from ockham.policy import load_preset as load_preset
    from ockham.quotient import occam_quotient as occam_quotient
    from ockham.record.checkpoints import Packed as Packed
    from ockham.record.checkpoints import StartingPoint as StartingPoint
    from ockham.record.checkpoints import starting_point as starting_point
    from ockham.record.folder import RunFolder as RunFolder
    from ockham.record.folder import new_run_id as new_run_id
    from ockham.record.verify import verify_run as verify_run
    from ockham.run import Run as Run
    from ockham.testing import capture as capture
    from ockham.testing import check_plugin as check_plugin

__version__ = "0.1.0"
_HOMES = {
    "AnchorPlugin": "ockham.plugins.anchor",
    "BadInputError": "ockham.errors",
    "Catalog": "ockham.catalog",
    "CompressorPlugin": "ockham.plugins.compressor",
    "EQPlugin": "ockham.plugins.eq",
    "FinitePlugin": "ockham.plugins.finite",
    "Guard": "ockham.guard",
    "KLWatchdogPlugin": "ockham.plugins.watchdog",
    "LimiterPlugin": "ockham.plugins.limiter",
    "ModelSnapshot": "ockham.frontier",
    "OccamContext": "ockham.context",
    "OccamMetrics": "ockham.frontier",
    "OccamPlugin": "ockham.plugin",
    "OckhamError": "ockham.errors",
    "OckhamGatePlugin": "ockham.plugins.gate",
    "OckhamMemory": "ockham.plugins.memory",
    "OckhamMemoryV2": "ockham.plugins.memory",
    "Packed": "ockham.record.checkpoints",
    "PluginChain": "ockham.chain",
    "Policy": "ockham.policy",
    "Run": "ockham.run",
    "RunFolder": "ockham.record.folder",
    "SaturationPlugin": "ockham.plugins.saturation",
    "StartingPoint": "ockham.record.checkpoints",
    "capture": "ockham.testing",
    "check_plugin": "ockham.testing",
    "load_policy": "ockham.policy",
    "load_preset": "ockham.policy",
    "new_run_id": "ockham.record.folder",
    "occam_quotient": "ockham.quotient",
    "starting_point": "ockham.record.checkpoints",
    "verify_run": "ockham.record.verify",
}
__all__ = sorted([*_HOMES, "__version__"])  # noqa: PLE0605 - sorted() gives the list that this rule wants


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ockham' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
