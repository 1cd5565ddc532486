"""Ockham: event-driven decision logging and audit for GPT training.

The public names; each is loaded on first use, so `import ockham` loads neither torch nor duckdb nor streamlit.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ockham.chain import PluginChain as PluginChain
    from ockham.context import OccamContext as OccamContext
    from ockham.errors import BadInputError as BadInputError
    from ockham.errors import OckhamError as OckhamError
    from ockham.plugin import OccamPlugin as OccamPlugin
    from ockham.policy import load_policy as load_policy
    from ockham.policy import load_preset as load_preset
    from ockham.record.checkpoints import StartingPoint as StartingPoint
    from ockham.record.checkpoints import starting_point as starting_point
    from ockham.record.folder import RunFolder as RunFolder
    from ockham.run import Run as Run

__version__ = "0.1.0"
_HOMES = {
    "BadInputError": "ockham.errors",
    "OccamContext": "ockham.context",
    "OccamPlugin": "ockham.plugin",
    "OckhamError": "ockham.errors",
    "PluginChain": "ockham.chain",
    "Run": "ockham.run",
    "RunFolder": "ockham.record.folder",
    "StartingPoint": "ockham.record.checkpoints",
    "load_policy": "ockham.policy",
    "load_preset": "ockham.policy",
    "starting_point": "ockham.record.checkpoints",
}
__all__ = sorted([*_HOMES, "__version__"])  # noqa: PLE0605 - sorted() gives the list that this rule wants


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ockham' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
