"""Reader of a log for replay: key frames, and steps (inputs of a hook and its decisions)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ockham.chain import PluginChain
from ockham.context import FIELDS_BY_NAME, GAUGES, KNOBS, OccamContext
from ockham.errors import UnverifiableError
from ockham.event import Value, event_kind, from_json_value, parse_number
from ockham.fields import PYTHON_TYPES
from ockham.record.payloads import decode_line
from ockham.record.run_folder import RunFolder, read_regular_file

_GAUGES = frozenset(GAUGES)
_OBJECTS = ("given", "measured", "left", "seconds")
# Key frames before a batch, from which a replay can start.
START_TRIGGERS = (
    "START",
    "INTERVAL",
    "RESUME",
    "INTERVENTION",
    "ROLLBACK",
)


@dataclass(slots=True)
class KeyFrame:
    """A key frame: the state of every plugin in lossless JSON.

    `revision` is the policy of the plugins that load it, if the reader of the log sets it.
    """

    sequence: int
    iter_num: int
    trigger: str
    state_sha256: str
    state: dict[str, Any]
    revision: str = ""


class RecordedDecision:
    """A recorded decision: its sequence number, and `judged`, the bytes that contain the decision.

    Nearly every replayed decision has the same bytes; only the others are parsed. A line in another form (key
    order, content in `ext`) has no `judged` and is compared value by value.
    """

    __slots__ = ("_data", "judged", "line", "sequence")

    def __init__(self, line: bytes, sequence: int, judged: bytes, data: dict[str, Any] | None) -> None:
        self.line, self.sequence, self.judged, self._data = line, sequence, judged, data

    @property
    def data(self) -> dict[str, Any]:
        """The event's `data`.

        Raises:
            UnverifiableError: If the line is not JSON.

        """
        if self._data is None:
            try:
                self._data = decode_line(self.line)["data"]
            except (ValueError, KeyError, TypeError) as error:
                raise UnverifiableError(
                    f"a decision that cannot be replayed: {self.line[:80]!r} ({error})"
                ) from None
        return self._data


# The line up to the decision as the writer writes it. A matching line has no other content there.
_DECISION_PREFIX = re.compile(
    rb'\{"specversion":"1\.0","id":"[0-9a-f-]{36}","source":"ockham://runs/[a-z0-9._-]{1,64}",'
    rb'"type":"ockham\.decision\.made\.v1","subject":"[^"\\]*","time":"[^"\\]*",'
    rb'"dataschema":"urn:ockham:decision\.made\.v1","data":\{"sequence":(\d+),"attempt":\d+,"rank":\d+,'
)


@dataclass(slots=True)
class Step:
    """One `context.recorded` with its decisions in order.

    `orphans` are preceding decisions of a batch whose context was never recorded. `trigger` is the reason of
    an evaluation (`SCHEDULE`, `CONSOLIDATION`, `USER`) and empty otherwise.
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
    """Decisions at the end of a log without a context: the process died in that batch, or a plugin raised."""

    decisions: list[RecordedDecision]


Item = KeyFrame | Step | UnfinishedBatch


def iter_records(folder: RunFolder, lines: Iterable[bytes]) -> Iterator[Item]:
    """Yield frames and steps of a log, or of a chunk of it, in order.

    Raises:
        UnverifiableError: If a line, or a blob that it names, cannot be read.

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
    """Return the context exactly as the first hook of the step received it."""
    given: dict[str, Any] = dict(step.data["given"])
    custom = from_json_value(given.pop("custom", {}))
    if not _exact(given):
        converted: dict[str, Any] = {name: parse_field(name, value) for name, value in given.items()}
        return OccamContext(custom=custom, **converted)
    ctx = OccamContext(given["iter_num"], given["task_loss"], custom=custom)
    # Of the right type already: converting each again takes a fifth of a replay.
    ctx.set_knobs(given)
    return ctx


def _exact(values: Mapping[str, Any]) -> bool:
    """Return True if each value has the type of its field: no string for NaN, list, null or unknown name."""
    return list(map(type, values.values())) == list(map(PYTHON_TYPES.get, values))


def run_hooks(chain: PluginChain, step: Step, ctx: OccamContext, shadow: Mapping[str, Value]) -> OccamContext:
    """Run the hooks of a step. `shadow` contains the shadow knobs after the previous batch."""
    if step.hook == "batch":
        chain.on_batch_start(ctx)
        if "gradients" in step.data:
            run_gradients(chain, step, ctx)
        measure(ctx, step)
        return chain.on_batch_end(ctx)
    object.__setattr__(ctx, "shadow_knobs", dict(shadow))
    measure(ctx, step)
    return chain.on_evaluate(ctx) if step.hook == "on_evaluate" else chain.on_consolidate(ctx)


def run_gradients(
    chain: PluginChain, step: Step, ctx: OccamContext, knobs: Mapping[str, Value] | None = None
) -> OccamContext:
    """Run `on_gradients` on the recorded norm of the gradient.

    Args:
        chain: The chain.
        step: A batch that ends its step, and measured the norm.
        ctx: Its context after `on_batch_start`.
        knobs: Knobs of the step in place of the recorded ones. None uses those.

    """
    recorded = dict(step.data.get("gradients", {}))
    custom = recorded.pop("custom", None)
    if custom is not None:
        ctx.custom.clear()
        ctx.custom.update(from_json_value(custom))
    if knobs is None:
        knobs = {name: parse_field(name, value) for name, value in recorded.items()}
    ctx.begin_gradients(measured_norm(step), knobs)
    return chain.on_gradients(ctx)


def measured_norm(step: Step) -> float:
    """Return the norm of the gradient that a batch measured.

    Raises:
        KeyError: If it measured none.

    """
    norm = parse_number(step.data["measured"]["grad_norm"])
    if norm is None:
        raise KeyError("grad_norm")
    return norm


def measure(ctx: OccamContext, step: Step, *exclude: str) -> None:
    """Set the gauges that were measured for the hook, except the named ones."""
    measured = step.data["measured"]
    if not exclude and _GAUGES.issuperset(measured) and _exact(measured):
        ctx.set_knobs(measured)
        ctx.measured_gauges.update(measured)
    else:
        ctx.set_gauges(
            **{k: parse_field(k, v) for k, v in measured.items() if k in _GAUGES and k not in exclude}
        )
    custom = measured.get("custom", step.data["given"].get("custom"))
    ctx.custom.clear()
    if custom:
        ctx.custom.update(from_json_value(custom))


def knobs_after_chain(step: Step, given: tuple[Value, ...]) -> tuple[Value, ...]:
    """Return all knobs in order as recorded after the chain. `given` contains the knobs before it."""
    left = step.data["left"]
    if not left:
        return given
    knobs = dict(zip(KNOBS, given, strict=True))
    knobs.update((name, parse_field(name, value)) for name, value in left.items() if name in knobs)
    return tuple(knobs.values())


def parse_key_frame(folder: RunFolder, data: Mapping[str, Any]) -> KeyFrame:
    """Return a key frame with its state, from the line or from its blob."""
    state = data["state"]
    if state is None:
        state = decode_line(read_regular_file(folder.blob(data["state_sha256"])))
    if not type(data["sequence"]) is type(data["iter_num"]) is int or not isinstance(data["trigger"], str):
        raise TypeError("sequence and iter_num are whole numbers, trigger is a word")
    if not isinstance(state, dict) or not all(isinstance(kept, dict) for kept in state.values()):
        raise TypeError("the state of a key frame is an object for each plugin")
    return KeyFrame(data["sequence"], data["iter_num"], data["trigger"], data["state_sha256"], state)


def parse_field(name: str, value: Any) -> Value:
    """Return a context field's value from lossless JSON."""
    kind = FIELDS_BY_NAME[name].kind
    if kind == "float":
        return parse_number(value)
    if kind == "floats":
        return tuple(float(from_json_value(item)) for item in value)
    return value  # type: ignore[no-any-return]  # int, bool, str or None, checked by OccamContext


def _step(data: Mapping[str, Any], pending: list[RecordedDecision], trigger: str) -> Step:
    for part in _OBJECTS:
        if not isinstance(data[part], dict):
            raise TypeError(f"{part} is not an object")
    if not isinstance(data.get("gradients", {}), dict):
        raise TypeError("gradients is not an object")
    if not type(data["sequence"]) is type(data["iter_num"]) is type(data["micro_step"]) is int:
        raise TypeError("sequence, iter_num and micro_step are whole numbers")
    first, count = data["decisions"]["first"], data["decisions"]["count"]
    begins = first if count else data["sequence"]
    orphans = [made for made in pending if made.sequence < begins]
    made = pending[len(orphans) :] if orphans else pending
    return Step(data["sequence"], data["iter_num"], data["hook"], data, made, orphans, trigger)
