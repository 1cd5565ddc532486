"""The Occam Quotient: the document's numbers, units, and what may be compared."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ockham.context import OccamContext
from ockham.errors import BadInputError
from ockham.plugins.memory import OckhamMemory
from ockham.quotient import QuotientSpec, compute_performance, occam_quotient, relative_improvement


def test_the_documents_example_to_four_digits():
    """A 13B at 1.2 nats: 1.2327e-17; B 7B at 1.3: 3.9246e-17; B over A: +218.37 %."""
    a = occam_quotient(compute_performance(1.2), 2.6e12, 26_000)
    b = occam_quotient(compute_performance(1.3), 1.4e12, 14_000)
    assert f"{a:.4e}" == "1.2327e-17"
    assert f"{b:.4e}" == "3.9246e-17"
    assert f"{relative_improvement(b, a):+.2%}" == "+218.37%"


@pytest.mark.parametrize("params", [1_000, 124_000_000, 13_000_000_000])
def test_a_loss_halved_is_twice_the_quotient_at_any_size(params):
    """No epsilon in the denominator: at 124M parameters the predecessor called this 0.0 % and refused it."""
    memory = OckhamMemory(min_oq_improvement=0.99)
    facts = {"model_params": params, "inference_flops": 2.0 * params, "memory_footprint_mb": 4e-6 * params}
    assert memory.should_accept_update(OccamContext(0, 4.0, **facts)) == (True, "ACCEPTED_FIRST_VALID")
    halved = OccamContext(1, 2.0, **facts)
    baseline = memory.baseline.metrics.occam_quotient
    assert relative_improvement(memory.measure(halved).occam_quotient, baseline) == pytest.approx(
        1.0, rel=1e-12
    )
    assert memory.should_accept_update(halved) == (True, "ACCEPTED_OQ_IMPROVEMENT")


@pytest.mark.parametrize("loss", [0.0, -1.0, math.nan, math.inf, -math.inf])
def test_a_loss_that_is_none_has_no_performance(loss):
    """NaN, so that every comparison with it refuses."""
    assert math.isnan(compute_performance(loss))
    assert math.isnan(compute_performance(loss, "bits_saved", 256))


def test_bits_saved_is_nothing_for_a_guesser():
    """ln V nats is what a uniform guess costs: worth 0; a perfect model would be worth 1."""
    assert compute_performance(math.log(256), "bits_saved", 256) == 0
    assert compute_performance(math.log(256) / 2, "bits_saved", 256) == pytest.approx(0.5)
    assert compute_performance(10.0, "bits_saved", 256) < 0
    with pytest.raises(BadInputError, match="vocab_size >= 2, got 0"):
        compute_performance(1.0, "bits_saved")


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_a_cost_must_be_finite_and_positive(bad):
    """No quotient of nothing: the message says which of the two is missing."""
    with pytest.raises(BadInputError, match="needs inference_flops > 0"):
        occam_quotient(1.0, bad, 1.0)
    with pytest.raises(BadInputError, match="needs memory_footprint_mb > 0"):
        occam_quotient(1.0, 1.0, bad)


@pytest.mark.parametrize(
    ("candidate", "baseline"), [(1.0, 0.0), (1.0, -1.0), (1.0, math.nan), (math.nan, 1.0), (math.inf, 1.0)]
)
def test_no_improvement_over_nothing(candidate, baseline):
    """A baseline that is no positive number gives NaN, never 0 %."""
    assert math.isnan(relative_improvement(candidate, baseline))


@given(st.floats(0.1, 20), st.floats(0.1, 20), st.floats(1e-30, 1e30), st.floats(1e-9, 1e9))
def test_improvement_is_free_of_units(loss, other, flops, megabytes):
    """At one cost the improvement is the ratio of the losses, whatever the size of the numbers."""
    quotient = [occam_quotient(compute_performance(x), flops, megabytes) for x in (loss, other)]
    assert relative_improvement(*quotient) == pytest.approx(other / loss - 1, rel=1e-9, abs=1e-12)


def test_specs_compare_by_digest():
    """Another performance, cost, number of tokens or vocabulary is another spec."""
    specs = [
        QuotientSpec(),
        QuotientSpec("bits_saved", vocab_size=256),
        QuotientSpec("bits_saved", vocab_size=512),
        QuotientSpec(cost="from_params", tokens=1),
        QuotientSpec(tokens=100),
    ]
    assert len({spec.digest for spec in specs}) == len(specs)
    assert QuotientSpec().digest == QuotientSpec("inverse_loss", "measured", 0, 0).digest
    assert len(QuotientSpec().digest) == 16
