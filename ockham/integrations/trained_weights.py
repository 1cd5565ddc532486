"""The weights that a training changes: parameters that require a gradient, and the adapter of PEFT."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from ockham.nano.checkpoint_io import MODEL, serialize_model
from ockham.record.checkpoints import CheckpointFiles

ADAPTER = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"


class TrainedWeights(nn.Module):
    """The parameters of a model that require a gradient, under their names in the model.

    A frozen base, also one of integers, is not copied, compared or saved.

    Args:
        model: The model. It is not registered as a submodule.

    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]

    def named_parameters(self, *_: Any, **__: Any) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield name and parameter of each trained tensor."""
        yield from self._named

    @property
    def has_matrix(self) -> bool:
        """Whether drift can be measured: it is defined over matrices of floating-point numbers."""
        return any(parameter.dim() >= 2 for _, parameter in self._named)


def make_checkpoint_files(
    model: nn.Module, weights: TrainedWeights, metadata: Mapping[str, Any]
) -> CheckpointFiles:
    """Return the trained weights, and for a PEFT model also the adapter as PEFT loads it."""
    data, digest = serialize_model(weights, metadata)
    return CheckpointFiles({MODEL: data, **_adapter_files(model)}, digest)


def _adapter_files(model: nn.Module) -> dict[str, bytes]:
    """Return the files of the active adapter. None for a model without one."""
    if not hasattr(model, "peft_config"):
        return {}
    from peft import get_peft_model_state_dict

    # torch types every attribute of a module as a tensor or a module.
    adapter: Any = model
    name = adapter.active_adapter
    state = get_peft_model_state_dict(adapter, adapter_name=name)
    tensors = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    config = {key: _to_json(value) for key, value in adapter.peft_config[name].to_dict().items()}
    return {
        ADAPTER: save(tensors, metadata={"format": "pt"}),
        ADAPTER_CONFIG: json.dumps({**config, "inference_mode": True}, indent=2).encode(),
    }


def _to_json(value: Any) -> Any:
    """Return a configuration value as JSON. PEFT stores target modules as a set and kinds as enumerations."""
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, torch.dtype):
        return str(value)
    return getattr(value, "value", value)
