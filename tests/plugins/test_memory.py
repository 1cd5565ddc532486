"""memory: three gates, a baseline, and the Pareto frontier."""

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


def make_candidate(loss, drift=0.05, iter_num=10, **fields):
    ctx = OccamContext(iter_num, 9.0, **{"model_params": 1_000, **fields})
    ctx.set_gauges(val_loss=loss, complexity_cost=drift)
    return ctx


def make_memory(**settings):
    return OckhamMemory(
        **{"quality_threshold": 3.0, "complexity_threshold": 0.1, "min_oq_improvement": 0.05, **settings}
    )


def judge(memory, *args, **kwargs):
    """Return the reason of the verdict on a candidate."""
    return memory.should_accept_update(make_candidate(*args, **kwargs)).reason


def test_memory_reason_is_the_first_failing_gate():
    """The first valid candidate is not compared with others."""
    memory = make_memory()
    assert judge(memory, math.nan) == "REJECTED_NONFINITE"
    assert judge(memory, 2.0, math.nan) == "REJECTED_NONFINITE"
    assert judge(memory, 3.5) == "REJECTED_QUALITY"
    assert judge(memory, 2.5, 0.2) == "REJECTED_COMPLEXITY"
    assert judge(memory, 2.5) == "ACCEPTED_FIRST_VALID"
    assert judge(memory, 2.45) == "REJECTED_OQ_INSUFFICIENT"
    assert judge(memory, 2.0) == "ACCEPTED_OQ_IMPROVEMENT"
    assert memory.statistics()["accept_rate"] == pytest.approx(2 / 5)
    assert memory.statistics()["evaluations"] == 7


def test_memory_never_accepts_a_nan_loss_as_baseline():
    """This holds without a quality threshold."""
    memory = make_memory(quality_threshold=None)
    assert judge(memory, math.nan) == "REJECTED_NONFINITE"
    assert memory.baseline is None


def test_memory_logs_all_gates_with_value_and_limit():
    """One decision contains the numbers of all gates."""
    memory = make_memory()
    ctx = make_candidate(2.5, 0.2)
    memory.on_evaluate(ctx)
    note = ctx.notes[0]
    assert note.action == "REJECT"
    assert note.reason_code == "REJECTED_COMPLEXITY"
    assert note.observed == 0.2
    assert note.threshold == 0.1
    assert note.numbers["quality_passed"] == 1.0
    assert note.numbers["complexity_passed"] == 0.0
    assert note.numbers["quality_limit"] == 3.0
    assert not ctx.accepted


def test_quality_fraction_depends_on_the_vocabulary():
    """The limit is a fraction of ln V. Without V the error names it."""
    memory = make_memory(quality_threshold=None, quality_fraction=0.5)
    assert judge(memory, 0.6 * math.log(256), vocab_size=256) == "REJECTED_QUALITY"
    assert judge(memory, 0.6 * math.log(256), vocab_size=50_257) == "ACCEPTED_FIRST_VALID"
    with pytest.raises(BadInputError, match="vocab_size"):
        judge(memory, 1.0)


def test_memory_rejects_candidates_with_incomparable_costs():
    """Measured and estimated costs are not compared."""
    memory = make_memory()
    judge(memory, 2.5)
    assert judge(memory, 1.0, inference_flops=1e6, memory_footprint_mb=1.0) == "REJECTED_INCOMPARABLE"
    assert judge(memory, 1.0, model_params=0) == "REJECTED_NO_COST"


def test_prev_replaces_the_baseline_for_one_call():
    """An invalid baseline is rejected with its reason."""
    memory = make_memory()
    judge(memory, 2.5)
    metrics = memory.measure(make_candidate(1.0))
    assert (
        memory.should_accept_update(make_candidate(2.0), ModelSnapshot("x", 0, metrics)).reason
        == "REJECTED_OQ_INSUFFICIENT"
    )
    broken = ModelSnapshot("x", 0, OccamMetrics(1.0, 0.0, -1.0, 1.0, 1.0, metrics.spec))
    assert memory.should_accept_update(make_candidate(2.0), broken).reason == "INVALID_BASELINE"
    assert judge(memory, 2.0) == "ACCEPTED_OQ_IMPROVEMENT"


def test_memory_uses_task_loss_without_validation_loss():
    """This is the behaviour of the first documents."""
    assert make_memory().should_accept_update(OccamContext(0, 2.0, model_params=10)).accept


points = st.tuples(*[st.integers(1, 4).map(float)] * 4)


def get_costs(snapshot):
    """Return the values that the frontier compares. Lower is better."""
    metrics = snapshot.metrics
    return metrics.loss, metrics.flops, metrics.megabytes, metrics.complexity_cost


def is_at_least_as_good(first, second):
    """Return True if no cost of the first snapshot is higher."""
    return all(a <= b for a, b in zip(get_costs(first), get_costs(second), strict=True))


@given(st.lists(points, max_size=12))
def test_pareto_frontier_contains_exactly_the_undominated_candidates(costs):
    """No member is dominated. Every other candidate is dominated or equalled by a member."""
    snapshots = [
        ModelSnapshot(str(i), i, OccamMetrics(a, d, 1.0, b, c, "s")) for i, (a, b, c, d) in enumerate(costs)
    ]
    frontier = pareto_frontier(snapshots)
    for member in frontier:
        assert not any(
            is_at_least_as_good(other, member) and get_costs(other) != get_costs(member)
            for other in snapshots
        )
    for snapshot in snapshots:
        assert any(is_at_least_as_good(member, snapshot) for member in frontier)
    assert len({get_costs(member) for member in frontier}) == len(frontier)


def test_restored_memory_decides_as_before():
    """Baseline, frontier and counters are stored as JSON."""
    memory, other = make_memory(), make_memory()
    for loss in (3.5, 2.5, 2.45, 2.0):
        judge(memory, loss)
    other.load_state_dict(json.loads(json.dumps(memory.state_dict())))
    assert other.state_dict() == memory.state_dict()
    assert judge(other, 1.99) == judge(memory, 1.99) == "REJECTED_OQ_INSUFFICIENT"


def test_memory_saves_numpy_weights_as_safetensors(tmp_path):
    """Any object with a state_dict() of arrays can be saved. Safetensors reads the file."""
    import numpy as np
    from safetensors.numpy import load_file

    class Model:
        def state_dict(self):
            return {"w": np.arange(4.0)}

    memory = make_memory()
    ctx = make_candidate(2.0)
    memory.should_accept_update(ctx)
    before = memory.state_dict()
    snapshot = memory.save_checkpoint(Model(), ctx, tmp_path)
    assert list(load_file(snapshot.path)["w"]) == [0.0, 1.0, 2.0, 3.0]
    # The path of a file affects no decision, so a replay does not need it.
    assert memory.state_dict() == before


def test_memory_saves_only_the_last_accepted_weights(tmp_path):
    """Other weights would get the ID of another snapshot."""
    memory = make_memory()
    with pytest.raises(BadInputError, match="iteration 10 is not the last accepted one"):
        memory.save_checkpoint(object(), make_candidate(2.0), tmp_path)
    memory.should_accept_update(make_candidate(2.5, iter_num=10))
    memory.should_accept_update(make_candidate(9.0, iter_num=20))
    with pytest.raises(BadInputError, match="iteration 20 is not the last accepted one"):
        memory.save_checkpoint(object(), make_candidate(9.0, iter_num=20), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_memory_rejects_models_not_better_than_guessing():
    """With bits_saved an untrained model has a performance of 0, and a worse one a negative performance."""
    memory = make_memory(quality_threshold=None, performance="bits_saved")
    assert judge(memory, math.log(256), vocab_size=256) == "REJECTED_NO_PERFORMANCE"
    assert judge(memory, 6.0, vocab_size=256) == "REJECTED_NO_PERFORMANCE"
    assert judge(memory, 2.0, vocab_size=256) == "ACCEPTED_FIRST_VALID"
    assert memory.baseline.metrics.occam_quotient > 0


@pytest.mark.parametrize("params", [1, 124_000_000, 7_000_000_000_000])
def test_efficiency_gate_is_relative_at_any_model_size(params):
    """An absolute limit would be larger than every real quotient."""
    memory = make_memory(min_oq_improvement=1.0)
    assert judge(memory, 2.0, model_params=params) == "ACCEPTED_FIRST_VALID"
    assert judge(memory, 1.01, model_params=params) == "REJECTED_OQ_INSUFFICIENT"
    assert judge(memory, 1.0, model_params=params) == "ACCEPTED_OQ_IMPROVEMENT"


def test_candidate_at_the_limits_is_accepted():
    """loss <= quality, drift <= complexity."""
    assert judge(make_memory(), 3.0, 0.1) == "ACCEPTED_FIRST_VALID"


def test_accept_rate_counts_only_finite_evaluations():
    """A NaN is not counted. Before the first evaluation the rate is NaN."""
    memory = make_memory()
    assert math.isnan(memory.statistics()["accept_rate"])
    for loss in (math.nan, 2.0, 9.0):
        judge(memory, loss)
    assert memory.statistics() == {
        "evaluations": 3,
        "accept_rate": 0.5,
        "REJECTED_NONFINITE": 1,
        "ACCEPTED_FIRST_VALID": 1,
        "REJECTED_QUALITY": 1,
    }
