"""Facts, settings and data of a training, read from the Hugging Face Trainer that runs it."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from types import FrameType
from typing import Any

import torch
from transformers import TrainerCallback

from ockham.nano.data import digest_window

# Frames between a callback and the Trainer's method that calls it.
MAX_FRAMES = 12
# Objectives of reinforcement learning. Their value near zero is not the surprise of a batch.
POLICY_GRADIENT_TRAINERS = frozenset({"GRPOTrainer", "RLOOTrainer", "PPOTrainer"})


def find_trainer(callback: TrainerCallback) -> Any:
    """Return the Trainer that is calling a callback. None if it is not in the call stack.

    A Trainer does not pass itself to its callbacks.
    """
    frame: FrameType | None = sys._getframe(1)
    for _ in range(MAX_FRAMES):
        if frame is None:
            return None
        caller = frame.f_locals.get("self")
        handler = getattr(caller, "callback_handler", None)
        if handler is not None and any(known is callback for known in handler.callbacks):
            return caller
        frame = frame.f_back
    return None


def read_facts(trainer: Any, max_steps: int) -> dict[str, Any]:
    """Return the facts of a run that a Trainer knows.

    Args:
        trainer: The Trainer.
        max_steps: Planned number of optimizer steps.

    """
    args, model = trainer.args, trainer.model
    return {
        "max_iters": int(max_steps),
        "warmup_iters": int(args.get_warmup_steps(max_steps)),
        "seed": int(args.seed),
        "vocab_size": _vocab_size(model),
        "model_params": sum(parameter.numel() for parameter in model.parameters()),
    }


def digest_inputs(inputs: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the digest of the tokens of a micro-batch, for `Run.start_batch`. None without `input_ids`."""
    tokens = inputs.get("input_ids")
    return {"digest": digest_window(tokens.cpu())} if isinstance(tokens, torch.Tensor) else None


def read_settings(args: Any) -> dict[str, Any]:
    """Return the TrainingArguments as JSON values, without credentials."""
    return {
        name: value
        for name, value in sorted(args.to_dict().items())
        if not name.endswith("_token") and _is_json(value)
    }


def read_data(dataset: Any) -> dict[str, Any]:
    """Return class, size and fingerprint of the training data, as far as the dataset has them."""
    data: dict[str, Any] = {"name": type(dataset).__name__}
    if hasattr(dataset, "__len__"):
        data["rows"] = len(dataset)
    # A fingerprint of `datasets` depends on the content and on every transformation.
    fingerprint = getattr(dataset, "_fingerprint", None)
    if isinstance(fingerprint, str):
        data["fingerprint"] = fingerprint
    return data


def is_policy_gradient(trainer: Any) -> bool:
    """Return True if the Trainer maximises a reward. Its loss does not measure how new a batch is."""
    return any(kind.__name__ in POLICY_GRADIENT_TRAINERS for kind in type(trainer).__mro__)


def _vocab_size(model: Any) -> int:
    config = getattr(model, "config", None)
    text_config = getattr(config, "get_text_config", lambda: config)()
    size = getattr(text_config, "vocab_size", None)
    return size if isinstance(size, int) else 0


def _is_json(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, (list, tuple)):
        return all(_is_json(item) for item in value)
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_json(item) for key, item in value.items())
    return value is None or isinstance(value, (str, int, bool))
