"""The log as replay reads it: key frames, and steps (what one hook was given, and what was decided)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from ockham.chain import PluginChain
from ockham.context import GAUGES, KNOBS, TABLE, OccamContext
from ockham.errors import CannotJudgeError
from ockham.event import Value, kind_of, restored
from ockham.record.folder import RunFolder

STARTS = ("START", "INTERVAL", "RESUME")  # key frames that stand before a batch: a replay may begin there


@dataclass(slots=True)
class Frame:
    """A key frame: the plugins' state, or its digest alone where the state is not needed."""

    sequence: int
    iter_num: int
    trigger: str
    state_sha256: str
    state: dict[str, Any] | None


@dataclass(slots=True)
class Step:
    """One `context.recorded` with the decisions that belong to it, in order."""

    sequence: int
    iter_num: int
    micro_step: int
    hook: str
    data: Mapping[str, Any]
    decisions: list[dict[str, Any]] = field(default_factory=list)


def read(folder: RunFolder, lines: Iterable[bytes]) -> Iterator[Frame | Step]:
    """Frames and steps of one log, in order; decisions that no context follows (a crash) are left out.

    Raises:
        CannotJudgeError: if a line can't be read.

    """
    pending: list[dict[str, Any]] = []
    for line in lines:
        try:
            event = orjson.loads(line)
            kind, data = kind_of(event["type"]), event["data"]
            if kind == "decision.made":
                pending.append(data)
            elif kind == "context.recorded":
                yield Step(
                    data["sequence"], data["iter_num"], data["micro_step"], data["hook"], data, pending
                )
                pending = []
            elif kind == "plugin_state.recorded":
                yield _frame(folder, data)
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise CannotJudgeError(
                f"{folder.path}: a line that is no event of ours: {line[:80]!r} ({error})"
            ) from None


def context_of(step: Step) -> OccamContext:
    """The context exactly as the first hook of the step was given it."""
    given: dict[str, Any] = {k: _value(k, value) for k, value in step.data["given"].items() if k != "custom"}
    return OccamContext(custom=restored(step.data["given"].get("custom", {})), **given)


def run_hooks(chain: PluginChain, step: Step, ctx: OccamContext, shadow: Mapping[str, Value]) -> OccamContext:
    """Run the hooks of a step; `shadow` is what the batch before it left for plugins in shadow."""
    if step.hook == "batch":
        chain.on_batch_start(ctx)
        measure(ctx, step)
        return chain.on_batch_end(ctx)
    object.__setattr__(ctx, "shadow_knobs", dict(shadow))
    return chain.on_evaluate(ctx) if step.hook == "on_evaluate" else chain.on_consolidate(ctx)


def measure(ctx: OccamContext, step: Step) -> None:
    """Set the gauges as `on_batch_end` was given them."""
    measured = step.data["measured"]
    ctx.measure(**{name: _value(name, value) for name, value in measured.items() if name in GAUGES})
    if "custom" in measured:
        ctx.custom.clear()
        ctx.custom.update(restored(measured["custom"]))


def left_of(step: Step) -> dict[str, Value]:
    """All knobs as the record says that the chain left them."""
    given, left = step.data["given"], step.data["left"]
    return {name: _value(name, left.get(name, given.get(name, TABLE[name].default))) for name in KNOBS}


def _frame(folder: RunFolder, data: Mapping[str, Any]) -> Frame:
    state = data["state"]
    if state is None:
        state = orjson.loads(folder.blob(data["state_sha256"]).read_bytes())
    return Frame(data["sequence"], data["iter_num"], data["trigger"], data["state_sha256"], state)


def _value(name: str, value: Any) -> Value:
    kind = TABLE[name].kind
    if kind == "floats":
        return tuple(float(restored(item)) for item in value)
    if kind == "float" and value is not None:
        return float(restored(value))
    return value  # type: ignore[no-any-return]  # int, bool, str or None, checked by OccamContext
