"""Facts and settings of a training, read from the Lightning Trainer that runs it, and its limits."""

from __future__ import annotations

import math
import os
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy

from ockham.errors import BadInputError

_SETTINGS = (
    "max_steps",
    "max_epochs",
    "min_steps",
    "min_epochs",
    "accumulate_grad_batches",
    "gradient_clip_val",
    "gradient_clip_algorithm",
    "precision",
    "world_size",
    "val_check_interval",
    "check_val_every_n_epoch",
    "limit_train_batches",
    "limit_val_batches",
)


def require_supported(trainer: pl.Trainer) -> None:
    """Check that the callback can carry out the verdicts in this training.

    Raises:
        BadInputError: If it cannot. The message names what is accepted.

    """
    if not isinstance(trainer.strategy, (SingleDeviceStrategy, DDPStrategy)):
        raise BadInputError(
            f"OckhamCallback: strategy {type(trainer.strategy).__name__} is not supported; "
            "use one device or DDPStrategy, or an own loop with ockham.Run.distributed"
        )
    if not trainer.optimizers:
        raise BadInputError("OckhamCallback: the module has no optimizer; return one in configure_optimizers")
    if any(isinstance(optimizer, torch.optim.LBFGS) for optimizer in trainer.optimizers):
        raise BadInputError(
            "OckhamCallback: LBFGS computes several losses in one step, so no single batch can be skipped; "
            "use another optimizer"
        )


def read_facts(trainer: pl.Trainer, module: pl.LightningModule) -> dict[str, Any]:
    """Return the facts of a run that a Trainer and its module have.

    The number of steps is missing if it is not limited, the vocabulary if it is not in `module.hparams`.
    """
    facts: dict[str, Any] = {"model_params": sum(parameter.numel() for parameter in module.parameters())}
    planned = planned_steps(trainer)
    if planned is not None:
        facts["max_iters"] = planned
    vocab_size = module.hparams.get("vocab_size")
    if isinstance(vocab_size, int):
        facts["vocab_size"] = vocab_size
    # Lightning stores the seed of seed_everything there.
    seed = os.environ.get("PL_GLOBAL_SEED", "")
    if seed.isdecimal():
        facts["seed"] = int(seed)
    return facts


def planned_steps(trainer: pl.Trainer) -> int | None:
    """Return the number of optimizer steps of the whole training. None if it is not limited."""
    try:
        planned = trainer.estimated_stepping_batches
    except MisconfigurationException:
        # The number of micro-batches changes between epochs.
        return trainer.max_steps if trainer.max_steps > 0 else None
    return int(planned) if math.isfinite(planned) and planned > 0 else None


def read_norm_limit(trainer: pl.Trainer) -> float:
    """Return the Trainer's limit of the gradient norm. It is infinite if the Trainer does not clip norms."""
    is_norm = trainer.gradient_clip_algorithm in {None, "norm"}
    return float(trainer.gradient_clip_val or math.inf) if is_norm else math.inf


def read_settings(trainer: pl.Trainer) -> dict[str, Any]:
    """Return the settings of a Trainer as JSON values."""
    settings = {name: getattr(trainer, name, None) for name in _SETTINGS}
    settings["strategy"] = type(trainer.strategy).__name__
    if trainer.global_step:
        settings["resumed_from_step"] = trainer.global_step
    return {name: value for name, value in settings.items() if _is_json(value)}


def count_micro_steps(trainer: pl.Trainer, started: int) -> int:
    """Return the number of micro-batches of the present step. The last step of an epoch may have fewer.

    Args:
        trainer: The Trainer, in a training step.
        started: Number of micro-batches of this step that were started before.

    """
    if not is_accumulating(trainer):
        return started + 1
    left = trainer.num_training_batches - trainer.fit_loop.epoch_loop.batch_idx
    return int(max(started + 2, started + min(trainer.accumulate_grad_batches - started, left)))


def is_accumulating(trainer: pl.Trainer) -> bool:
    """Return True unless the present batch is the last one of its optimizer step."""
    return bool(trainer.fit_loop._should_accumulate())


def stop_message(trainer: pl.Trainer) -> str | None:
    """Return why a Trainer stopped before the planned end. None if it did not."""
    planned = planned_steps(trainer)
    if not trainer.should_stop or (planned is not None and trainer.global_step >= planned):
        return None
    stopped = [
        f"{type(callback).__name__} on {callback.monitor!r}"
        for callback in trainer.early_stopping_callbacks
        if callback.stopping_reason_message is not None
    ]
    return f"{' and '.join(stopped) or 'the Trainer'} stopped the training after step {trainer.global_step}"


def _is_json(value: Any) -> bool:
    return (
        value is None
        or isinstance(value, (str, int, bool))
        or (isinstance(value, float) and math.isfinite(value))
    )
