"""Data of records: lists of runs, and the pairs that they form."""

from __future__ import annotations

import pytest

from ockham.odr.record_data import EvidenceSide, parse_record_data


def runs(sides):
    return [side.run for side in sides]


@pytest.mark.parametrize(
    ("evidence", "pairs"),
    [
        ({"candidate": {"run": "a"}}, [(None, "a")]),
        ({"candidates": [{"run": "a"}, {"run": "b"}]}, [(None, "a"), (None, "b")]),
        ({"baseline": {"run": "o"}, "candidate": {"run": "a"}}, [("o", "a")]),
        (
            {"baseline": {"run": "o"}, "candidates": [{"run": "a"}, {"run": "b"}]},
            [("o", "a"), ("o", "b")],
        ),
        (
            {"baselines": [{"run": "o"}, {"run": "p"}], "candidates": [{"run": "a"}, {"run": "b"}]},
            [("o", "a"), ("p", "b")],
        ),
        ({"baselines": [{"run": "o"}, {"run": "p"}], "candidate": {"run": "a"}}, []),
        ({"baselines": [{"run": "o"}]}, []),
        ({}, []),
    ],
)
def test_sides_of_a_record_form_pairs_by_position(evidence, pairs):
    """One baseline is compared with all candidates; other numbers form no pairs."""
    found = parse_record_data({"evidence": evidence}).pairs
    assert [(pair.baseline.run if pair.baseline else None, pair.candidate.run) for pair in found] == pairs


def test_side_of_a_list_has_path_and_label_of_its_place():
    """Messages and findings name the item of the list."""
    claims = parse_record_data(
        {"evidence": {"baseline": {"run": "o"}, "candidates": [{"run": "a"}, {"run": "b"}]}}
    )
    assert [side.label for side in claims.sides] == ["baseline", "candidates[0]", "candidates[1]"]
    assert claims.candidates[1].path == ("evidence", "candidates", 1)
    assert EvidenceSide("candidate", "a").label == "candidate"


def test_missing_and_broken_runs_are_omitted():
    """Lint reports them; the data has only runs with an ID."""
    claims = parse_record_data({"evidence": {"candidates": [{"run": "a"}, {"run": 3}, "b", {}]}})
    assert runs(claims.candidates) == ["a"]
    assert parse_record_data({"evidence": {"candidates": {"run": "a"}}}).candidates == ()


def test_defaults_of_judge_and_point_are_interval_and_iteration():
    """Both can be named."""
    claims = parse_record_data({"constraints": [{"id": "C1"}, {"id": "C2", "judge": "mean"}]})
    assert [one.judge for one in claims.constraints] == ["interval", "mean"]
    assert claims.oq_delta_at == "iteration"
    assert parse_record_data({"outcome": {"oq_delta_at": "tokens"}}).oq_delta_at == "tokens"
