"""The log as replay reads it: key frames, and steps (what one hook was given, and what was decided)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ockham.chain import PluginChain
from ockham.context import FIELDS_BY_NAME, GAUGES, KNOBS, OccamContext
from ockham.errors import UnverifiableError
from ockham.event import NONFINITE, Value, event_kind, from_json_value
from ockham.fields import PYTHON_TYPES
from ockham.record.payloads import decode_line
from ockham.record.run_folder import RunFolder, read_regular_file

_GAUGES = frozenset(GAUGES)
_OBJECTS = ("given", "measured", "left", "seconds")
START_TRIGGERS = (
    "START",
    "INTERVAL",
    "RESUME",
)  # key frames that stand before a batch: a replay may begin there


@dataclass(slots=True)
class KeyFrame:
    """A key frame: the state of every plugin, in lossless JSON."""

    sequence: int
    iter_num: int
    trigger: str
    state_sha256: str
    state: dict[str, Any]


class RecordedDecision:
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

        Raises UnverifiableError where the line is no JSON.
        """
        if self._data is None:
            try:
                self._data = decode_line(self.line)["data"]
            except (ValueError, KeyError, TypeError) as error:
                raise UnverifiableError(
                    f"a decision that cannot be replayed: {self.line[:80]!r} ({error})"
                ) from None
        return self._data


# All that stands before what was decided, as the writer writes it: a line that fits holds nothing else before it.
_DECISION_PREFIX = re.compile(
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
    decisions: list[RecordedDecision]
    orphans: list[RecordedDecision] = field(default_factory=list)
    trigger: str = ""


@dataclass(slots=True)
class UnfinishedBatch:
    """Decisions at the end of a log that no context follows: the process died in that batch, or a plugin raised."""

    decisions: list[RecordedDecision]


Item = KeyFrame | Step | UnfinishedBatch


def iter_records(folder: RunFolder, lines: Iterable[bytes]) -> Iterator[Item]:
    """Frames and steps of one log, or of a stretch of it, in order.

    Raises:
        UnverifiableError: if a line, or a blob that it names, can't be read.

    """
    pending: list[RecordedDecision] = []
    trigger = ""
    for line in lines:
        front = _DECISION_PREFIX.match(line)
        if front:
            pending.append(RecordedDecision(line, int(front[1]), line[front.end() :], None))
            continue
        try:
            event = decode_line(line)
            kind, data = event_kind(event["type"]), event["data"]
            if kind == "decision.made":
                pending.append(RecordedDecision(line, data["sequence"], b"", data))
            elif kind == "context.recorded":
                yield _step(data, pending, trigger if data["hook"] == "on_evaluate" else "")
                pending = []
            elif kind == "evaluation.recorded":
                trigger = data["trigger"]
            elif kind == "plugin_state.recorded":
                yield parse_key_frame(folder, data)
        except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
            raise UnverifiableError(
                f"{folder.path}: a line that cannot be replayed: {line[:80]!r} ({error})"
            ) from None
    if pending:
        yield UnfinishedBatch(pending)


def build_context(step: Step) -> OccamContext:
    """The context exactly as the first hook of the step was given it."""
    given: dict[str, Any] = dict(step.data["given"])
    custom = from_json_value(given.pop("custom", {}))
    if not _exact(given):
        converted: dict[str, Any] = {name: parse_field(name, value) for name, value in given.items()}
        return OccamContext(custom=custom, **converted)
    ctx = OccamContext(given["iter_num"], given["task_loss"], custom=custom)
    ctx.set_knobs(given)  # of the right type already: converting each again takes a fifth of a replay
    return ctx


def _exact(values: Mapping[str, Any]) -> bool:
    """Whether each is of its field's own type: no string for NaN, no list, null, or nothing of ours."""
    return list(map(type, values.values())) == list(map(PYTHON_TYPES.get, values))


def run_hooks(chain: PluginChain, step: Step, ctx: OccamContext, shadow: Mapping[str, Value]) -> OccamContext:
    """Run the hooks of a step; `shadow` is what the batch before it left for plugins in shadow."""
    if step.hook == "batch":
        chain.on_batch_start(ctx)
        measure(ctx, step)
        return chain.on_batch_end(ctx)
    object.__setattr__(ctx, "shadow_knobs", dict(shadow))
    return chain.on_evaluate(ctx) if step.hook == "on_evaluate" else chain.on_consolidate(ctx)


def measure(ctx: OccamContext, step: Step, *exclude: str) -> None:
    """Set the gauges as `on_batch_end` was given them, except those named."""
    measured = step.data["measured"]
    if not exclude and _GAUGES.issuperset(measured) and _exact(measured):
        ctx.set_knobs(measured)
    else:
        ctx.set_gauges(
            **{k: parse_field(k, v) for k, v in measured.items() if k in _GAUGES and k not in exclude}
        )
    custom = measured.get("custom", step.data["given"].get("custom"))
    ctx.custom.clear()
    if custom:
        ctx.custom.update(from_json_value(custom))


def knobs_after_chain(step: Step, given: tuple[Value, ...]) -> tuple[Value, ...]:
    """All knobs in order as the record says that the chain left them; `given` are those that it was given."""
    left = step.data["left"]
    if not left:
        return given
    knobs = dict(zip(KNOBS, given, strict=True))
    knobs.update((name, parse_field(name, value)) for name, value in left.items() if name in knobs)
    return tuple(knobs.values())


def parse_key_frame(folder: RunFolder, data: Mapping[str, Any]) -> KeyFrame:
    """A key frame with its state, from the line or from its blob."""
    state = data["state"]
    if state is None:
        state = decode_line(read_regular_file(folder.blob(data["state_sha256"])))
    if not type(data["sequence"]) is type(data["iter_num"]) is int or not isinstance(data["trigger"], str):
        raise TypeError("sequence and iter_num are whole numbers, trigger is a word")
    if not isinstance(state, dict) or not all(isinstance(kept, dict) for kept in state.values()):
        raise TypeError("the state of a key frame is an object for each plugin")
    return KeyFrame(data["sequence"], data["iter_num"], data["trigger"], data["state_sha256"], state)


def parse_field(name: str, value: Any) -> Value:
    """A context field's value back from lossless JSON."""
    kind = FIELDS_BY_NAME[name].kind
    if kind == "float":
        return value if value is None else float(NONFINITE[value] if isinstance(value, str) else value)
    if kind == "floats":
        return tuple(float(from_json_value(item)) for item in value)
    return value  # type: ignore[no-any-return]  # int, bool, str or None, checked by OccamContext


def _step(data: Mapping[str, Any], pending: list[RecordedDecision], trigger: str) -> Step:
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
