"""GPUs and backends of ranks, with a faked CUDA."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist

from ockham.errors import BadInputError
from ockham.nano import DistributedRanks, Settings


@pytest.fixture
def make_ranks(monkeypatch):
    """Return ranks on a machine with one GPU, and the calls that select GPUs and backends."""

    def make(rank):
        calls = []
        monkeypatch.setenv("LOCAL_RANK", str(rank))
        monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
        monkeypatch.setattr(torch.cuda, "set_device", calls.append)
        monkeypatch.setattr(dist, "is_nccl_available", lambda: True)
        monkeypatch.setattr(dist, "new_group", lambda backend, timeout: calls.append(backend))
        ranks = DistributedRanks(rank, 2)
        monkeypatch.setattr(ranks._peers, "run_on_all", lambda action: action())
        monkeypatch.setattr(ranks._peers, "all_reduce_max", lambda value: value)
        return ranks, calls

    return make


def test_ranks_on_one_named_gpu_send_gradients_over_gloo(make_ranks):
    """NCCL refuses two ranks on one GPU."""
    ranks, calls = make_ranks(1)
    ranks.init_groups(Settings(device="cuda:0"))
    assert calls == ["gloo", "gloo"]


def test_each_rank_selects_its_own_gpu_by_default(make_ranks):
    """Gradients are sent over NCCL then."""
    ranks, calls = make_ranks(0)
    ranks.init_groups(Settings(device="cuda"))
    assert calls == [0, "gloo", "cpu:gloo,cuda:nccl"]


def test_more_ranks_than_gpus_are_refused(make_ranks):
    """The message names the device that all ranks can share."""
    ranks, _ = make_ranks(1)
    with pytest.raises(BadInputError, match=r"only 1 GPUs; start fewer ranks .* --device cuda:0"):
        ranks.init_groups(Settings(device="auto"))
