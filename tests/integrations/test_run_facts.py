"""Facts of a user, compared with those of a trainer."""

from __future__ import annotations

import pytest

from ockham.errors import BadInputError
from ockham.integrations.run_facts import require_equal_facts


@pytest.mark.parametrize("given", [{}, {"seed": 0, "max_iters": 40}, {"vocab_size": 7}, {"max_iters": 40}])
def test_equal_or_unknown_facts_are_accepted(given):
    """A fact that only one side has is accepted."""
    require_equal_facts(given, {"max_iters": 40, "seed": 3}, "the Trainer")


def test_message_names_every_different_fact():
    """It contains both values, and the way to avoid the difference."""
    with pytest.raises(
        BadInputError, match="max_iters is 4, the Trainer has 40; seed is 1, the Trainer has 3"
    ):
        require_equal_facts({"max_iters": 4, "seed": 1}, {"max_iters": 40, "seed": 3}, "the Trainer")


@pytest.mark.parametrize("unknown", [None, 0, ""])
def test_fact_that_one_side_does_not_know_is_accepted(unknown):
    """It cannot differ."""
    require_equal_facts({"max_iters": 5}, {"max_iters": unknown}, "Trainer")
    require_equal_facts({"max_iters": unknown}, {"max_iters": 5}, "Trainer")
