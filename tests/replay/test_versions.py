"""Results that must not depend on the Python version of a replay."""

from __future__ import annotations

import math

from ockham.context import OccamContext
from ockham.plugins.compressor import CompressorPlugin


def test_mean_drift_is_rounded_once():
    """sum() is compensated only from Python 3.12 on."""
    plugin = CompressorPlugin(threshold=0.05)
    plugin.drifts.extend([0.1] * 10)
    ctx = OccamContext(1, 3.0, anchor_available=True)
    plugin.on_batch_start(ctx)
    assert ctx.notes[0].observed == math.fsum([0.1] * 10) / 10 == 0.1
