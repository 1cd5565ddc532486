"""Measurements that no plugin reads are not made."""

from __future__ import annotations

import pytest
import torch

from ockham.integrations.step_controller import OBSERVED_DRIFT_INTERVAL, StepController
from ockham.integrations.wanted_gauges import wants_drift
from ockham.plugin import OccamPlugin
from ockham.plugins.anchor import AnchorPlugin
from ockham.plugins.compressor import CompressorPlugin
from ockham.plugins.finite import FinitePlugin
from ockham.plugins.gate import OckhamGatePlugin
from ockham.plugins.limiter import LimiterPlugin
from ockham.plugins.memory import OckhamMemory
from ockham.policy import policy_from_plugins
from ockham.run import Run
from tests.helpers import tiny_model


class Reader(OccamPlugin):
    """Plugin of a third party."""


@pytest.mark.parametrize(
    ("plugin", "expected"),
    [
        (FinitePlugin(), False),
        (OckhamGatePlugin(), False),
        (AnchorPlugin(), False),
        (LimiterPlugin(complexity_ceiling=None), False),
        (LimiterPlugin(), True),
        (CompressorPlugin(), True),
        (OckhamMemory(), True),
        (Reader(), True),
    ],
    ids=lambda value: type(value).__name__,
)
def test_drift_is_wanted_by_plugins_that_read_it(plugin, expected):
    """A plugin of a third party may read it."""
    assert wants_drift([FinitePlugin(), plugin]) == expected


def train(run, steps):
    """Train in a plain loop. Return the controller."""
    model = tiny_model.make_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    controller = StepController(run, model, optimizer)
    for batch in tiny_model.make_batches(steps):
        loss = model.loss(*batch)
        controller.start_batch(loss.item())
        loss.backward()
        controller.before_step()
        optimizer.step()
        controller.end_batch()
        optimizer.zero_grad()
    return controller


def test_observed_run_without_readers_copies_no_anchor(tmp_path):
    """It records no drift, and neither its absence nor a zero as a measurement."""
    plugins = [FinitePlugin(), OckhamGatePlugin()]
    for plugin in plugins:
        plugin.shadow = True
    with Run(policy_from_plugins(plugins), runs=tmp_path / "runs", run_id="a") as run:
        assert train(run, 4).anchor is None
    measured = [context["measured"] for context in tiny_model.read_batches(tmp_path)]
    assert all("complexity_cost" not in gauges and gauges["grad_norm"] > 0 for gauges in measured)


def test_observed_run_measures_drift_at_an_interval(tmp_path):
    """Each measurement reads all weights. Batches in between record no drift as measured."""
    steps = 2 * OBSERVED_DRIFT_INTERVAL + 1
    with Run("observe", runs=tmp_path / "runs", run_id="a") as run:
        train(run, steps)
    measured = [
        number
        for number, context in enumerate(tiny_model.read_batches(tmp_path))
        if "complexity_cost" in context["measured"]
    ]
    assert measured == [0, OBSERVED_DRIFT_INTERVAL, 2 * OBSERVED_DRIFT_INTERVAL]
    tiny_model.assert_sound_run(tmp_path, batches=steps)
