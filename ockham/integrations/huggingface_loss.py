"""Loss of one micro-batch, as a Hugging Face Trainer is about to differentiate it.

A Trainer divides the loss of a micro-batch by the number of predicted tokens in the whole step, if the model
or the loss function takes that number. Some models take it and ignore it. So the number is passed as a tensor
that requires a gradient: the derivative of the loss shows which part of the loss was divided by it. That part
is divided by the tokens of this micro-batch instead. The result is the loss that the Trainer would compute if
the step had only this micro-batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch.overrides import TorchFunctionMode

from ockham.errors import BadInputError
from ockham.nano.anchor import to_float64

# Label that Hugging Face excludes from the loss.
IGNORE_INDEX = -100
_NO_WATCH: AbstractContextManager[None] = nullcontext()
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
# As in `loss *= processes` of the Trainer and `loss = loss * processes` of TRL.
_PRODUCTS = frozenset({torch.Tensor.mul, torch.Tensor.__mul__, torch.Tensor.mul_, torch.Tensor.__imul__})


class ItemCount(NamedTuple):
    """Numbers of predicted tokens.

    Attributes:
        step: Number in the step. It requires a gradient, unless this micro-batch is the whole step.
        micro_batch: Number in this micro-batch.
        is_whole_step: Both are known on the host, and equal. The loss is then that of this micro-batch,
            whichever part of it was divided by the number.

    """

    step: Any
    micro_batch: torch.Tensor
    is_whole_step: bool = False


class LossWatch(TorchFunctionMode):
    """Watches how a loss is computed.

    Args:
        tensor: The number of tokens.
        processes: Number of processes by which the loss may be multiplied.

    Attributes:
        is_converted: Whether code read the number of tokens as a Python number. Its derivative is unknown.
        multiplied: The last number that was multiplied by the number of processes. None without one.

    """

    def __init__(self, tensor: torch.Tensor, processes: int) -> None:
        super().__init__()
        self.tensor = tensor
        self.processes = processes
        self.is_converted = False
        self.multiplied: torch.Tensor | None = None

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Call the function. Note a conversion of the number of tokens, and a product with the processes."""
        if func in _CONVERSIONS and args and args[0] is self.tensor:
            self.is_converted = True
            return func(self.tensor.detach(), *args[1:], **(kwargs or {}))
        result = func(*args, **(kwargs or {}))
        if self.processes > 1 and func in _PRODUCTS and isinstance(result, torch.Tensor) and not result.dim():
            factor = args[1]
            if type(factor) is int and factor == self.processes:
                self.multiplied = result
        return result


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
        is_multiplied = self._takes_items and getattr(trainer, "loss_is_scaled_for_ga", None) is not False
        # Factors of the part that is divided by the tokens of the step, and of the rest. The first batch
        # shows them, unless the model is compiled.
        self._factor = self._rest_factor = self._processes() if is_multiplied else 1
        self._first_watch: LossWatch | None = None
        self._is_alone = self._processes() == 1
        # Whether the first label of each row is not predicted. Known after the first batch.
        self._is_shifted: bool | None = None

    def count_items(self, inputs: Mapping[str, Any], step_items: Any) -> ItemCount | None:
        """Return the numbers of predicted tokens. None if the Trainer does not divide by them.

        Call it before `compute_loss`, which may remove the labels from the inputs.
        """
        predicted = self.count_predicted(inputs)
        if step_items is None or predicted is None:
            return None
        if self._is_alone and predicted.device.type == "cpu" and _is_on_host(step_items):
            number = predicted.item()
            if number > 0 and number == float(step_items):
                return ItemCount(step_items, predicted, is_whole_step=True)
        step = torch.as_tensor(step_items, dtype=torch.float32, device=predicted.device).detach()
        return ItemCount(step.requires_grad_(not self.is_compiled), predicted)

    def count_predicted(self, inputs: Mapping[str, Any]) -> torch.Tensor | None:
        """Return the number of predicted tokens of a micro-batch. None if the inputs have no labels."""
        labels = inputs.get("shift_labels", inputs.get("labels"))
        if not isinstance(labels, torch.Tensor):
            return None
        if self._is_shifted is None:
            self._is_shifted = self._shifts_labels()
        if "shift_labels" not in inputs and self._is_shifted:
            labels = labels[..., 1:]
        return (labels != IGNORE_INDEX).sum()

    def watch(self, items: ItemCount | None) -> AbstractContextManager[None]:
        """Context manager that watches the loss of the first batch. Later batches behave like the first."""
        is_known = self.is_compiled or self._is_converted is not None
        if items is None or items.is_whole_step or is_known:
            return _NO_WATCH
        return self._watch(items.step)

    @contextmanager
    def _watch(self, step: torch.Tensor) -> Iterator[None]:
        with LossWatch(step, self._processes()) as watch:
            yield
        self._is_converted = watch.is_converted
        self._first_watch = watch

    def micro_batch_loss(self, loss: Any, items: ItemCount | None) -> float:
        """Return the loss of this micro-batch only, a Python float. Waits for the device once.

        Raises:
            BadInputError: If the loss is not one number.

        """
        if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
            raise BadInputError(
                f"compute_loss of {type(self.trainer).__name__} returned {type(loss).__name__}; "
                "OckhamCallback takes one loss, a tensor with one element"
            )
        if items is not None and items.is_whole_step:
            return float(loss.detach())
        self._find_factors(loss)
        is_scaled = getattr(self.trainer, "loss_is_scaled_for_ga", None)
        if is_scaled and items is None:
            return float(loss.detach()) * float(self.trainer.current_gradient_accumulation_steps)
        if items is None:
            return float(loss.detach())
        if is_scaled is False:
            return float(loss.detach()) / self._rest_factor
        scaled = self._scaled_part(loss, items)
        values = [loss, items.step, items.micro_batch]
        if scaled is not loss:
            values.append(scaled)
        value, step_items, own_items, *scaled_values = _read(values)
        scaled_value = scaled_values[0] if scaled_values else value
        rest = (value - scaled_value) / self._rest_factor
        return rest + scaled_value / self._factor * step_items / max(own_items, 1.0)

    def _find_factors(self, loss: torch.Tensor) -> None:
        """Read from the first batch which part of the loss was multiplied by the number of processes."""
        watch, self._first_watch = self._first_watch, None
        if watch is None:
            return
        self._factor = 1 if watch.multiplied is None else watch.processes
        self._rest_factor = self._factor if watch.multiplied is loss else 1

    def _scaled_part(self, loss: torch.Tensor, items: ItemCount) -> torch.Tensor:
        """Return the part of the loss that was divided by the number of tokens in the step.

        Loss = rest + sum / step_items, so the derivative by step_items is -sum / step_items^2.
        """
        if self.is_compiled or self._is_converted:
            return loss if self._takes_items else torch.zeros_like(items.step)
        if self._ignores_items or not loss.requires_grad:
            return torch.zeros_like(items.step)
        if _is_quotient(loss.grad_fn, items.step):
            return loss
        slopes = torch.autograd.grad(loss, [items.step], retain_graph=True, allow_unused=True)
        slope: torch.Tensor | None = slopes[0]
        if slope is None:
            self._ignores_items = True
            return torch.zeros_like(items.step)
        scaled: torch.Tensor = -slope * items.step.detach()
        return scaled

    @property
    def _takes_items(self) -> bool:
        """Whether the Trainer passes the number of tokens to the model or the loss function."""
        return bool(self.trainer.model_accepts_loss_kwargs or self.trainer.compute_loss_func is not None)

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


def _is_on_host(number: Any) -> bool:
    return number.device.type == "cpu" if isinstance(number, torch.Tensor) else isinstance(number, int)


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
    device = values[0].device
    scalars = [to_float64(value.detach().reshape(()).to(device)) for value in values]
    read: list[float] = torch.stack(scalars).tolist()
    return read


def replace_loss(result: Any, loss: torch.Tensor) -> Any:
    """Return the result of `compute_loss` with another loss. It is a loss, or a tuple that begins with it."""
    return (loss, *result[1:]) if isinstance(result, tuple) else loss
