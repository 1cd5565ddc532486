"""Mean loss of all ranks: exact, and equal on every rank bit for bit."""

from __future__ import annotations

import contextlib
import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ockham.errors import RunError
from ockham.record.rank_group import RankGroup
from tests.helpers.ranks import run_on_threads


@given(
    losses=st.lists(st.tuples(st.floats(-1e6, 1e6), st.integers(0, 10_000)), min_size=2, max_size=8),
    with_tokens=st.booleans(),
)
def test_average_loss_is_the_exact_weighted_mean_on_every_rank(losses, with_tokens):
    """It is equal bit for bit, whatever the order of the ranks, and ranks without tokens do not count."""
    counts = [count if with_tokens else None for _, count in losses]
    means = _average(list(zip([loss for loss, _ in losses], counts, strict=True)))
    assert len(set(means)) == 1
    assert set(_average(list(zip([loss for loss, _ in losses], counts, strict=True))[::-1])) == set(means)
    weights = (
        [count for _, count in losses] if with_tokens and any(n for _, n in losses) else [1] * len(losses)
    )
    exact = sum(Fraction(loss) * n for (loss, _), n in zip(losses, weights, strict=True)) / sum(weights)
    scale = max(abs(loss) for loss, _ in losses)
    assert abs(means[0].loss - float(exact)) <= 1e-15 * scale * len(losses)
    assert means[0].tokens == (sum(n for _, n in losses) if with_tokens else None)


@pytest.mark.parametrize(
    ("ranks", "is_finite"),
    [
        ([(2.0, 3), (math.nan, 1)], False),
        ([(math.inf, 3), (-math.inf, 1)], False),
        # A rank without tokens has a mean over nothing.
        ([(2.0, 3), (math.nan, 0)], True),
    ],
)
def test_average_loss_is_not_finite_if_a_counted_loss_is_not(ranks, is_finite):
    """Every rank then skips the batch."""
    assert {math.isfinite(mean.loss) for mean in _average(ranks)} == {is_finite}


@pytest.mark.parametrize("counts", [(None, 4), (4, None), (-1, 4), (-3, -3)])
def test_average_loss_rejects_tokens_of_some_ranks(counts):
    """Every rank raises the same error."""
    errors = run_on_threads(
        lambda rank, gather: RankGroup(rank, 2, gather).average_loss(1.0, counts[rank]), len(counts)
    )
    assert {type(error) for error in errors} == {RunError}
    assert "pass the number of tokens on every rank, or on none" in str(errors[0])


def _average(ranks):
    """Return the mean of each rank. The exchange is replayed on one thread."""
    sent = []
    for rank, (loss, tokens) in enumerate(ranks):
        with contextlib.suppress(StopIteration):
            RankGroup(rank, len(ranks), lambda own: sent.append(own) or next(iter(()))).average_loss(
                loss, tokens
            )
    return [
        RankGroup(rank, len(ranks), lambda _: sent).average_loss(loss, tokens)
        for rank, (loss, tokens) in enumerate(ranks)
    ]
