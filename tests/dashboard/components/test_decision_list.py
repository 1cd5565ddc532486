"""Entries of the decision list."""

from __future__ import annotations

import pytest

from dashboard.components.decision_list import change_text, compare_values, decision_address, decision_entry


@pytest.mark.parametrize(
    ("observed", "threshold", "expected"),
    [
        (0.33509, 0.25, "0.33509 above 0.25 by 0.08509"),
        (1.5, 2.0, "1.5 below 2 by 0.5"),
        (2.0, 2.0, "2, equal to the threshold"),
        (2.0, None, "2"),
        (None, 2.0, ""),
    ],
)
def test_compare_values_states_side_and_distance(observed, threshold, expected):
    """The text contains the value, the threshold and their distance."""
    assert compare_values(observed, threshold) == expected


def test_decision_entry_has_plain_name_and_code():
    """The list shows both."""
    row = {
        "decision_id": "id",
        "iter_num": 1200,
        "plugin": "gate",
        "action": "SKIP",
        "reason_code": "BELOW_THRESHOLD",
        "observed": 1.0,
        "threshold": 2.0,
        "changes": None,
        "shadow": False,
    }
    entry = decision_entry(row)
    assert (entry["iter"], entry["what"], entry["code"]) == ("1,200", "gate: skip", "BELOW_THRESHOLD")
    assert entry["reason"] == "loss below the threshold"


def test_decision_address_quotes_the_run():
    """A name of a run is data, not a part of the address."""
    assert decision_address("a&b") == "decision?run=a%26b&decision="


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("lambda_ockham: 0.01 -> 0.02", "lambda: 0.01 -> 0.02"),
        ("grad_clip: 1 -> 0.5", "limit of the gradient norm: 1 -> 0.5"),
        ("updated: true -> false", "updated: true -> false"),
    ],
)
def test_change_text_has_the_plain_name_of_the_knob(change, expected):
    """The values stay as they are."""
    assert change_text(change) == expected
