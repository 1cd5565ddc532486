"""Hugging Face Trainer with several processes: supported parallel modes, and the gradient exchange.

DistributedDataParallel averages gradients in the backward pass of the last micro-batch. A skipped batch has
no such pass, so an active chain switches this off. The gradients are averaged once, after the last verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch.nn.parallel import DistributedDataParallel

from ockham.errors import BadInputError
from ockham.integrations.patches import Patches
from ockham.integrations.step_controller import StepController
from ockham.run import Run

# Settings that differ between the processes of one training.
_PER_PROCESS = frozenset({"local_rank"})


def require_supported(args: Any) -> None:
    """Check that every device has a process of its own.

    Raises:
        BadInputError: If one process uses several devices (DataParallel).

    """
    if args.n_gpu > 1:
        raise BadInputError(
            f"OckhamCallback supports one device in each process, and this process uses {args.n_gpu}; "
            "start one process for each device, such as `torchrun --nproc-per-node 2 train.py`"
        )


def shared_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that are equal in all processes."""
    return {name: value for name, value in settings.items() if name not in _PER_PROCESS}


def run_factory(args: Any, *, resumes: bool) -> Callable[..., Run]:
    """Return the function that creates the run of this process.

    Raises:
        BadInputError: If a run of several processes is resumed.

    """
    if args.world_size == 1:
        return Run
    if resumes:
        raise BadInputError(
            "OckhamCallback resumes a run in one process only; "
            "continue the training with another run_id, or without resume_from_checkpoint"
        )
    return Run.distributed


class GradientExchange:
    """Averages the gradients of a step over the processes, in place of DistributedDataParallel.

    Args:
        controller: Its run was created by `ockham.Run.distributed`.
        model: The model as the Trainer calls it.
        patches: Restores the model after the training.

    Raises:
        BadInputError: If the model is sharded or is trained by DeepSpeed, and the policy acts.

    """

    def __init__(self, controller: StepController, model: Any, patches: Patches) -> None:
        self.controller = controller
        self._is_done = False
        if not isinstance(model, DistributedDataParallel):
            raise BadInputError(
                f"OckhamCallback with several processes supports DistributedDataParallel, and the model is "
                f"{type(model).__name__}; use policy='observe', or an own loop with ockham.Run.distributed"
            )
        patches.replace(model, "require_backward_grad_sync", False)

    def average(self) -> None:
        """Average the gradients of a step. Every process calls it before the first use of the gradients.

        A second call in the same step has no effect.
        """
        if not self._is_done:
            self._is_done = True
            self.controller.check_skip()
            self.controller.run.average_gradients(self.controller.weights.parameters())

    def end_step(self) -> None:
        """Note that a new step begins."""
        self._is_done = False
