"""Tools for plugin authors: `capture` runs plugins, `check_plugin` checks their requirements.

captured = capture(MyPlugin(), losses=[2.0, 1.5, math.nan])
assert captured.reasons == ["QUIET", "QUIET"]

check_plugin(MyPlugin)
"""

from __future__ import annotations

from ockham.testing.plugin_check import check_plugin
from ockham.testing.simulation import Batch, Captured, capture, sample_batches

__all__ = ["Batch", "Captured", "capture", "check_plugin", "sample_batches"]
