"""Finite, compressor, limiter, watchdog, anchor, eq, saturation: each by what it promises."""

from __future__ import annotations

import json
import math

import pytest

from ockham.chain import PluginChain
from ockham.context import OccamContext
from ockham.plugins.anchor import AnchorPlugin
from ockham.plugins.compressor import CompressorPlugin
from ockham.plugins.eq import EQPlugin
from ockham.plugins.finite import FinitePlugin
from ockham.plugins.limiter import LimiterPlugin
from ockham.plugins.saturation import SaturationPlugin
from ockham.plugins.watchdog import KLWatchdogPlugin


def start(plugin, ctx=None, **fields):
    ctx = ctx or OccamContext(fields.pop("iter_num", 5), fields.pop("task_loss", 2.0), **fields)
    plugin.on_batch_start(ctx)
    return ctx, [note.reason_code for note in ctx.notes]


def end(plugin, gauges=None, **fields):
    ctx = OccamContext(fields.pop("iter_num", 5), fields.pop("task_loss", 2.0), **fields)
    ctx.measure(**(gauges or {}))
    plugin.on_batch_end(ctx)
    return ctx, [note.reason_code for note in ctx.notes]


def evaluate(plugin, gauges=None, **fields):
    ctx = OccamContext(fields.pop("iter_num", 5), 2.0, **fields)
    ctx.measure(**(gauges or {}))
    plugin.on_evaluate(ctx)
    return ctx, [note.reason_code for note in ctx.notes]


class TestFinite:
    @pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
    def test_a_loss_that_is_not_finite_is_skipped(self, loss):
        """With its reason; a finite one is left alone."""
        assert start(FinitePlugin(), task_loss=loss)[0].updated is False
        assert start(FinitePlugin(), task_loss=loss)[1] == ["NONFINITE_LOSS"]
        assert start(FinitePlugin())[1] == []

    def test_gradients_drift_and_kl_are_reported(self):
        """Each under its own name."""
        gauges = {"grad_norm": math.nan, "complexity_cost": math.inf, "kl_to_anchor": math.nan}
        assert end(FinitePlugin(), gauges)[1] == ["NONFINITE_GRADIENT", "NONFINITE_DRIFT", "NONFINITE_KL"]

    @pytest.mark.parametrize(("then", "knob"), [("halt", "halt"), ("rollback", "rollback")])
    def test_too_many_in_a_row(self, then, knob):
        """By policy; and a finite one in between starts the count again."""
        plugin = FinitePlugin(max_in_a_row=3, then=then)
        for loss in (math.nan, math.nan, 1.0, math.nan, math.nan):
            ctx, _ = end(plugin, task_loss=loss)
        assert not getattr(ctx, knob)
        ctx, reasons = end(plugin, task_loss=math.nan)
        assert getattr(ctx, knob)
        assert reasons == ["NONFINITE_IN_A_ROW"]


class TestCompressor:
    def drifted(self, drift, **settings):
        plugin = CompressorPlugin(threshold=0.1, **{"attack": 0, "release": 0, **settings})
        for i in range(10):
            end(plugin, {"complexity_cost": drift, "updates": i + 1}, iter_num=i, anchor_available=True)
        return plugin

    def test_the_formula(self):
        """ln scale = ln(s/threshold) (1 - 1/ratio); the learning rate has its inverse."""
        ctx, reasons = start(self.drifted(0.4, ratio=4.0), learning_rate=1.0, lambda_ockham=0.01)
        scale = math.exp(math.log(4.0) * 0.75)
        assert ctx.lambda_ockham == pytest.approx(0.01 * scale)
        assert ctx.learning_rate == pytest.approx(1 / scale)
        assert reasons == ["COMPRESSING"]

    def test_quiet_under_the_threshold(self):
        """Nothing turns, nothing is said."""
        assert start(self.drifted(0.05))[1] == []

    def test_it_never_compounds(self):
        """The same drift gives the same scale on every batch."""
        plugin = self.drifted(0.2)
        rates = {start(plugin, learning_rate=1.0)[0].learning_rate for _ in range(5)}
        assert len(rates) == 1

    def test_attack_is_gradual(self):
        """A time constant of 5 updates moves 18 % of the way at once."""
        ctx, _ = start(self.drifted(0.2, attack=5.0), learning_rate=1.0)
        assert math.log(ctx.learning_rate) == pytest.approx(-math.log(2) * 0.5 * (1 - math.exp(-1 / 5)))

    def test_clamped_and_frozen(self):
        """Lambda stays in its range; a skipped batch is left alone."""
        assert start(self.drifted(50.0), lambda_ockham=0.1)[0].lambda_ockham == 0.5
        assert start(self.drifted(50.0), updated=False)[1] == []

    def test_a_drift_that_is_not_finite_enters_no_history(self):
        """And nothing is remembered before there is an anchor."""
        plugin = CompressorPlugin()
        end(plugin, {"complexity_cost": math.nan, "updates": 1}, anchor_available=True)
        end(plugin, {"complexity_cost": 0.5, "updates": 2}, anchor_available=False)
        assert list(plugin.drifts) == []

    def test_consolidation_forgets(self):
        """The drifts of the old anchor say nothing of the new one."""
        plugin = self.drifted(0.4)
        plugin.on_consolidate(OccamContext(1, 1.0))
        assert start(plugin)[1] == []

    def test_makeup_gain_when_stable(self):
        """Under the threshold the learning rate has its gain."""
        ctx, reasons = start(self.drifted(0.05, makeup=1.1), learning_rate=1.0)
        assert ctx.learning_rate == pytest.approx(1.1)
        assert reasons == ["MAKEUP"]


class TestLimiter:
    def test_it_really_caps(self):
        """Learning rate, lambda, gradient norm, drift: raw and applied value."""
        plugin = LimiterPlugin(0.2, 1.0, learning_rate_ceiling=1e-3, lambda_ceiling=0.1)
        ctx, reasons = start(plugin, learning_rate=0.5, lambda_ockham=9.0)
        assert (ctx.learning_rate, ctx.lambda_ockham, ctx.grad_clip, ctx.drift_ceiling) == (
            1e-3,
            0.1,
            1.0,
            0.2,
        )
        assert reasons == ["LEARNING_RATE_CAPPED", "LAMBDA_CAPPED", "GRADIENT_CAPPED", "DRIFT_CAPPED"]
        assert (ctx.notes[0].observed, ctx.notes[0].threshold) == (0.5, 1e-3)

    def test_ceilings_are_base_knobs(self):
        """So that a Run does not log them on every batch."""
        knobs = LimiterPlugin(0.2, 1.0).base_knobs()
        assert knobs == {"grad_clip": 1.0, "drift_ceiling": 0.2}
        assert start(LimiterPlugin(0.2, 1.0), **knobs)[1] == []

    def test_clipping_and_projection_are_told_after_the_step(self):
        """Observed and applied, no changed knob."""
        gauges = {"grad_norm": 3.0, "drift_raw": 0.5, "complexity_cost": 0.2}
        ctx, reasons = end(LimiterPlugin(0.2, 1.0), gauges, grad_clip=1.0)
        assert reasons == ["GRADIENT_CLIPPED", "DRIFT_PROJECTED"]
        assert ctx.notes[1].numbers == {"applied": 0.2}

    @pytest.mark.parametrize(
        ("answer", "knob"), [("rollback", "rollback"), ("halt", "halt"), ("consolidate", "consolidating")]
    )
    def test_a_breach_is_answered(self, answer, knob):
        """By policy."""
        ctx, reasons = end(LimiterPlugin(0.2, on_breach=answer), {"drift_raw": 0.5})
        assert getattr(ctx, knob)
        assert reasons == ["DRIFT_OVER_CEILING"]

    def test_nan_is_no_breach_and_no_pass(self):
        """finite reports it; the limiter compares nothing with NaN."""
        assert end(LimiterPlugin(0.2), {"drift_raw": math.nan, "grad_norm": math.nan})[1] == []


class TestWatchdog:
    def test_warn_rollback_halt(self):
        """By level, and NaN is the worst of all."""
        plugin = KLWatchdogPlugin(warn=0.5, rollback=1.0, halt=2.0)
        assert end(plugin, {"kl_to_anchor": 0.4})[1] == []
        assert end(plugin, {"kl_to_anchor": 0.6})[1] == ["KL_OVER_WARN"]
        assert end(plugin, {"kl_to_anchor": 1.5})[0].rollback
        assert end(plugin, {"kl_to_anchor": 2.5})[0].halt
        assert end(plugin, {"kl_to_anchor": math.nan})[0].halt

    def test_hysteresis(self):
        """An alarm is said once, and ends below clear times warn."""
        plugin = KLWatchdogPlugin(warn=0.5, clear=0.8)
        said = [end(plugin, {"kl_to_anchor": kl})[1] for kl in (0.6, 0.55, 0.45, 0.39, 0.45)]
        assert said == [["KL_OVER_WARN"], [], [], ["KL_CLEAR"], []]

    def test_no_consolidation_in_alarm(self):
        """Refused, with its reason."""
        plugin = KLWatchdogPlugin(warn=0.5)
        end(plugin, {"kl_to_anchor": 0.6})
        ctx, reasons = evaluate(plugin, consolidating=True)
        assert not ctx.consolidating
        assert reasons == ["REFUSED_WATCHDOG"]

    def test_only_a_fresh_measurement_counts(self):
        """None: not measured at this batch."""
        assert end(KLWatchdogPlugin(), {"kl_to_anchor": None})[1] == []
        assert KLWatchdogPlugin(every=7).wants() == {"kl_to_anchor": 7}


class TestAnchor:
    def asked(self, plugin, iter_num, **fields):
        return end(plugin, iter_num=iter_num, max_iters=100, warmup_iters=10, **fields)[1]

    def test_the_first_when_warmup_ends_then_by_interval(self):
        """Each once."""
        plugin = AnchorPlugin(per_run=10)
        assert self.asked(plugin, 8) == []
        assert self.asked(plugin, 9) == ["WARMUP_ENDED"]
        assert self.asked(plugin, 10) == []
        assert self.asked(plugin, 19, anchor_available=True) == ["INTERVAL_REACHED"]
        assert self.asked(AnchorPlugin(per_run=0), 19) == []

    def judged(self, plugin, loss, iter_num=50, drift=0.0):
        return evaluate(
            plugin, {"val_loss": loss, "complexity_cost": drift}, iter_num=iter_num, consolidating=True
        )

    def test_allowed_unless_worse_non_finite_or_too_soon(self):
        """Every check is written so that NaN refuses."""
        plugin = AnchorPlugin(tolerance=0.05, cooldown=10)
        ctx, reasons = self.judged(plugin, 2.0)
        assert ctx.consolidating
        assert reasons == ["CONSOLIDATION_ALLOWED"]
        plugin.on_consolidate(ctx)
        assert self.judged(plugin, 2.04, 60)[1] == ["CONSOLIDATION_ALLOWED"]
        assert self.judged(plugin, 2.06, 60)[1] == ["REFUSED_QUALITY"]
        assert self.judged(plugin, 2.0, 55)[1] == ["REFUSED_COOLDOWN"]
        assert self.judged(plugin, math.nan, 60)[1] == ["REFUSED_NONFINITE"]
        assert self.judged(plugin, 2.0, 60, math.nan)[1] == ["REFUSED_NONFINITE"]
        assert not self.judged(plugin, math.nan, 60)[0].consolidating


class TestEQ:
    def filled(self, **settings):
        plugin = EQPlugin(min_history=9, ema=0.0, **settings)
        for i in range(9):
            start(plugin, task_loss=2.0, example_losses=(1.0 + i / 8, 2.0, 3.0 - i / 8))
        return plugin

    def test_examples_are_weighed_to_mean_one(self):
        """Easy ones less, hard ones more."""
        ctx, reasons = start(self.filled(), task_loss=2.0, example_losses=(1.0, 2.0, 3.0))
        assert reasons == ["EXAMPLES_WEIGHED"]
        assert sum(ctx.example_gain) / 3 == pytest.approx(1.0)
        assert ctx.example_gain[0] < ctx.example_gain[2]

    def test_it_waits_for_history_and_for_finite_losses(self):
        """No verdict on too little, none on NaN."""
        assert start(EQPlugin(), example_losses=(1.0, 2.0))[1] == []
        assert start(self.filled(), example_losses=(1.0, math.nan, 2.0))[1] == []
        assert EQPlugin().wants() == {"example_losses": 1}
        assert EQPlugin(target="learning_rate").wants() == {}


class TestSaturation:
    def test_the_draw_is_logged_and_repeatable(self):
        """The same counter, the same factor; the decision holds the draw."""
        one, two = (
            start(SaturationPlugin(drive=0.1, warmup=0), iter_num=9, seed=3, learning_rate=1.0)[0]
            for _ in range(2)
        )
        assert one.learning_rate == two.learning_rate == 1 + 0.1 * one.notes[0].observed

    def test_noise_grows_over_the_warmup(self):
        """Nothing at iteration 0; on the gradient it is a knob for the trainer."""
        assert start(SaturationPlugin(warmup=100), iter_num=0)[1] == []
        ctx, reasons = start(SaturationPlugin(drive=0.2, noise_type="gradient", warmup=10), iter_num=5)
        assert ctx.grad_noise_std == pytest.approx(0.1)
        assert reasons == ["NOISE_ON_GRADIENT"]


@pytest.mark.parametrize(
    "make",
    [
        FinitePlugin,
        CompressorPlugin,
        LimiterPlugin,
        KLWatchdogPlugin,
        AnchorPlugin,
        lambda: EQPlugin(target="learning_rate", min_history=3),
        SaturationPlugin,
    ],
)
def test_state_is_json_and_goes_on(make):
    """Saved in the middle and loaded into a fresh one, every plugin decides the rest alike."""

    def feed(plugin, first, last):
        made = []
        chain = PluginChain([plugin], made.append)
        for i in range(first, last):
            loss = math.nan if i % 13 == 5 else 2 + math.sin(i)
            ctx = OccamContext(i, loss, max_iters=60, warmup_iters=6, seed=1, anchor_available=i > 6)
            chain.on_batch_start(ctx)
            ctx.measure(
                complexity_cost=0.02 * (i % 20),
                drift_raw=0.02 * (i % 20),
                grad_norm=i % 3,
                updates=i + 1,
                kl_to_anchor=0.05 * (i % 15),
            )
            chain.on_batch_end(ctx)
            if i % 6 == 5:
                ctx.measure(val_loss=3 - i / 60)
                chain.on_evaluate(ctx)
                if ctx.consolidating:
                    chain.on_consolidate(ctx)
        return made

    whole, first, second = make(), make(), make()
    everything = feed(whole, 0, 60)
    head = feed(first, 0, 30)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert repr(head + feed(second, 30, 60)) == repr(everything)
