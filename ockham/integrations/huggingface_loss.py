"""Loss of one micro-batch, as a Hugging Face Trainer is about to differentiate it.

A Trainer divides the loss of a micro-batch by the number of predicted tokens in the whole step, if the model
or the loss function takes that number. Some models take it and ignore it. So the number is passed as a tensor
that requires a gradient: the derivative of the loss shows which part of the loss was divided by it. That part
is divided by the tokens of this micro-batch instead. The result is the loss that the Trainer would compute if
the step had only this micro-batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch.overrides import TorchFunctionMode

from ockham.errors import BadInputError
from ockham.nano.anchor import to_float64

# Label that Hugging Face excludes from the loss.
IGNORE_INDEX = -100
_CONVERSIONS = frozenset(
    {
        torch.Tensor.item,
        torch.Tensor.tolist,
        torch.Tensor.numpy,
        torch.Tensor.__int__,
        torch.Tensor.__float__,
        torch.Tensor.__index__,
    }
)


class ItemCount(NamedTuple):
    """Number of predicted tokens in the step, which requires a gradient, and in this micro-batch."""

    step: torch.Tensor
    micro_batch: torch.Tensor


class ConversionWatch(TorchFunctionMode):
    """Notices that code reads the number of tokens as a Python number. Its derivative is then unknown.

    Args:
        tensor: The number of tokens.

    """

    def __init__(self, tensor: torch.Tensor) -> None:
        super().__init__()
        self.tensor = tensor
        self.is_converted = False

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Call the function. Note whether it converts the number of tokens."""
        if func in _CONVERSIONS and args and args[0] is self.tensor:
            self.is_converted = True
            return func(self.tensor.detach(), *args[1:], **(kwargs or {}))
        return func(*args, **(kwargs or {}))


class LossScale:
    """What the `compute_loss` of one Trainer does to the loss of a micro-batch.

    Args:
        trainer: The Trainer.

    """

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer
        self.is_compiled = bool(trainer.args.torch_compile) or hasattr(trainer.model, "_orig_mod")
        # Whether the loss function reads the number of tokens as a Python number. Known after one batch.
        self._is_converted: bool | None = None
        # Whether the loss does not depend on the number of tokens, as for T5.
        self._ignores_items = False

    def count_items(self, inputs: Mapping[str, Any], step_items: Any) -> ItemCount | None:
        """Return the numbers of predicted tokens. None if the Trainer does not divide by them.

        Call it before `compute_loss`, which may remove the labels from the inputs.
        """
        labels = inputs.get("shift_labels", inputs.get("labels"))
        if step_items is None or not isinstance(labels, torch.Tensor):
            return None
        if "shift_labels" not in inputs and self._shifts_labels():
            labels = labels[..., 1:]
        step = torch.as_tensor(step_items, device=labels.device).detach().float()
        return ItemCount(step.requires_grad_(not self.is_compiled), (labels != IGNORE_INDEX).sum())

    @contextmanager
    def watch(self, items: ItemCount | None) -> Iterator[None]:
        """Context manager that watches the loss of the first batch. Later batches behave like the first."""
        if items is None or self.is_compiled or self._is_converted is not None:
            yield
            return
        with ConversionWatch(items.step) as conversions:
            yield
        self._is_converted = conversions.is_converted

    def micro_batch_loss(self, loss: Any, items: ItemCount | None) -> float:
        """Return the loss of this micro-batch only, a Python float. Waits for the device once.

        Raises:
            BadInputError: If the loss is not one number, or if it cannot be separated from the factor of
                several processes.

        """
        if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
            raise BadInputError(
                f"compute_loss of {type(self.trainer).__name__} returned {type(loss).__name__}; "
                "OckhamCallback takes one loss, a tensor with one element"
            )
        is_scaled = getattr(self.trainer, "loss_is_scaled_for_ga", None)
        if is_scaled and items is None:
            return float(loss.detach()) * float(self.trainer.current_gradient_accumulation_steps)
        if is_scaled is False or items is None:
            return float(loss.detach())
        scaled = self._scaled_part(loss, items)
        values = [loss.detach().reshape(()), *(tensor.detach() for tensor in items)]
        if scaled is not loss:
            values.append(scaled)
        value, step_items, own_items, *rest = _read(values)
        scaled_value = rest[0] if rest else value
        if self._processes() > 1 and not math.isclose(value, scaled_value, rel_tol=1e-4):
            # The Trainer multiplies such a loss by the number of processes, a subclass perhaps only a part.
            raise BadInputError(
                f"{type(self.trainer).__name__}: a part of the loss is not divided by the tokens; "
                "with several processes set average_tokens_across_devices=False"
            )
        return value - scaled_value + scaled_value / self._processes() * step_items / max(own_items, 1.0)

    def _scaled_part(self, loss: torch.Tensor, items: ItemCount) -> torch.Tensor:
        """Return the part of the loss that was divided by the number of tokens in the step.

        Loss = rest + sum / step_items, so the derivative by step_items is -sum / step_items^2.
        """
        trainer = self.trainer
        nothing = torch.zeros_like(items.step)
        if self.is_compiled or self._is_converted:
            takes_items = trainer.model_accepts_loss_kwargs or trainer.compute_loss_func is not None
            return loss if takes_items else nothing
        if self._ignores_items or not loss.requires_grad:
            return nothing
        if _is_quotient(loss.grad_fn, items.step):
            return loss
        slopes = torch.autograd.grad(loss, [items.step], retain_graph=True, allow_unused=True)
        slope: torch.Tensor | None = slopes[0]
        if slope is None:
            self._ignores_items = True
            return nothing
        return -slope * items.step.detach()

    def _shifts_labels(self) -> bool:
        """Return True if the first label of each row is not predicted."""
        trainer = self.trainer
        if getattr(trainer, "_loss_shifts_labels", False):
            return True
        model = trainer.model
        if getattr(model.config, "is_encoder_decoder", False):
            return False
        # transformers 5.24 counts one token too many per row for models whose class names no loss function.
        return getattr(getattr(model, "loss_function", None), "__name__", "") == "ForCausalLMLoss"

    def _processes(self) -> int:
        """Return the factor by which the Trainer multiplies a loss that is averaged over processes."""
        trainer = self.trainer
        if not getattr(trainer.args, "average_tokens_across_devices", False):
            return 1
        tensor_parallel = getattr(trainer, "get_tp_size", lambda: 1)()
        return int(max(1, trainer.accelerator.num_processes // tensor_parallel))


def _is_quotient(node: Any, divisor: torch.Tensor) -> bool:
    """Return True if the whole loss is a quotient by the number of tokens, times constants."""
    while node is not None and node.name() == "MulBackward0" and node.next_functions[1][0] is None:
        node = node.next_functions[0][0]
    if node is None or node.name() != "DivBackward0":
        return False
    node = node.next_functions[1][0]
    # The lower bound of 1 in TRL.
    while node is not None and node.name().startswith("ClampBackward"):
        node = node.next_functions[0][0]
    return getattr(node, "variable", None) is divisor


def _read(values: list[torch.Tensor]) -> list[float]:
    """Return the values as Python floats. Waits for a GPU once."""
    if all(value.device.type == "cpu" for value in values):
        return [value.item() for value in values]
    read: list[float] = torch.stack([to_float64(value.to(values[0].device)) for value in values]).tolist()
    return read


def replace_loss(result: Any, loss: torch.Tensor) -> Any:
    """Return the result of `compute_loss` with another loss. It is a loss, or a tuple that begins with it."""
    return (loss, *result[1:]) if isinstance(result, tuple) else loss
