"""Hugging Face Trainer: a callback that lets the chain decide about each batch.

    with ockham.Run("balanced", facts={"max_iters": 600, "vocab_size": 50257}) as run:
        trainer = transformers.Trainer(model, arguments, callbacks=[OckhamCallback(run)], ...)
        trainer.train()

The Trainer passes no loss to its callbacks, so the callback registers a hook on the model. The loss of a
skipped batch has no graph. The backward pass then computes no gradient, and the optimizer changes neither
weights nor moments.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ockham.errors import BadInputError
from ockham.integrations.step_controller import StepController, detach_loss
from ockham.run import Run

# Label that Hugging Face excludes from the loss.
IGNORE_INDEX = -100


class OckhamCallback(TrainerCallback):
    """Applies the chain's verdicts to each batch of one process.

    During training, the Trainer's `max_grad_norm` is the base of the chain's `grad_clip`, which replaces it.

    Args:
        run: An open run (`with ockham.Run(...) as run`). It ends when the block is left.
        save_checkpoints: Save accepted weights as checkpoints of the run.

    Raises:
        BadInputError: When training starts, if it uses several processes or float16 with a loss scaler, or if
            the model returns no loss. With label smoothing and `compute_loss_func` the loss is not the
            model's.

    """

    def __init__(self, run: Run, *, save_checkpoints: bool = True) -> None:
        self.run = run
        self.save_checkpoints = save_checkpoints
        self.controller: StepController | None = None
        self._max_grad_norm = 0.0
        self._micro_steps = 1
        self._forward_hook: Any = None
        self._is_decided = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Register the hook on the model."""
        if args.world_size > 1 or args.n_gpu > 1 or args.fp16:
            raise BadInputError("OckhamCallback supports one process on one device, in float32 or bfloat16")
        optimizer = getattr(kwargs["optimizer"], "optimizer", kwargs["optimizer"])
        self.controller = StepController(
            self.run, kwargs["model"], optimizer, save_checkpoints=self.save_checkpoints
        )
        self._max_grad_norm = args.max_grad_norm
        self._micro_steps = args.gradient_accumulation_steps
        if self.controller.is_active:
            args.max_grad_norm = 0.0
        self._forward_hook = kwargs["model"].register_forward_hook(self._on_forward, with_kwargs=True)

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Prepare the gradients of the step."""
        if self.controller is not None:
            self.controller.before_step()

    def on_substep_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Record the batch. Stop if the policy requires it, and evaluate if it requires a new anchor."""
        self._is_decided = False
        ctx = None if self.controller is None else self.controller.end_batch()
        if self.controller is not None and ctx is not None:
            control.should_training_stop |= self.controller.stop_reason is not None
            control.should_evaluate |= ctx.consolidating and args.eval_strategy != "no"
        return control

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Do the same after the last micro-batch of a step."""
        return self.on_substep_end(args, state, control, **kwargs)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Pass the validation loss to memory and anchor."""
        val_loss = kwargs.get("metrics", {}).get("eval_loss")
        if self.controller is not None and val_loss is not None:
            self.controller.evaluate(float(val_loss))

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Remove the hook and end the run."""
        if self.controller is not None:
            args.max_grad_norm = self._max_grad_norm
            self._forward_hook.remove()
            self.controller.close()
            self.controller = None

    def _on_forward(self, model: nn.Module, _: Any, kwargs: Mapping[str, Any], out: Any) -> Any:
        """Return the model's output. If the chain skips the batch, its loss has no graph."""
        if self.controller is None or self._is_decided or not model.training or not torch.is_grad_enabled():
            return out
        loss = out.get("loss") if isinstance(out, Mapping) else out[0]
        if not isinstance(loss, torch.Tensor) or loss.dim():
            raise BadInputError(
                "the model returned no loss; label smoothing and compute_loss_func are not supported, "
                "because they compute the loss outside of the model"
            )
        self._is_decided = True
        self.controller.micro_steps = self._micro_steps
        if self.controller.start_batch(_mean_loss(model, loss, kwargs), self._max_grad_norm or math.inf):
            return out
        skipped = detach_loss(loss)
        if isinstance(out, Mapping):
            out["loss"] = skipped  # type: ignore[index]
            return out
        return (skipped, *out[1:])


def _mean_loss(model: nn.Module, loss: torch.Tensor, kwargs: Mapping[str, Any]) -> float:
    """Return the loss per predicted token of this micro-batch.

    The model divides by the Trainer's count of tokens in the whole step.
    """
    step_tokens, labels = kwargs.get("num_items_in_batch"), kwargs.get("labels")
    value = float(loss.detach())
    if step_tokens is None or labels is None:
        return value
    # A causal loss has no target for the first token.
    is_causal = getattr(getattr(model, "loss_function", None), "__name__", "") == "ForCausalLMLoss"
    targets = labels[..., 1:] if is_causal else labels
    batch_tokens = int((targets != IGNORE_INDEX).sum())
    return value * float(step_tokens) / max(batch_tokens, 1)
