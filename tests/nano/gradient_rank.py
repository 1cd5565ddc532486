"""Program of one of two ranks: gradients that are averaged, and gradients that cannot be.

python -m tests.nano.gradient_rank
"""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist

from ockham.errors import BadInputError
from ockham.nano.process_ranks import ProcessRanks


def make_parameters(values: list[float | None], dtype: torch.dtype) -> list[torch.nn.Parameter]:
    """Return parameters with gradients that consist of one value. None for a missing gradient."""
    parameters = [torch.nn.Parameter(torch.zeros(3, dtype=dtype)) for _ in values]
    for parameter, value in zip(parameters, values, strict=True):
        parameter.grad = None if value is None else torch.full((3,), value, dtype=dtype)
    return parameters


def main() -> None:
    """Check every case on this rank."""
    dist.init_process_group("gloo")
    ranks = ProcessRanks()
    rank = ranks.rank
    for dtype in (torch.float32, torch.bfloat16):
        parameters = make_parameters([1.0 + 2 * rank, None if rank else 4.0, None], dtype)
        parameters += make_parameters([float("inf") if rank else 1.0], torch.float32)
        ranks.average_parameter_gradients(parameters)
        gradients = [None if p.grad is None else p.grad.tolist() for p in parameters]
        assert gradients == [[2.0] * 3, [2.0] * 3, None, [float("inf")] * 3], gradients
    expect(
        "different numbers of parameters: 1 on rank 0, 2 on rank 1",
        make_parameters([1.0] * (1 + rank), dtype),
        ranks,
    )
    sparse = make_parameters([1.0], torch.float32)
    if rank == 1:
        sparse[0].grad = torch.sparse_coo_tensor([[0]], [1.0], (3,))
    expect("sparse", sparse, ranks)
    dist.destroy_process_group()


def expect(message: str, parameters: list[torch.nn.Parameter], ranks: ProcessRanks) -> None:
    """Assert that averaging raises an error that contains a message, on every rank."""
    with pytest.raises(BadInputError, match=message):
        ranks.average_parameter_gradients(parameters)


if __name__ == "__main__":
    main()
