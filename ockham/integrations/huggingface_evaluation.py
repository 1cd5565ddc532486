"""Evaluations of a Hugging Face Trainer by name: which loss the plugins receive, which ones are recorded."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from ockham.errors import BadInputError

PREFIX = "eval_"
DEFAULT_METRIC = "eval_loss"


def metric_name(trainer: Any, requested: str | None) -> str:
    """Return the name of the validation loss that the plugins receive.

    Args:
        trainer: The Trainer.
        requested: Name from the user, with or without `eval_`. None takes the Trainer's
            `metric_for_best_model` if it is a loss, else `eval_loss`.

    """
    best = trainer.args.metric_for_best_model
    is_loss = isinstance(best, str) and (best == "loss" or best.endswith("_loss"))
    name = requested or (best if is_loss else DEFAULT_METRIC)
    return str(name if name.startswith(PREFIX) else f"{PREFIX}{name}")


class NamedEvaluations:
    """Sorts the metrics of each evaluation into the main loss, for the plugins, and other losses.

    Args:
        trainer: The Trainer.
        requested: Name of the main loss from the user, or None.

    """

    def __init__(self, trainer: Any, requested: str | None) -> None:
        self.trainer = trainer
        self.metric = metric_name(trainer, requested)
        self._is_found = False
        self._reported: set[str] = set()
        self._pending: float | None = None

    def add(self, metrics: Mapping[str, Any], step: int) -> None:
        """Add the metrics of one dataset.

        Args:
            metrics: Metrics as the Trainer reports them.
            step: Number of optimizer steps so far, for the message.

        Raises:
            BadInputError: If no dataset has the main loss.

        """
        self._reported.update(name for name in metrics if name.endswith("loss"))
        if self.metric in metrics:
            self._is_found = True
            self._pending = float(metrics[self.metric])
        is_own = any(name.startswith(PREFIX) for name in metrics)
        if not self._is_found and is_own and self.metric not in self._expected_losses():
            raise self._missing(step, metrics)

    @property
    def is_complete(self) -> bool:
        """Whether all datasets of the Trainer have reported since the last main loss."""
        return self._expected_losses() <= self._reported

    def take(self) -> float | None:
        """Return the main loss of the present evaluation. None if it was taken or is missing."""
        val_loss, self._pending = self._pending, None
        self._reported = set()
        return val_loss

    def dataset(self, step: int) -> str | None:
        """Return the name of the dataset on which the main loss is measured. None if there is only one.

        Args:
            step: Number of optimizer steps so far, for the message.

        Raises:
            BadInputError: If no dataset has the main loss.

        """
        sets = self.trainer.eval_dataset
        if not isinstance(sets, dict):
            return None
        for name in sets:
            if self.metric.startswith(f"{PREFIX}{name}_"):
                return str(name)
        raise self._missing(step, ())

    def _missing(self, step: int, metrics: Iterable[str]) -> BadInputError:
        accepted = sorted({*self._reported, *self._expected_losses()} or metrics)
        return BadInputError(
            f"evaluation after step {step}: the metric {self.metric!r} does not exist; "
            f"set OckhamCallback(metric=...) to one of {', '.join(accepted)}"
        )

    def _expected_losses(self) -> set[str]:
        """Return the names of the losses that the Trainer's own datasets will report."""
        sets = self.trainer.eval_dataset
        return {f"{PREFIX}{name}_loss" for name in sets} if isinstance(sets, dict) else set()


def other_losses(metrics: Mapping[str, Any], main: str) -> dict[str, float]:
    """Return all losses but the main one, by a name that `ctx.custom` accepts."""
    return {
        re.sub(r"[^A-Za-z0-9_.]", "_", name)[:64]: float(value)
        for name, value in metrics.items()
        if name.endswith("loss") and name != main and isinstance(value, (int, float))
    }


def evaluate_apart(trainer: Any, evaluations: NamedEvaluations) -> float | None:
    """Measure the main loss. The Trainer's callbacks, state and random numbers stay as they are.

    An additional evaluation must not count for early stopping or for the best model. Return None if the
    metric cannot be measured in this way.
    """
    name = evaluations.dataset(trainer.state.global_step)
    prefix = PREFIX.rstrip("_") if name is None else f"{PREFIX}{name}"
    is_training = trainer.model.training
    with _unnoticed(trainer):
        output = trainer.evaluation_loop(
            trainer.get_eval_dataloader(name),
            description="Evaluation",
            prediction_loss_only=True if trainer.compute_metrics is None else None,
            metric_key_prefix=prefix,
        )
    trainer.model.train(is_training)
    value = output.metrics.get(evaluations.metric)
    return None if value is None else float(value)


@contextmanager
def _unnoticed(trainer: Any) -> Iterator[None]:
    """Context manager that keeps callbacks, metrics and random numbers of a Trainer as they are."""
    handler = trainer.callback_handler
    callbacks, loader = handler.callbacks, handler.eval_dataloader
    # TRL averages the metrics of all evaluations since the last log.
    logged = getattr(trainer, "_metrics", None)
    averages = {name: list(values) for name, values in logged["eval"].items()} if logged else None
    handler.callbacks = []
    try:
        with torch.random.fork_rng():
            yield
    finally:
        handler.callbacks, handler.eval_dataloader = callbacks, loader
        if logged is not None and averages is not None:
            logged["eval"].clear()
            logged["eval"].update(averages)
