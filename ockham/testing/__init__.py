"""For authors of plugins: `capture` runs plugins over losses without a trainer, `check_plugin` finds what breaks a run.

seen = capture(MyPlugin(), losses=[2.0, 1.5, math.nan])
assert seen.reasons == ["QUIET", "QUIET"]

check_plugin(MyPlugin)
"""

from __future__ import annotations

from ockham.testing.plugin_check import check_plugin
from ockham.testing.simulation import Batch, Captured, capture, sample_batches

__all__ = ["Batch", "Captured", "capture", "check_plugin", "sample_batches"]
