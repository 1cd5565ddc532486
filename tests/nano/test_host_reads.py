"""Reads of the device by the host: on a GPU each one waits, so their number per batch is fixed.

The tests run on a CPU with the code path of a GPU: deferred gauges, and an anchor on the device.
"""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ockham.context import OccamContext
from tests.helpers.tiny_trainer import trainer

# Operators whose result the host needs: a number, a truth value, or the size of a result.
READING_OPERATORS = ("aten._local_scalar_dense", "aten.nonzero", "aten.masked_select", "aten.equal")
PULL = {"lambda_ockham": 0.5, "drift_ceiling": 0.001, "grad_clip": 0.5}
STEPS = 4


class HostReads(TorchDispatchMode):
    """Counts the operators that make the host wait."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = str(func).rpartition(".")[0]
        if name in READING_OPERATORS:
            self.counts[name] += 1
        return func(*args, **(kwargs or {}))


def make_gpu_like_trainer(folder, *settings, pull="decoupled", kl_interval=1):
    """Return a trainer with an anchor that takes the paths of a GPU."""
    tiny = trainer(folder, *settings)
    tiny.configure(pull=pull, required_measurements={"kl_to_anchor": kl_interval} if kl_interval else {})
    tiny.deferred_metrics = True
    tiny.move_anchor(-1)
    tiny.anchor._on_cpu = False
    return tiny


def count_reads(tiny, *, update=True, act_on_gradients=False, knobs=PULL):
    """Train some steps with deferred gauges. Return the number of reads."""
    micro_steps = tiny.settings.gradient_accumulation_steps
    tiny.forward(0)
    tiny.discard_forward()
    with HostReads() as reads:
        for iter_num in range(STEPS):
            for micro_step in range(micro_steps):
                loss = tiny.forward(iter_num, micro_step)
                fields = {**tiny.context_fields(iter_num, micro_step), **knobs}
                ctx = OccamContext(iter_num, loss, micro_step=micro_step, updated=update, **fields)
                tiny.backward(ctx)
                if act_on_gradients:
                    tiny.measure_gradients(ctx)
                tiny.finish_batch(ctx, forward_next=True)
    # The loss of the batch after the last one was computed too, and that of the first one within the block.
    return sum(reads.counts.values()) - (STEPS * micro_steps + 1)


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        ((), {}),
        (("gradient_accumulation_steps=3",), {}),
        (("dropout=0.2",), {}),
        ((), {"pull": "coupled"}),
        ((), {"kl_interval": 0}),
    ],
)
def test_batch_with_everything_on_reads_only_its_loss(tmp_path, settings, options):
    """Pull, ceiling, drift, KL, clipping and the measured step add no read."""
    assert count_reads(make_gpu_like_trainer(tmp_path, *settings, **options)) == 0


def test_skipped_batch_reads_only_its_loss(tmp_path):
    """A batch without an update reads nothing else."""
    assert count_reads(make_gpu_like_trainer(tmp_path), update=False) == 0


def test_plugin_with_gradients_adds_one_read_per_step(tmp_path):
    """The chain needs the norm before the step."""
    assert count_reads(make_gpu_like_trainer(tmp_path), act_on_gradients=True) == STEPS


def test_muon_adds_one_read_per_step(tmp_path):
    """Muon cannot refuse a step on the device, so the host reads whether the norm is finite."""
    assert count_reads(make_gpu_like_trainer(tmp_path, "optimizer=muon")) == STEPS


def test_gradient_noise_adds_no_read(tmp_path):
    """The noise is scaled on the device."""
    assert count_reads(make_gpu_like_trainer(tmp_path), knobs={**PULL, "grad_noise_std": 0.1}) == 0


def test_anchor_on_the_device_pulls_as_the_one_on_the_host(tmp_path):
    """Both paths leave the same weights and report the same drift, apart from rounding."""
    results = []
    for on_cpu in (True, False):
        tiny = make_gpu_like_trainer(tmp_path)
        tiny.anchor._on_cpu = on_cpu
        gauges = []
        for iter_num in range(STEPS):
            fields = {**tiny.context_fields(iter_num), **PULL}
            ctx = OccamContext(iter_num, tiny.forward(iter_num), updated=True, **fields)
            tiny.backward(ctx)
            gauges.append(tiny.finish_batch(ctx).gauges)
        results.append((gauges, [p.detach().clone() for p in tiny.model.parameters()]))
    (host_gauges, host_weights), (device_gauges, device_weights) = results
    for host, other in zip(host_gauges, device_gauges, strict=True):
        assert host["complexity_cost"] == pytest.approx(other["complexity_cost"], rel=1e-5)
        assert host["complexity_cost"] <= PULL["drift_ceiling"] * 1.001
    for host, other in zip(host_weights, device_weights, strict=True):
        torch.testing.assert_close(host, other, rtol=1e-5, atol=1e-7)
