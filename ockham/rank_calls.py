"""Calls of a training loop with several processes. `ockham.Run` inherits them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol, Self

from ockham.batch_calls import BatchCalls
from ockham.errors import RunError
from ockham.policy import Policy
from ockham.record.run_folder import new_run_id
from ockham.step_audit import Meter

# Steps between two comparisons of the ranks' weights. Each reads all weights once.
DEFAULT_WEIGHTS_INTERVAL = 100


class Ranks(Protocol):
    """Exchanges gradients between the ranks, such as `ockham.nano.process_ranks.ProcessRanks`."""

    def average_parameter_gradients(self, parameters: Iterable[Any]) -> None:
        """Replace the gradient of each parameter by its mean over the ranks."""
        ...


class RankCalls(BatchCalls):
    """Creates the run of one rank, and exchanges its gradients. `ockham.Run` sets the attributes."""

    _ranks: Ranks | None = None

    @classmethod
    def distributed(
        cls,
        policy: str | Path | Policy | None = None,
        *,
        run_id: str | None = None,
        weights_interval: int = DEFAULT_WEIGHTS_INTERVAL,
        **options: Any,
    ) -> Self:
        """Create this rank's run of a training whose processes are those of `torch.distributed`.

            torch.distributed.init_process_group()
            with ockham.Run.distributed("balanced", facts={"max_iters": 600}) as run:
                ctx = run.start_batch(loss=loss.item(), tokens=targets.numel())

        Every rank passes its own loss. The verdict is made on the mean over all ranks. With one process it is
        an ordinary run. All ranks must make the same calls.

        Args:
            policy: As for `ockham.Run`.
            run_id: ID of the run. None takes the ID that rank 0 makes from the time.
            weights_interval: Steps between two comparisons of the ranks' weights. They are those of the
                optimizers that the run watches. 0 compares them only at evaluations.
            options: Further arguments of `ockham.Run`.

        Raises:
            BadInputError: If `torch.distributed` is not initialised though several processes were started.
            RunError: As for `ockham.Run`.

        """
        from ockham.nano.process_ranks import ProcessRanks

        ranks = ProcessRanks()
        shared_id = ranks.broadcast(run_id or new_run_id())
        with ranks.raise_on_all():
            # `ockham.Run` has the constructor.
            create: Any = cls
            run = create(
                policy,
                run_id=run_id or shared_id,
                rank=ranks.rank,
                world_size=ranks.world_size,
                all_gather=ranks.all_gather,
                **options,
            )
        run._ranks = ranks
        run._averages_losses = ranks.world_size > 1
        run._weights_interval = weights_interval if ranks.world_size > 1 else 0
        created: Self = run
        return created

    def average_gradients(self, parameters: Iterable[Any]) -> None:
        """Replace each gradient by its mean over the ranks. With one process this has no effect.

        Call it once per step on every rank, after the last verdict, and before the gradients are unscaled or
        clipped. Run each forward and backward pass of DistributedDataParallel under `no_sync`.

        Args:
            parameters: The parameters of the model. A gradient that is missing on a rank counts as zero.

        Raises:
            RunError: If the run was not created by `ockham.Run.distributed`.
            BadInputError: If the ranks pass different numbers of parameters, or a gradient is sparse.

        """
        if self._ranks is None:
            raise RunError("run.average_gradients: the run has no ranks; create it by ockham.Run.distributed")
        self._ranks.average_parameter_gradients(parameters)

    def compare_weights(self, meter: Meter | None) -> None:
        """Record a checksum of the weights at each evaluation, and compare it on all ranks at intervals.

        `watch` calls it. An integration that measures the steps by itself calls it with its own meter.

        Args:
            meter: Measures the weights. None ends the comparison, such as for sharded weights.

        """
        self._weights_meter = meter
