"""Code examples of the original documents. Only their imports are changed."""

from __future__ import annotations

import itertools
import json
import logging
import subprocess
import sys
import time

import pytest

from ockham import (
    CompressorPlugin,
    LimiterPlugin,
    OccamContext,
    OccamPlugin,
    OckhamGatePlugin,
    OckhamMemoryV2,
    PluginChain,
    Run,
    load_preset,
)
from ockham.event import Decision


def _with_drift(loss, drift, params):
    ctx = OccamContext(iter_num=100, task_loss=loss, model_params=params)
    ctx.set_gauges(complexity_cost=drift)
    return ctx


def test_infrastructure_example_of_the_original_document_runs(caplog):
    """Load a memory, log decisions with reasons."""
    logger = logging.getLogger("infra")
    ctx, prev = _with_drift(1.2, 0.05, 124_000_000), None

    memory = OckhamMemoryV2(
        quality_threshold=1.5,
        complexity_threshold=0.1,
        min_oq_improvement=0.05,
    )

    accept, reason = memory.should_accept_update(ctx, prev)
    with caplog.at_level(logging.INFO):
        logger.info(
            {"decision": accept, "reason": reason, "oq": ctx.compute_occam_quotient(1 / ctx.task_loss)}
        )

    assert (accept, reason) == (True, "ACCEPTED_FIRST_VALID")
    assert "ACCEPTED_FIRST_VALID" in caplog.text


class MyCustomPlugin(OccamPlugin):
    def __init__(self, param):
        self.param = param

    def on_batch_start(self, ctx: OccamContext) -> OccamContext:
        ctx.learning_rate *= self.param
        return ctx


def test_research_example_of_the_original_document_runs(tmp_path):
    """Remove a plugin, add one, run combinations."""
    done = []

    def run_experiment(plugin_combo):
        name = f"run-{len(done)}"
        with Run(plugins=list(plugin_combo), runs=tmp_path, run_id=name) as run:
            for i in range(4):
                run.end_batch(run.start_batch(i, 3.0 - i, learning_rate=0.1), grad_norm=2.0)
        done.append(name)

    plugins = [
        OckhamGatePlugin(surprise_threshold=2.0),
        MyCustomPlugin(param=0.5),
        LimiterPlugin(complexity_ceiling=0.2),
    ]

    for plugin_combo in itertools.combinations(plugins, 2):
        run_experiment(plugin_combo)

    assert len(done) == 3
    log = (tmp_path / "run-0" / "log" / "1-0" / "000000000000.jsonl").read_text().splitlines()
    custom = [
        json.loads(line)["data"]
        for line in log
        if '"plugin":"MyCustomPlugin"' in line and "decision.made" in line
    ]
    assert custom[0]["changes"] == [{"field": "learning_rate", "before": 0.1, "after": 0.05}]
    assert custom[0]["reason_code"] == "UNEXPLAINED"


def test_product_example_of_the_original_document_runs(capsys):
    """A preset by its old name, and the return in per cent."""
    baseline_oq = _with_drift(2.4, 0.0, 124_000_000).compute_occam_quotient(1 / 2.4)
    ctx = _with_drift(1.2, 0.0, 124_000_000)

    plugins, memory = load_preset("production_balanced")

    oq_before = baseline_oq
    oq_after = ctx.compute_occam_quotient(1 / ctx.task_loss)
    roi_improvement = (oq_after - oq_before) / oq_before
    print(f"Efficiency improved by {roi_improvement * 100:.1f}%")

    assert capsys.readouterr().out == "Efficiency improved by 100.0%\n"
    assert [type(p).__name__ for p in plugins][:2] == ["FinitePlugin", "OckhamGatePlugin"]
    assert memory.min_oq_improvement == 0.08


def test_loop_over_plugins_without_a_chain_runs():
    """`ctx = plugin.on_batch_start(ctx)`."""
    ctx = OccamContext(iter_num=100, task_loss=1.5)
    plugins = [OckhamGatePlugin(), CompressorPlugin()]

    for plugin in plugins:
        ctx = plugin.on_batch_start(ctx)

    assert ctx.task_loss == 1.5


def test_structured_logging_example_runs(tmp_path):
    """It writes `ctx.to_dict()`."""

    def log_decision(ctx, accept, reason):
        log_entry = {
            "timestamp": time.time(),
            "iter_num": ctx.iter_num,
            "decision": "ACCEPT" if accept else "REJECT",
            "reason_code": reason,
            "metrics": ctx.to_dict(),
        }
        with open(tmp_path / "decisions.jsonl", "a") as f:
            f.write(json.dumps(log_entry) + "\n")

    log_decision(
        _with_drift(1.2, 0.05, 1000), *OckhamMemoryV2().should_accept_update(_with_drift(1.2, 0.05, 1000))
    )
    entry = json.loads((tmp_path / "decisions.jsonl").read_text())
    assert entry["decision"] == "ACCEPT"
    assert entry["metrics"]["task_loss"] == 1.2


class KLWatchdogOfTheDocument(OccamPlugin):
    threshold = 0.5

    def on_batch_end(self, ctx):
        if ctx.kl_to_anchor is not None and ctx.kl_to_anchor > self.threshold:
            raise ValueError("Model diverged too far from anchor!")


def test_watchdog_example_ends_the_run_with_its_reason(tmp_path):
    """It has only on_batch_end and raises."""
    from ockham.errors import PluginError

    with (
        pytest.raises(PluginError, match="diverged too far"),
        Run(plugins=[KLWatchdogOfTheDocument()], runs=tmp_path, run_id="a") as run,
    ):
        run.end_batch(run.start_batch(0, 1.0), kl_to_anchor=0.75)


def test_quotient_of_the_document_matches_four_digits():
    """A = 1.2327e-17, B = 3.9246e-17, +218.37 %."""

    def oq(loss, flops, megabytes):
        ctx = OccamContext(0, loss, inference_flops=flops, memory_footprint_mb=megabytes)
        return ctx.compute_occam_quotient(1 / loss)

    a, b = oq(1.2, 2.6e12, 26_000), oq(1.3, 1.4e12, 14_000)
    assert f"{a:.4e}" == "1.2327e-17"
    assert f"{b:.4e}" == "3.9246e-17"
    assert f"{(b / a - 1) * 100:.2f}" == "218.37"


def test_halved_loss_at_124m_parameters_is_accepted():
    """+100 % is +100 % at any size."""
    memory = OckhamMemoryV2(quality_threshold=5.0, complexity_threshold=0.1, min_oq_improvement=0.05)
    made: list[Decision] = []
    chain = PluginChain([memory], made.append)
    for loss in (3.0, 1.5):
        chain.on_evaluate(_with_drift(loss, 0.01, 124_000_000))
    assert [d.reason_code for d in made] == ["ACCEPTED_FIRST_VALID", "ACCEPTED_OQ_IMPROVEMENT"]
    assert made[1].observed == pytest.approx(1.0)


def test_import_loads_no_heavy_package():
    """torch, duckdb, streamlit, pyarrow."""
    heavy = ("torch", "duckdb", "streamlit", "altair", "pyarrow", "numpy")
    code = f"import ockham, sys; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_every_public_name_exists():
    """The lazy table has no wrong entry."""
    import ockham

    for name in ockham.__all__:
        assert getattr(ockham, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = ockham.Nothing
