"""Step audit: measurements and verdicts of one step, and when they contradict each other."""

from __future__ import annotations

import math

import pytest

from ockham.applied_step import AppliedStep
from ockham.context import OccamContext
from ockham.errors import BadInputError
from ockham.step_audit import StepAudit


class FixedMeter:
    """Returns given measurements in order."""

    def __init__(self, *steps):
        self.steps, self.starts = list(steps), 0

    def scheduled_learning_rate(self):
        return 0.25

    def start(self):
        self.starts += 1

    def read(self, cause=""):
        return self.steps.pop(0)


def run_batch(audit, *, updated=True, applied=None, micro_steps=1, stepped=None, grad_norm=None, **fields):
    """Start and end the next batch. Return the outcome."""
    loss, rate = fields.pop("loss", 2.0), fields.get("learning_rate")
    number = audit.start(None, None, micro_steps, fields)
    knobs = {"learning_rate": rate} if rate is not None else {}
    ctx = OccamContext(
        number.iter_num, loss, micro_step=number.micro_step, micro_steps=micro_steps, updated=updated, **knobs
    )
    audit.note_verdict(ctx)
    return audit.end(ctx, applied, stepped=stepped, grad_norm=grad_norm)


def reasons(outcome):
    """Return the reason codes of the verdicts that were not applied."""
    return [found.reason_code for found in outcome.not_applied]


STEPPED = AppliedStep(stepped=True, learning_rates=(0.5,))
LEFT = AppliedStep(stepped=False, weights_changed=False)


def test_accepted_micro_batch_before_a_skipped_one_expects_a_step():
    """The verdict of the step is that of any of its micro-batches."""
    audit = StepAudit()
    assert reasons(run_batch(audit, micro_steps=2, applied=LEFT)) == []
    assert reasons(run_batch(audit, micro_steps=2, updated=False, applied=STEPPED)) == []
    # The next step has no accepted micro-batch.
    assert reasons(run_batch(audit, updated=False, applied=STEPPED)) == ["STEPPED_ON_SKIP"]


def test_abandoned_step_leaves_no_verdict():
    """A skipped batch after it must not step."""
    audit = StepAudit()
    run_batch(audit, micro_steps=2, applied=LEFT)
    audit.abandon_step()
    assert reasons(run_batch(audit, updated=False, applied=STEPPED)) == ["STEPPED_ON_SKIP"]
    assert audit.numbers._last.iter_num == 1


def test_learning_rate_of_one_step_is_not_expected_in_the_next():
    """A loop can pass it for some steps only."""
    audit = StepAudit()
    assert reasons(run_batch(audit, applied=STEPPED, learning_rate=0.1)) == ["OTHER_LEARNING_RATE"]
    assert reasons(run_batch(audit, applied=STEPPED)) == []
    # One micro-batch with a rate is enough.
    run_batch(audit, micro_steps=2, applied=LEFT, learning_rate=0.1)
    assert reasons(run_batch(audit, micro_steps=2, applied=STEPPED)) == ["OTHER_LEARNING_RATE"]


@pytest.mark.parametrize(
    ("updated", "applied", "expected"),
    [
        (True, AppliedStep(stepped=False, weights_changed=True), []),
        (False, AppliedStep(stepped=False, weights_changed=True), ["WEIGHTS_CHANGED_ON_SKIP"]),
        (True, AppliedStep(stepped=True), ["STEPPED_ON_SKIP"]),
        (False, LEFT._replace(has_skipped_gradient=True), ["GRADIENT_OF_SKIPPED_BATCH"]),
        (True, LEFT, []),
    ],
)
def test_inner_micro_batch_must_not_step(updated, applied, expected):
    """Weights that change in an accepted micro-batch have another cause, such as a buffer."""
    audit = StepAudit()
    outcome = run_batch(audit, micro_steps=2, updated=updated, applied=applied)
    assert reasons(outcome) == expected
    assert outcome.counts_as_step == bool(applied.stepped)


@pytest.mark.parametrize(
    ("loss", "norm", "cause", "expected"),
    [
        (2.0, None, "", "STEP_NOT_TAKEN"),
        (2.0, math.inf, "", "NONFINITE_GRADIENT"),
        (math.nan, 1.0, "", "NONFINITE_GRADIENT"),
        (math.nan, math.inf, "LOSS_SCALE_OVERFLOW", "LOSS_SCALE_OVERFLOW"),
    ],
)
def test_step_that_was_not_taken_has_its_cause(loss, norm, cause, expected):
    """A known cause is kept. A value that is not finite is one."""
    outcome = run_batch(StepAudit(), applied=LEFT._replace(cause=cause), loss=loss, grad_norm=norm)
    assert reasons(outcome) == [expected]


@pytest.mark.parametrize(
    ("updated", "stepped", "counts"), [(True, False, False), (False, True, True), (True, None, True)]
)
def test_step_counts_as_measured(updated, stepped, counts):
    """Without a measurement the verdict counts."""
    assert run_batch(StepAudit(), updated=updated, stepped=stepped).counts_as_step is counts


def test_meter_measures_each_batch_and_gives_the_learning_rate():
    """A rate that the loop passes is kept."""
    audit = StepAudit()
    audit.meter = FixedMeter(STEPPED, STEPPED)
    fields = {}
    audit.start(None, None, 1, fields)
    assert fields == {"learning_rate": 0.25}
    assert audit.meter.starts == 1
    audit.end(OccamContext(0, 2.0), None, stepped=None)
    fields = {"learning_rate": 0.5}
    audit.start(None, None, 1, fields)
    assert fields == {"learning_rate": 0.5}
    outcome = audit.end(OccamContext(1, 2.0), AppliedStep(stepped=False), stepped=None)
    assert outcome.applied.stepped is False


def test_other_measurement_than_an_applied_step_is_refused():
    """The message names the argument for a truth value."""
    audit = StepAudit()
    audit.start(None, None, 1, {})
    with pytest.raises(BadInputError, match=r"got bool; .* pass stepped=True or stepped=False"):
        audit.end(OccamContext(0, 2.0), True, stepped=None)
