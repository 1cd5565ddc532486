"""Processes of a Hugging Face training: which ones are supported, and one exchange of gradients per step.

DistributedDataParallel synchronises in the backward pass of the last micro-batch, and a skipped micro-batch
has none. So an acting chain turns that off, and the gradients are averaged once per step, after the last
verdict. Under observe nothing is changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

from ockham.errors import BadInputError
from ockham.integrations.patches import Patches
from ockham.integrations.step_controller import StepController
from ockham.run import Run

# Kinds of training, as Accelerate names them, in which another library owns the gradients.
SHARDED_KINDS = frozenset({"DEEPSPEED", "FSDP", "MEGATRON_LM"})


def require_one_device(args: Any) -> None:
    """Check that a process trains on one device.

    Raises:
        BadInputError: If the Trainer would use DataParallel.

    """
    if args.n_gpu > 1:
        raise BadInputError(
            f"OckhamCallback: one process on {args.n_gpu} GPUs (DataParallel) is not supported; "
            "start one process per GPU with torchrun, or set CUDA_VISIBLE_DEVICES to one GPU"
        )


def require_replicas(trainer: Any, run: Run) -> None:
    """Check that the verdicts of a run can be carried out. Under observe any training is accepted.

    Args:
        trainer: The Trainer, at the begin of a training.
        run: The run, open or not.

    Raises:
        BadInputError: If a policy acts, and the training shards its weights or gradients.

    """
    kind = str(getattr(trainer.accelerator.distributed_type, "value", "NO"))
    is_alone = trainer.args.world_size == 1 and kind not in SHARDED_KINDS
    is_observed = all(plugin.shadow for plugin in run.chain.plugins)
    if is_alone or is_observed or find_replica(trainer) is not None:
        return
    raise BadInputError(
        f"OckhamCallback: a training of kind {kind} takes only policy='observe'; a policy that acts requires "
        "one process, or DistributedDataParallel. For FSDP2 use an own loop with ockham.Run.distributed"
    )


def require_resumable(trainer: Any) -> None:
    """Check that the state of a run can be restored in this training.

    Raises:
        BadInputError: If each process holds another part of the weights.

    """
    if trainer.args.world_size > 1 and find_replica(trainer) is None:
        raise BadInputError(
            "OckhamCallback resumes a run of several processes with DistributedDataParallel only; "
            "continue the training with another run_id, or without resume_from_checkpoint"
        )


def find_replica(trainer: Any) -> DistributedDataParallel | None:
    """Return the DistributedDataParallel of a training. It may be compiled. None without one."""
    modules = trainer.model_wrapped.modules()
    return next((module for module in modules if isinstance(module, DistributedDataParallel)), None)


def count_tokens(inputs: Mapping[str, Any]) -> int:
    """Return the number of tokens of a micro-batch, with padding. 0 if unknown."""
    tokens = inputs.get("input_ids", inputs.get("labels"))
    return int(tokens.numel()) if isinstance(tokens, torch.Tensor) else 0


def shared_data(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a description of the data that is equal on all ranks. Every rank must call this.

    A dataset that is transformed on each rank can have a random fingerprint.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return dict(data)
    described: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(described, dict(data))
    return {name: value for name, value in data.items() if all(value == each.get(name) for each in described)}


class TrainerRanks:
    """The processes of one training. With one process every method leaves everything as it is.

    Args:
        trainer: The Trainer, at the begin of a training.
        controller: Its step controller.
        patches: Restores what is changed here.

    """

    def __init__(self, trainer: Any, controller: StepController, patches: Patches) -> None:
        self.run = controller.run
        self.is_distributed = self.run.peers.world_size > 1
        self._accelerator = trainer.accelerator
        self._controller = controller
        self._is_averaged = False
        replica = find_replica(trainer)
        self._exchanges = self.is_distributed and controller.is_active
        if self._exchanges:
            # As no_sync does, also for the last micro-batch of a step.
            patches.replace(replica, "require_backward_grad_sync", False)
        if self.is_distributed and replica is None:
            # The ranks hold different parts of sharded weights.
            self.run.compare_weights(None)

    def average_gradients(self, *, ends_step: bool = False) -> None:
        """Average the gradients over the ranks, once per step. Call it on every rank after the last verdict.

        Args:
            ends_step: The optimizer's step follows. The next call belongs to another step.

        """
        is_due = self._exchanges and not self._is_averaged and self._accelerator.sync_gradients
        if is_due:
            self._controller.check_skip()
            self.run.average_gradients(self._controller.weights.parameters())
        self._is_averaged = not ends_step and (is_due or self._is_averaged)

    def sum_tokens(self, tokens: int) -> int:
        """Return the sum of a number of tokens over the ranks. Every rank must call this."""
        return sum(self.run.peers.gather_json(tokens)) if self.is_distributed else tokens
