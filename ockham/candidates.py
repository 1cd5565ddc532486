"""Accepted candidates: their Pareto frontier over loss, FLOPs, MB and drift, and their weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class OccamMetrics:
    """Metrics of a candidate: loss in nats/token, relative drift, OQ and the inputs of the OQ."""

    loss: float
    complexity_cost: float
    occam_quotient: float
    flops: float
    megabytes: float
    spec: str


@dataclass(frozen=True)
class ModelSnapshot:
    """An accepted candidate: its metrics and the path of its weights, None until they are saved."""

    snapshot_id: str
    iter_num: int
    metrics: OccamMetrics
    path: str | None = None


def pareto_frontier(snapshots: list[ModelSnapshot]) -> list[ModelSnapshot]:
    """Return the snapshots that no other one equals or beats in loss, FLOPs, MB and drift together.

    Of equal snapshots the first one is returned.
    """
    frontier: list[ModelSnapshot] = []
    for index, snapshot in enumerate(snapshots):
        others = [*snapshots[:index], *snapshots[index + 1 :]]
        dominated = any(_dominates(other, snapshot) for other in others)
        duplicate = any(_axes(other) == _axes(snapshot) for other in snapshots[:index])
        if not dominated and not duplicate:
            frontier.append(snapshot)
    return frontier


def _axes(snapshot: ModelSnapshot) -> tuple[float, ...]:
    m = snapshot.metrics
    return m.loss, m.flops, m.megabytes, m.complexity_cost


def _dominates(snapshot: ModelSnapshot, other: ModelSnapshot) -> bool:
    pairs = list(zip(_axes(snapshot), _axes(other), strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def snapshot_from_dict(item: Mapping[str, Any]) -> ModelSnapshot:
    """Return the inverse of `snapshot_to_dict`."""
    return ModelSnapshot(item["snapshot_id"], item["iter_num"], OccamMetrics(**item["metrics"]))


def snapshot_to_dict(snapshot: ModelSnapshot) -> dict[str, Any]:
    """Return the snapshot as a dictionary without its path, because a replay has no files."""
    state = asdict(snapshot)
    del state["path"]
    return state


def save_weights(model: Any, path: Path) -> str:
    """Write weights as safetensors without importing torch. Tensors on any device become numpy arrays."""
    from safetensors.numpy import save

    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {name: _array(tensor) for name, tensor in model.state_dict().items()}
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(save(arrays))
    temporary.rename(path)
    return str(path)


def _array(tensor: Any) -> Any:
    return tensor.detach().cpu().contiguous().numpy() if hasattr(tensor, "detach") else tensor
