"""Ranks of a process group: gradients are averaged once, also if a rank has none."""

from __future__ import annotations

from ockham.nano.process_ranks import ProcessRanks
from tests.helpers.forked_cli import wait
from tests.helpers.ranks import spawn_ranks


def test_gradients_of_two_ranks_are_averaged():
    """A missing gradient counts as zero, and stays missing if no rank has one. Errors reach every rank."""
    done = wait(spawn_ranks(2, "-m", "tests.nano.gradient_rank"))
    assert [process.returncode for process in done] == [0, 0], [process.stderr[-2000:] for process in done]


def test_one_process_is_rank_0_of_1():
    """Without a process group the environment of one process is enough."""
    ranks = ProcessRanks()
    assert (ranks.rank, ranks.world_size) == (0, 1)
    assert ranks.all_gather(b"a") == [b"a"]
