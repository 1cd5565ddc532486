"""Accepted candidates: their Pareto frontier over loss, FLOPs, MB and drift, and their weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class OccamMetrics:
    """What a candidate was judged by: nats/token, relative drift, OQ and what the OQ was made of."""

    loss: float
    complexity_cost: float
    occam_quotient: float
    flops: float
    megabytes: float
    spec: str


@dataclass(frozen=True)
class ModelSnapshot:
    """An accepted candidate: its metrics, and where its weights lie once they are saved."""

    snapshot_id: str
    iter_num: int
    metrics: OccamMetrics
    path: str | None = None


def pareto_frontier(snapshots: list[ModelSnapshot]) -> list[ModelSnapshot]:
    """Those that no other one beats or equals in loss, FLOPs, MB and drift at once; of equals the first."""
    kept: list[ModelSnapshot] = []
    for at, one in enumerate(snapshots):
        others = [*snapshots[:at], *snapshots[at + 1 :]]
        beaten = any(_dominates(other, one) for other in others)
        equal_before = any(_axes(other) == _axes(one) for other in snapshots[:at])
        if not beaten and not equal_before:
            kept.append(one)
    return kept


def _axes(snapshot: ModelSnapshot) -> tuple[float, ...]:
    m = snapshot.metrics
    return m.loss, m.flops, m.megabytes, m.complexity_cost


def _dominates(one: ModelSnapshot, other: ModelSnapshot) -> bool:
    pairs = list(zip(_axes(one), _axes(other), strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def snapshot_from_dict(item: Mapping[str, Any]) -> ModelSnapshot:
    """The inverse of `snapshot_to_dict`."""
    return ModelSnapshot(item["snapshot_id"], item["iter_num"], OccamMetrics(**item["metrics"]))


def snapshot_to_dict(snapshot: ModelSnapshot) -> dict[str, Any]:
    """Without the path: where a file lies decides nothing, and a replay has no files."""
    state = asdict(snapshot)
    del state["path"]
    return state


def save_weights(model: Any, path: Path) -> str:
    """Write weights as safetensors without importing torch: a tensor on any device becomes a numpy array."""
    from safetensors.numpy import save

    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {name: _array(tensor) for name, tensor in model.state_dict().items()}
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(save(arrays))
    temporary.rename(path)
    return str(path)


def _array(tensor: Any) -> Any:
    return tensor.detach().cpu().contiguous().numpy() if hasattr(tensor, "detach") else tensor
