"""The Occam Quotient: the numbers of the original document, units, and comparability."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ockham.context import OccamContext
from ockham.errors import BadInputError
from ockham.plugins.memory import OckhamMemory
from ockham.quotient import QuotientSpec, compute_performance, occam_quotient, relative_improvement


def test_quotient_matches_the_example_of_the_document():
    """To four digits: 1.2327e-17, 3.9246e-17, +218.37 %."""
    a = occam_quotient(compute_performance(1.2), 2.6e12, 26_000)
    b = occam_quotient(compute_performance(1.3), 1.4e12, 14_000)
    assert f"{a:.4e}" == "1.2327e-17"
    assert f"{b:.4e}" == "3.9246e-17"
    assert f"{relative_improvement(b, a):+.2%}" == "+218.37%"


@pytest.mark.parametrize("params", [1_000, 124_000_000, 13_000_000_000])
def test_halved_loss_doubles_the_quotient_at_any_size(params):
    """The denominator has no epsilon."""
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
def test_invalid_loss_has_no_performance(loss):
    """It is NaN, so comparisons are false."""
    assert math.isnan(compute_performance(loss))
    assert math.isnan(compute_performance(loss, "bits_saved", 256))


def test_bits_saved_is_zero_for_a_uniform_guess():
    """A perfect model has the value 1."""
    assert compute_performance(math.log(256), "bits_saved", 256) == 0
    assert compute_performance(math.log(256) / 2, "bits_saved", 256) == pytest.approx(0.5)
    assert compute_performance(10.0, "bits_saved", 256) < 0
    with pytest.raises(BadInputError, match="vocab_size >= 2, got 0"):
        compute_performance(1.0, "bits_saved")


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_cost_must_be_finite_and_positive(bad):
    """The message names the missing one."""
    with pytest.raises(BadInputError, match="needs inference_flops > 0"):
        occam_quotient(1.0, bad, 1.0)
    with pytest.raises(BadInputError, match="needs memory_footprint_mb > 0"):
        occam_quotient(1.0, 1.0, bad)


@pytest.mark.parametrize(
    ("candidate", "baseline"), [(1.0, 0.0), (1.0, -1.0), (1.0, math.nan), (math.nan, 1.0), (math.inf, 1.0)]
)
def test_improvement_over_an_invalid_baseline_is_nan(candidate, baseline):
    """It is never 0 %."""
    assert math.isnan(relative_improvement(candidate, baseline))


@given(st.floats(0.1, 20), st.floats(0.1, 20), st.floats(1e-30, 1e30), st.floats(1e-9, 1e9))
def test_improvement_is_independent_of_units(loss, other, flops, megabytes):
    """At equal cost it is the ratio of the losses."""
    quotient = [occam_quotient(compute_performance(x), flops, megabytes) for x in (loss, other)]
    assert relative_improvement(*quotient) == pytest.approx(other / loss - 1, rel=1e-9, abs=1e-12)


def test_specs_are_compared_by_digest():
    """Performance, cost, tokens, vocabulary."""
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
