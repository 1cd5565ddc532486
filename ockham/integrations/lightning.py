"""Lightning: a callback that lets the chain decide about each batch.

    with ockham.Run("balanced", facts={"max_iters": 600, "vocab_size": 256}) as run:
        trainer = lightning.Trainer(max_steps=600, callbacks=[OckhamCallback(run)])
        trainer.fit(module, train_batches, val_batches)

The loss of a skipped batch has no graph. Lightning's backward pass then computes no gradient, and the
optimizer changes neither weights nor moments.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import lightning.pytorch as pl
import torch

from ockham.errors import BadInputError
from ockham.integrations.step_controller import StepController, detach_loss
from ockham.run import Run


class OckhamCallback(pl.Callback):
    """Applies the chain's verdicts to each batch of one process under automatic optimization.

    Args:
        run: An open run (`with ockham.Run(...) as run`). It ends when the block is left.
        monitor: Name of the logged validation loss, in nats per token.
        save_checkpoints: Save accepted weights as checkpoints of the run.

    Raises:
        BadInputError: When training starts, if it uses manual optimization, several processes or float16 with
            a loss scaler.

    """

    def __init__(self, run: Run, *, monitor: str = "val_loss", save_checkpoints: bool = True) -> None:
        self.run = run
        self.monitor = monitor
        self.save_checkpoints = save_checkpoints
        self.controller: StepController | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Wrap the module's training step."""
        if not pl_module.automatic_optimization:
            raise BadInputError(
                "OckhamCallback requires automatic optimization; "
                "with manual optimization call ockham.Run in the module, see docs/integrate.md"
            )
        if trainer.world_size > 1 or getattr(trainer.precision_plugin, "scaler", None) is not None:
            raise BadInputError("OckhamCallback supports one process, in float32 or bfloat16")
        self.controller = StepController(
            self.run, pl_module, trainer.optimizers[0], save_checkpoints=self.save_checkpoints
        )
        self.controller.micro_steps = trainer.accumulate_grad_batches
        step = self._wrap_training_step(trainer, pl_module.training_step)
        # Lightning calls the attribute of the object, so the method is replaced there.
        pl_module.training_step = step  # type: ignore[method-assign]

    def on_before_optimizer_step(self, *_: object) -> None:
        """Prepare the gradients of the step."""
        if self.controller is not None:
            self.controller.before_step()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: object, **__: object) -> None:
        """Record the batch, and stop if the policy requires it."""
        if self.controller is not None:
            self.controller.end_batch()
            trainer.should_stop |= self.controller.stop_reason is not None

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Pass the validation loss to memory and anchor."""
        val_loss = trainer.callback_metrics.get(self.monitor)
        if self.controller is not None and not trainer.sanity_checking and val_loss is not None:
            self.controller.evaluate(float(val_loss))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore the module's training step and end the run."""
        if self.controller is not None:
            del pl_module.training_step
            self.controller.close()
            self.controller = None

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, _: BaseException) -> None:
        """Restore the module's training step. The block of the run records how it ended."""
        if self.controller is not None:
            del pl_module.training_step
            self.controller.detach()
            self.controller = None

    def _wrap_training_step(self, trainer: pl.Trainer, step: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(step)
        def training_step(*args: Any, **kwargs: Any) -> Any:
            out = step(*args, **kwargs)
            loss = out.get("loss") if isinstance(out, Mapping) else out
            if self.controller is None or not isinstance(loss, torch.Tensor):
                return out
            if self.controller.start_batch(float(loss.detach()), trainer.gradient_clip_val or math.inf):
                return out
            skipped = detach_loss(loss)
            return {**out, "loss": skipped} if isinstance(out, Mapping) else skipped

        return training_step
