"""Generated attacks and crashes: verifiers, evidence, lineage and resume against the independent model."""

from __future__ import annotations

import collections

import hypothesis
import pytest
from hypothesis import strategies

from tests.attacks.cases import check_case, make_case
from tests.attacks.forgery import KINDS, append_events
from tests.attacks.operations import OPERATIONS
from tests.attacks.oracle import read_model
from tests.attacks.templates import SeededDraw, make_templates
from tests.helpers.example_counts import examples

SEEDED_CASES = 120


class HypothesisDraw:
    """Choices that hypothesis makes and shrinks."""

    def __init__(self, data):
        self._data = data

    def integer(self, low, high):
        return self._data.draw(strategies.integers(low, high))


@pytest.fixture(scope="session")
def templates(tmp_path_factory):
    return make_templates(tmp_path_factory.mktemp("attacks"))


def test_templates_are_sound_runs_of_several_attempts_and_ranks(templates):
    """The model calls every real run sound, and all of its lines signed."""
    logs = set()
    for template in templates.runs:
        model = read_model(template.files, template.run_id, templates.key.text)
        assert model.findings == set(), template.name
        assert all(log.signed == len(log.lines) for log in model.logs.values())
        logs |= model.logs.keys()
    assert logs >= {"1-0", "1-1", "2-0", "2-1", "3-0"}


@pytest.mark.parametrize("kind", KINDS)
def test_forged_events_fit_their_schemas(templates, tmp_path, kind):
    """An attack with an invalid event would test less."""
    from ockham.record.schema import validate_event
    from tests.attacks.world import read_event, read_lines

    world = templates.world(templates.runs[1])
    append_events(world, SeededDraw(kind), "1-0", [kind])
    validate_event(kind, read_event(read_lines(world.files, "1-0")[-1]))


def test_seeded_cases_agree_with_the_model(templates, tmp_path):
    """Every operation occurs, and crashes are sound."""
    seen, verdicts = collections.Counter(), collections.Counter()
    for number in range(SEEDED_CASES):
        case = make_case(templates, SeededDraw(number), tmp_path)
        assert check_case(case) == [], (number, case.template, case.operations)
        seen.update(case.operations)
        verdicts[case.expected] += 1
    assert set(OPERATIONS) <= set(seen)
    assert {"sound", "tampering"} <= set(verdicts)


@hypothesis.settings(
    max_examples=examples(30),
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture, hypothesis.HealthCheck.too_slow],
)
@hypothesis.given(data=strategies.data())
def test_generated_cases_agree_with_the_model(templates, tmp_path, data):
    """Hypothesis shrinks a disagreement to few operations."""
    case = make_case(templates, HypothesisDraw(data), tmp_path)
    assert check_case(case) == [], (case.template, case.operations)
