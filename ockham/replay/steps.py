"""The log as replay reads it: key frames, and steps (what one hook was given, and what was decided)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ockham.chain import PluginChain
from ockham.context import GAUGES, KNOBS, TABLE, OccamContext
from ockham.errors import CannotJudgeError
from ockham.event import NONFINITE, Value, kind_of, restored
from ockham.fields import EXACT
from ockham.record.folder import RunFolder, read_file
from ockham.record.lines import json_of

_GAUGES = frozenset(GAUGES)
_OBJECTS = ("given", "measured", "left", "seconds")
STARTS = ("START", "INTERVAL", "RESUME")  # key frames that stand before a batch: a replay may begin there


@dataclass(slots=True)
class Frame:
    """A key frame: the state of every plugin, in lossless JSON."""

    sequence: int
    iter_num: int
    trigger: str
    state_sha256: str
    state: dict[str, Any]


class Recorded:
    """A recorded decision: its sequence, and `judged`, the bytes that say what was decided.

    Nearly every replayed decision has these very bytes; only the others are parsed. A line that the writer did not
    write so (another order of keys, something in `ext`) has no `judged` and is compared value by value.
    """

    __slots__ = ("_data", "judged", "line", "sequence")

    def __init__(self, line: bytes, sequence: int, judged: bytes, data: dict[str, Any] | None) -> None:
        self.line, self.sequence, self.judged, self._data = line, sequence, judged, data

    @property
    def data(self) -> dict[str, Any]:
        """The event's `data`.

        Raises CannotJudgeError where the line is no JSON.
        """
        if self._data is None:
            try:
                self._data = json_of(self.line)["data"]
            except (ValueError, KeyError, TypeError) as error:
                raise CannotJudgeError(
                    f"a decision that cannot be replayed: {self.line[:80]!r} ({error})"
                ) from None
        return self._data


# All that stands before what was decided, as the writer writes it: a line that fits holds nothing else before it.
_FRONT = re.compile(
    rb'\{"specversion":"1\.0","id":"[0-9a-f-]{36}","source":"ockham://runs/[a-z0-9._-]{1,64}",'
    rb'"type":"ockham\.decision\.made\.v1","subject":"[^"\\]*","time":"[^"\\]*",'
    rb'"dataschema":"urn:ockham:decision\.made\.v1","data":\{"sequence":(\d+),"attempt":\d+,"rank":\d+,'
)


@dataclass(slots=True)
class Step:
    """One `context.recorded` with the decisions that belong to it, in order.

    `orphans` are decisions that stand before it and belong to a batch whose context was never recorded; `trigger`
    says why there was an evaluation (`SCHEDULE`, `CONSOLIDATION`, `USER`), and is empty elsewhere.
    """

    sequence: int
    iter_num: int
    hook: str
    data: Mapping[str, Any]
    decisions: list[Recorded]
    orphans: list[Recorded] = field(default_factory=list)
    trigger: str = ""


@dataclass(slots=True)
class Unended:
    """Decisions at the end of a log that no context follows: the process died in that batch, or a plugin raised."""

    decisions: list[Recorded]


Item = Frame | Step | Unended


def read(folder: RunFolder, lines: Iterable[bytes]) -> Iterator[Item]:
    """Frames and steps of one log, or of a stretch of it, in order.

    Raises:
        CannotJudgeError: if a line, or a blob that it names, can't be read.

    """
    pending: list[Recorded] = []
    trigger = ""
    for line in lines:
        front = _FRONT.match(line)
        if front:
            pending.append(Recorded(line, int(front[1]), line[front.end() :], None))
            continue
        try:
            event = json_of(line)
            kind, data = kind_of(event["type"]), event["data"]
            if kind == "decision.made":
                pending.append(Recorded(line, data["sequence"], b"", data))
            elif kind == "context.recorded":
                yield _step(data, pending, trigger if data["hook"] == "on_evaluate" else "")
                pending = []
            elif kind == "evaluation.recorded":
                trigger = data["trigger"]
            elif kind == "plugin_state.recorded":
                yield frame_of(folder, data)
        except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
            raise CannotJudgeError(
                f"{folder.path}: a line that cannot be replayed: {line[:80]!r} ({error})"
            ) from None
    if pending:
        yield Unended(pending)


def context_of(step: Step) -> OccamContext:
    """The context exactly as the first hook of the step was given it."""
    given: dict[str, Any] = dict(step.data["given"])
    custom = restored(given.pop("custom", {}))
    if not _exact(given):
        converted: dict[str, Any] = {name: value_of(name, value) for name, value in given.items()}
        return OccamContext(custom=custom, **converted)
    ctx = OccamContext(given["iter_num"], given["task_loss"], custom=custom)
    ctx.turn(given)  # of the right type already: converting each again takes a fifth of a replay
    return ctx


def _exact(values: Mapping[str, Any]) -> bool:
    """Whether each is of its field's own type: no string for NaN, no list, null, or nothing of ours."""
    return list(map(type, values.values())) == list(map(EXACT.get, values))


def run_hooks(chain: PluginChain, step: Step, ctx: OccamContext, shadow: Mapping[str, Value]) -> OccamContext:
    """Run the hooks of a step; `shadow` is what the batch before it left for plugins in shadow."""
    if step.hook == "batch":
        chain.on_batch_start(ctx)
        measure(ctx, step)
        return chain.on_batch_end(ctx)
    object.__setattr__(ctx, "shadow_knobs", dict(shadow))
    return chain.on_evaluate(ctx) if step.hook == "on_evaluate" else chain.on_consolidate(ctx)


def measure(ctx: OccamContext, step: Step, *but: str) -> None:
    """Set the gauges as `on_batch_end` was given them, except those named."""
    measured = step.data["measured"]
    if not but and _GAUGES.issuperset(measured) and _exact(measured):
        ctx.turn(measured)
    else:
        ctx.measure(**{k: value_of(k, v) for k, v in measured.items() if k in _GAUGES and k not in but})
    custom = measured.get("custom", step.data["given"].get("custom"))
    ctx.custom.clear()
    if custom:
        ctx.custom.update(restored(custom))


def left_of(step: Step, given: tuple[Value, ...]) -> tuple[Value, ...]:
    """All knobs in order as the record says that the chain left them; `given` are those that it was given."""
    left = step.data["left"]
    if not left:
        return given
    knobs = dict(zip(KNOBS, given, strict=True))
    knobs.update((name, value_of(name, value)) for name, value in left.items() if name in knobs)
    return tuple(knobs.values())


def frame_of(folder: RunFolder, data: Mapping[str, Any]) -> Frame:
    """A key frame with its state, from the line or from its blob."""
    state = data["state"]
    if state is None:
        state = json_of(read_file(folder.blob(data["state_sha256"])))
    if not type(data["sequence"]) is type(data["iter_num"]) is int or not isinstance(data["trigger"], str):
        raise TypeError("sequence and iter_num are whole numbers, trigger is a word")
    if not isinstance(state, dict) or not all(isinstance(kept, dict) for kept in state.values()):
        raise TypeError("the state of a key frame is an object for each plugin")
    return Frame(data["sequence"], data["iter_num"], data["trigger"], data["state_sha256"], state)


def value_of(name: str, value: Any) -> Value:
    """A context field's value back from lossless JSON."""
    kind = TABLE[name].kind
    if kind == "float":
        return value if value is None else float(NONFINITE[value] if isinstance(value, str) else value)
    if kind == "floats":
        return tuple(float(restored(item)) for item in value)
    return value  # type: ignore[no-any-return]  # int, bool, str or None, checked by OccamContext


def _step(data: Mapping[str, Any], pending: list[Recorded], trigger: str) -> Step:
    for part in _OBJECTS:
        if not isinstance(data[part], dict):
            raise TypeError(f"{part} is no object")
    if not type(data["sequence"]) is type(data["iter_num"]) is type(data["micro_step"]) is int:
        raise TypeError("sequence, iter_num and micro_step are whole numbers")
    first, count = data["decisions"]["first"], data["decisions"]["count"]
    begins = first if count else data["sequence"]
    orphans = [made for made in pending if made.sequence < begins]
    made = pending[len(orphans) :] if orphans else pending
    return Step(data["sequence"], data["iter_num"], data["hook"], data, made, orphans, trigger)
