"""Applied steps: every difference between verdict and measurement is found, and nothing else."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from ockham.applied_step import GRADIENT_DROPPED, REFUSAL_CAUSES, AppliedStep, find_not_applied
from ockham.context import OccamContext

RATES = st.sampled_from([0.0, 1e-4, 1e-3, 3e-3])
NORMS = st.sampled_from([None, 0.5, 1.0, 4.0, math.inf])


@given(
    accepted=st.booleans(),
    wanted=st.booleans(),
    stepped=st.sampled_from([None, True, False]),
    changed=st.sampled_from([None, True, False]),
    decided_rate=RATES,
    used_rate=RATES,
    norm=NORMS,
    cause=st.sampled_from(["", "NONFINITE_GRADIENT"]),
)
def test_differences_are_found(accepted, wanted, stepped, changed, decided_rate, used_rate, norm, cause):
    """The expected reasons are written here from the definition."""
    knobs = {"learning_rate": decided_rate, "grad_clip": 1.0, "step": wanted}
    ctx = OccamContext(3, 2.0, **knobs) if accepted else None
    takes_step = accepted and wanted
    rates = (used_rate,) if stepped else ()
    step = AppliedStep(stepped, rates, norm if stepped else None, changed, "" if stepped else cause)
    expected = set()
    if not takes_step and changed:
        expected = {"WEIGHTS_CHANGED_ON_SKIP"}
    elif not takes_step and stepped:
        expected = {"STEPPED_ON_SKIP"}
    if takes_step and stepped is False:
        expected.add(cause or "STEP_NOT_TAKEN")
    if takes_step and stepped and used_rate != decided_rate:
        expected.add("OTHER_LEARNING_RATE")
    if takes_step and stepped and norm is not None and norm > 1.01:
        expected.add("GRADIENT_NOT_CLIPPED")
    found = list(find_not_applied(ctx, step, has_scheduled_rate=True))
    assert {item.reason_code for item in found} == expected
    if not takes_step:
        assert {item.field for item in found} <= {"step" if accepted else "updated"}
    assert [item.is_refusal for item in found] == [item.reason_code == "NONFINITE_GRADIENT" for item in found]


def test_learning_rate_is_not_compared_if_the_loop_passed_none():
    """The context then has the default of the field."""
    step = AppliedStep(True, (0.5,))
    assert list(find_not_applied(OccamContext(0, 1.0), step, has_scheduled_rate=False)) == []


def test_only_known_values_are_recorded():
    """Null and an absent field mean that nothing measured it."""
    assert AppliedStep().recorded() == {"updated": None}
    whole = AppliedStep(True, (0.1, 0.2), 0.9, True)
    assert whole.recorded() == {
        "updated": True,
        "learning_rates": [0.1, 0.2],
        "clipped_grad_norm": 0.9,
        "weights_changed": True,
    }


def test_rounding_is_no_difference_and_the_first_group_is_compared():
    """A rate may differ by 1e-6 of itself, a norm by 1 %."""
    ctx = OccamContext(0, 1.0, learning_rate=1e-3, grad_clip=1.0)

    def find(rates, norm):
        step = AppliedStep(True, rates, norm)
        return [item.reason_code for item in find_not_applied(ctx, step, has_scheduled_rate=True)]

    assert find((1e-3 * (1 + 5e-7), 0.7), 1.009) == []
    assert find((1e-3 * (1 + 5e-6), 1e-3), 1.0) == ["OTHER_LEARNING_RATE"]
    assert find((1e-3,), 1.02) == ["GRADIENT_NOT_CLIPPED"]


def test_only_known_causes_of_the_trainer_are_refusals():
    """A run in which the trainer refused a step for such a cause is sound."""
    assert REFUSAL_CAUSES == {"NONFINITE_GRADIENT", "LOSS_SCALE_OVERFLOW", "BATCH_ABANDONED"}
    for cause, is_refusal in [("BATCH_ABANDONED", True), (GRADIENT_DROPPED, False)]:
        step = AppliedStep(stepped=False, cause=cause)
        (found,) = find_not_applied(OccamContext(0, 1.0), step, has_scheduled_rate=False)
        assert (found.reason_code, found.is_refusal) == (cause, is_refusal)
