"""Memory: three gates, a baseline of its own, a true Pareto frontier."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ockham.candidates import ModelSnapshot, OccamMetrics, pareto_frontier
from ockham.context import OccamContext
from ockham.errors import BadInputError
from ockham.plugins.memory import OckhamMemory


def candidate(loss, drift=0.05, iter_num=10, **fields):
    ctx = OccamContext(iter_num, 9.0, **{"model_params": 1_000, **fields})
    ctx.set_gauges(val_loss=loss, complexity_cost=drift)
    return ctx


def memory(**settings):
    return OckhamMemory(
        **{"quality_threshold": 3.0, "complexity_threshold": 0.1, "min_oq_improvement": 0.05, **settings}
    )


def verdict(own, *args, **kwargs):
    return own.should_accept_update(candidate(*args, **kwargs)).reason


def test_the_gates_in_order():
    """The reason is the first gate that fails; the first valid candidate has nothing to beat."""
    own = memory()
    assert verdict(own, math.nan) == "REJECTED_NONFINITE"
    assert verdict(own, 2.0, math.nan) == "REJECTED_NONFINITE"
    assert verdict(own, 3.5) == "REJECTED_QUALITY"
    assert verdict(own, 2.5, 0.2) == "REJECTED_COMPLEXITY"
    assert verdict(own, 2.5) == "ACCEPTED_FIRST_VALID"
    assert verdict(own, 2.45) == "REJECTED_OQ_INSUFFICIENT"
    assert verdict(own, 2.0) == "ACCEPTED_OQ_IMPROVEMENT"
    assert own.statistics()["accept_rate"] == pytest.approx(2 / 5)
    assert own.statistics()["evaluations"] == 7


def test_a_nan_loss_is_never_the_first_valid_model():
    """The predecessor took it."""
    own = memory(quality_threshold=None)
    assert verdict(own, math.nan) == "REJECTED_NONFINITE"
    assert own.baseline is None


def test_all_gates_are_logged_with_value_and_limit():
    """One decision, flat numbers."""
    own = memory()
    ctx = candidate(2.5, 0.2)
    own.on_evaluate(ctx)
    note = ctx.notes[0]
    assert (note.action, note.reason_code, note.observed, note.threshold) == (
        "REJECT",
        "REJECTED_COMPLEXITY",
        0.2,
        0.1,
    )
    assert note.numbers["quality_passed"] == 1.0
    assert note.numbers["complexity_passed"] == 0.0
    assert note.numbers["quality_limit"] == 3.0
    assert not ctx.accepted


def test_a_quality_fraction_fits_bytes_and_bpe():
    """A part of ln V; without V it says what is missing."""
    own = memory(quality_threshold=None, quality_fraction=0.5)
    assert verdict(own, 0.6 * math.log(256), vocab_size=256) == "REJECTED_QUALITY"
    assert verdict(own, 0.6 * math.log(256), vocab_size=50_257) == "ACCEPTED_FIRST_VALID"
    with pytest.raises(BadInputError, match="vocab_size"):
        verdict(own, 1.0)


def test_measured_and_estimated_costs_do_not_compare():
    """Never mix a proxy with a measure."""
    own = memory()
    verdict(own, 2.5)
    assert verdict(own, 1.0, inference_flops=1e6, memory_footprint_mb=1.0) == "REJECTED_INCOMPARABLE"
    assert verdict(own, 1.0, model_params=0) == "REJECTED_NO_COST"


def test_a_prev_takes_the_baselines_place_for_one_call():
    """And one that is no baseline is said to be none."""
    own = memory()
    verdict(own, 2.5)
    metrics = own.measure(candidate(1.0))
    assert (
        own.should_accept_update(candidate(2.0), ModelSnapshot("x", 0, metrics)).reason
        == "REJECTED_OQ_INSUFFICIENT"
    )
    broken = ModelSnapshot("x", 0, OccamMetrics(1.0, 0.0, -1.0, 1.0, 1.0, metrics.spec))
    assert own.should_accept_update(candidate(2.0), broken).reason == "INVALID_BASELINE"
    assert verdict(own, 2.0) == "ACCEPTED_OQ_IMPROVEMENT"


def test_without_a_validation_loss_the_task_loss_is_judged():
    """As the first documents do."""
    assert memory().should_accept_update(OccamContext(0, 2.0, model_params=10)).accept


points = st.tuples(*[st.integers(1, 4).map(float)] * 4)


@given(st.lists(points, max_size=12))
def test_the_frontier_is_a_frontier(found):
    """Nobody on it is beaten, everybody off it is beaten or equalled by somebody on it."""
    snapshots = [
        ModelSnapshot(str(i), i, OccamMetrics(a, d, 1.0, b, c, "s")) for i, (a, b, c, d) in enumerate(found)
    ]
    kept = pareto_frontier(snapshots)
    axes = lambda s: (s.metrics.loss, s.metrics.flops, s.metrics.megabytes, s.metrics.complexity_cost)  # noqa: E731
    at_least = lambda a, b: all(x <= y for x, y in zip(axes(a), axes(b), strict=True))  # noqa: E731
    for one in kept:
        assert not any(at_least(o, one) and axes(o) != axes(one) for o in snapshots)
    for one in snapshots:
        assert any(at_least(k, one) for k in kept)
    assert len({axes(k) for k in kept}) == len(kept)


def test_state_round_trip():
    """Baseline, frontier and counters through JSON."""
    own, other = memory(), memory()
    for loss in (3.5, 2.5, 2.45, 2.0):
        verdict(own, loss)
    other.load_state_dict(json.loads(json.dumps(own.state_dict())))
    assert other.state_dict() == own.state_dict()
    assert verdict(other, 1.99) == verdict(own, 1.99) == "REJECTED_OQ_INSUFFICIENT"


def test_weights_are_saved_without_torch_and_without_pickle(tmp_path):
    """Anything with a state_dict() of arrays; read again by safetensors itself."""
    import numpy as np
    from safetensors.numpy import load_file

    class Model:
        def state_dict(self):
            return {"w": np.arange(4.0)}

    own = memory()
    ctx = candidate(2.0)
    own.should_accept_update(ctx)
    before = own.state_dict()
    snapshot = own.save_checkpoint(Model(), ctx, tmp_path)
    assert list(load_file(snapshot.path)["w"]) == [0.0, 1.0, 2.0, 3.0]
    assert own.state_dict() == before  # where a file lies decides nothing, so replay need not know it


def test_only_the_weights_that_were_accepted_last_are_saved(tmp_path):
    """Others would lie under a snapshot that is not theirs."""
    own = memory()
    with pytest.raises(BadInputError, match="iteration 10 are not the last accepted"):
        own.save_checkpoint(object(), candidate(2.0), tmp_path)
    own.should_accept_update(candidate(2.5, iter_num=10))
    own.should_accept_update(candidate(9.0, iter_num=20))
    with pytest.raises(BadInputError, match="iteration 20 are not the last accepted"):
        own.save_checkpoint(object(), candidate(9.0, iter_num=20), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_only_guesses_has_no_performance():
    """With bits_saved an untrained model is worth 0, and worse than guessing is worth less."""
    own = memory(quality_threshold=None, performance="bits_saved")
    assert verdict(own, math.log(256), vocab_size=256) == "REJECTED_NO_PERFORMANCE"
    assert verdict(own, 6.0, vocab_size=256) == "REJECTED_NO_PERFORMANCE"
    assert verdict(own, 2.0, vocab_size=256) == "ACCEPTED_FIRST_VALID"
    assert own.baseline.metrics.occam_quotient > 0


@pytest.mark.parametrize("params", [1, 124_000_000, 7_000_000_000_000])
def test_the_third_gate_is_relative_at_any_size(params):
    """The predecessor's epsilon was larger than every real quotient: its gate never opened."""
    own = memory(min_oq_improvement=1.0)
    assert verdict(own, 2.0, model_params=params) == "ACCEPTED_FIRST_VALID"
    assert verdict(own, 1.01, model_params=params) == "REJECTED_OQ_INSUFFICIENT"
    assert verdict(own, 1.0, model_params=params) == "ACCEPTED_OQ_IMPROVEMENT"


def test_a_limit_itself_passes():
    """loss <= quality, drift <= complexity."""
    assert verdict(memory(), 3.0, 0.1) == "ACCEPTED_FIRST_VALID"


def test_the_accept_rate_is_of_the_finite_evaluations():
    """A NaN is no candidate; before the first there is no rate."""
    own = memory()
    assert math.isnan(own.statistics()["accept_rate"])
    for loss in (math.nan, 2.0, 9.0):
        verdict(own, loss)
    assert own.statistics() == {"evaluations": 3, "accept_rate": 0.5, "REJECTED_NONFINITE": 1,
                                "ACCEPTED_FIRST_VALID": 1, "REJECTED_QUALITY": 1}  # fmt: skip
