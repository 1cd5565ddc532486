"""Lightning modules for tests, and what their training really did, measured without Ockham."""

from __future__ import annotations

import logging
import math
import warnings
from typing import Any

import torch

from tests.helpers import tiny_model
from tests.helpers.rank_loop import true_loss
from tests.helpers.step_truth import StepTruth, gradient_norm

# Lightning emits warnings at import.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import lightning.pytorch as pl

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class Module(pl.LightningModule):
    """Trains the tiny model. Options select the situation.

    Args:
        rate: Learning rate of the first parameter group. The second one has half of it.
        dictionary: Return the loss in a dictionary.
        none_every: Return None for every batch with this number. 0 for never.
        val_names: Names of the logged validation loss, by loader.

    """

    def __init__(
        self,
        *,
        rate: float = 0.02,
        dictionary: bool = False,
        none_every: int = 0,
        val_name: str = "val_loss",
    ) -> None:
        super().__init__()
        self.model = tiny_model.make_model()
        self.rate, self.dictionary, self.none_every, self.val_name = rate, dictionary, none_every, val_name
        self.truth = StepTruth()
        self.val_losses: list[float] = []
        self.calls = 0
        self._norm: float | None = None

    def compute_loss(self, batch: Any) -> torch.Tensor:
        """Return the loss. The truth contains it in double precision."""
        logits = self.model(batch[0])
        loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, -2), batch[1].reshape(-1))
        self.calls += 1
        is_missing = self.none_every and self.calls % self.none_every == 0
        self.truth.begin_batch(self, math.nan if is_missing else true_loss(logits, batch[1]))
        return None if is_missing else loss

    def training_step(self, batch: Any, _: int) -> Any:
        """Return the loss, also in a dictionary."""
        loss = self.compute_loss(batch)
        return {"loss": loss} if self.dictionary else loss

    def validation_step(self, batch: Any, _: int, dataloader_idx: int = 0) -> None:
        """Log the validation loss. Several loaders get names of their own from Lightning."""
        self.log(self.val_name, self.model.loss(*batch), batch_size=4)

    def configure_optimizers(self) -> Any:
        """Return AdamW with two groups, and a schedule whose rates depend on the rate before."""
        parameters = list(self.model.parameters())
        groups = [
            {"params": [p for p in parameters if p.dim() >= 2]},
            {"params": [p for p in parameters if p.dim() < 2], "lr": self.rate / 2},
        ]
        optimizer = torch.optim.AdamW([g for g in groups if g["params"]], lr=self.rate, weight_decay=0.1)
        # Lightning computes the gradients inside the step. This hook runs before those of the callback.
        optimizer.register_step_post_hook(self._note_step)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.99)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_batch_end(self, *_: Any) -> None:
        """Note whether the weights moved."""
        self.truth.end_batch(self)

    def _note_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        self.truth.read_step(optimizer)
        if self._norm is not None:
            self.truth.norms.append(self._norm)


class NormReader(pl.Callback):
    """Reads the norm of the gradients before the next callback changes them."""

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Read the norm, if there is a gradient."""
        has_gradient = any(p.grad is not None for p in pl_module.parameters())
        pl_module._norm = gradient_norm(pl_module.parameters()) if has_gradient else None


def make_loader(count: int) -> torch.utils.data.DataLoader:
    """Return batches for Lightning."""
    return torch.utils.data.DataLoader(tiny_model.make_batches(count), batch_size=None)


class Stream(torch.utils.data.IterableDataset):
    """Batches without a known number."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __iter__(self) -> Any:
        return iter(tiny_model.make_batches(self.count))


def make_stream(count: int) -> torch.utils.data.DataLoader:
    """Return batches whose number is not known before the last one."""
    return torch.utils.data.DataLoader(Stream(count), batch_size=None)


def fit(
    folder: Any, callback: Any, module: Any = None, *, train: Any = None, val: Any = None, **options: Any
) -> Any:
    """Train. Return the module and the Trainer."""
    ckpt_path = options.pop("ckpt_path", None)
    module = module or Module()
    defaults = {
        "max_steps": 40,
        "logger": False,
        "enable_checkpointing": False,
        "val_check_interval": 10,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "accelerator": "cpu",
        "default_root_dir": folder,
    }
    callbacks = [NormReader(), *options.pop("callbacks", []), *([callback] if callback else [])]
    trainer = pl.Trainer(callbacks=callbacks, **{**defaults, **options})
    train = make_loader(40) if train is None else train
    val = make_loader(3) if val is None else val
    trainer.fit(module, train, val, ckpt_path=ckpt_path)
    return module, trainer


class ManualModule(Module):
    """Takes its steps by itself, with one or two optimizers.

    Args:
        callback: The callback whose method `batch` gives the verdicts.
        optimizers: Number of optimizers.
        micro_steps: Number of micro-batches of a step.
        obey: Whether the module carries out the verdicts.

    """

    def __init__(
        self, callback: Any, *, optimizers: int = 1, micro_steps: int = 1, obey: bool = True, **options: Any
    ) -> None:
        super().__init__(**options)
        self.automatic_optimization = False
        self.callback = callback
        self.optimizer_count, self.micro_steps, self.obey = optimizers, micro_steps, obey
        self.accepted = 0

    def training_step(self, batch: Any, _: int) -> None:
        """Compute the gradients and take the steps as the batch requires."""
        loss = self.compute_loss(batch)
        with self.callback.batch(loss, tokens=batch[1].numel(), micro_steps=self.micro_steps) as verdict:
            if verdict.ctx.micro_step == 0:
                self.accepted = 0
            self.accepted += verdict.updated
            if verdict.updated or not self.obey:
                self.manual_backward(loss / self.micro_steps)
            if verdict.takes_step or not self.obey:
                self.take_step(verdict)

    def take_step(self, verdict: Any) -> None:
        """Take a step with all optimizers."""
        optimizers = self.optimizers()
        optimizers = optimizers if isinstance(optimizers, list) else [optimizers]
        # The comparison scales the norm by the accepted micro-batches, as the callback does for a Trainer.
        share = self.accepted / self.micro_steps
        self.truth.norms.append(gradient_norm(self.parameters()) * share)
        verdict.clip_gradients(self.parameters())
        groups = [group for optimizer in optimizers for group in optimizer.optimizer.param_groups]
        self.truth.rates.append(tuple(float(group["lr"]) for group in groups))
        self.truth.clipped_norms.append(gradient_norm(self.parameters()))
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()

    def configure_optimizers(self) -> Any:
        """Return one or two optimizers with different learning rates."""
        parameters = list(self.model.parameters())
        parts = [parameters[i :: self.optimizer_count] for i in range(self.optimizer_count)]
        return [torch.optim.AdamW(part, lr=self.rate / (i + 1)) for i, part in enumerate(parts)]
