"""Notes below the figures of the cards."""

from __future__ import annotations

import pytest

from dashboard.metric_cards import savings_note

# A longer note is cut off in a card of the usual width.
MAX_CHARACTERS = 18


@pytest.mark.parametrize(
    ("figures", "expected"),
    [
        ({"compute_saved": 0.25, "compute_saved_low": 0.2511, "compute_saved_high": 0.2525}, "25.1 to 25.2%"),
        ({"compute_saved": 0.25, "compute_saved_low": None, "compute_saved_high": None}, "estimate"),
        ({"compute_saved": None, "compute_saved_reason": "WAITED_FOR_RANKS"}, "waited for ranks"),
        ({"compute_saved": None, "compute_saved_reason": "NO_STAGE_TIMES"}, "no stage times"),
        ({}, "unknown"),
    ],
)
def test_savings_note_has_interval_or_reason_and_fits_the_card(figures, expected):
    """An unknown saving is not shown as 0."""
    assert savings_note(figures) == expected
    assert len(expected) <= MAX_CHARACTERS
