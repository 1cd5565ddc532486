"""Replay: every decision derived again from what was logged, and compared to the last bit.

A decision is compared as the JSON that the log would hold: shortest round-trip doubles differ exactly where their
bits do. State is compared by digest at every key frame, so that a plugin that keeps something hidden is caught at
the first frame or decision where it shows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from ockham.chain import PluginChain, plugin_name
from ockham.context import KNOBS, OccamContext
from ockham.errors import PluginError
from ockham.event import Decision, Value, lossless
from ockham.plugin import OccamPlugin
from ockham.record.lines import data_of
from ockham.replay.steps import STARTS, Frame, Step, context_of, left_of, run_hooks

POSITION = ("sequence", "attempt", "rank", "policy_revision", "ext")
SHOWN = 20


@dataclass(slots=True)
class Difference:
    """One thing that came out otherwise; `recorded` and `replayed` are JSON text."""

    iter_num: int
    sequence: int
    plugin: str
    field: str
    recorded: str
    replayed: str


@dataclass(slots=True)
class Proof:
    """What a replay found over a stretch of a log."""

    steps: int = 0
    decisions: int = 0
    identical: int = 0
    frames: int = 0
    differences: list[Difference] = field(default_factory=list)

    def differs(self, difference: Difference) -> None:
        """Note a difference; only the first ones are kept, all are counted by `decisions - identical`."""
        if len(self.differences) < SHOWN:
            self.differences.append(difference)

    def add(self, other: Proof) -> None:
        """Join the proof of a later stretch."""
        self.steps += other.steps
        self.decisions += other.decisions
        self.identical += other.identical
        self.frames += other.frames
        self.differences = (self.differences + other.differences)[:SHOWN]


class Recorded(OccamPlugin):
    """Stands in for third-party code that may not run: turns the knobs as the log says that it did."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.due: list[dict[str, Any]] = []

    def _again(self, ctx: OccamContext, hook: str) -> None:
        for made in self.due:
            if made["hook"] == hook:
                ctx.turn({change["field"]: change["after"] for change in made["changes"]})

    def on_batch_start(self, ctx: OccamContext) -> None:
        """What it did at the start of this batch."""
        self._again(ctx, "on_batch_start")

    def on_batch_end(self, ctx: OccamContext) -> None:
        """What it did at the end of this batch."""
        self._again(ctx, "on_batch_end")

    def on_evaluate(self, ctx: OccamContext) -> None:
        """What it did at this evaluation."""
        self._again(ctx, "on_evaluate")

    def on_consolidate(self, ctx: OccamContext) -> None:
        """What it did at this consolidation."""
        self._again(ctx, "on_consolidate")


def prove(items: Iterable[Frame | Step], plugins: list[OccamPlugin]) -> Proof:
    """Replay frames and steps with fresh plugins; the first item must be a key frame that stands before a batch."""
    made: list[Decision] = []
    chain = PluginChain(plugins, made.append)
    stand_ins = [plugin for plugin in plugins if isinstance(plugin, Recorded)]
    skipped = {plugin_name(plugin) for plugin in stand_ins}
    proof, shadow, loaded = Proof(), dict[str, Value](), False
    for item in items:
        if isinstance(item, Frame):
            proof.frames += 1
            if loaded:
                _compare_state(proof, item, chain, skipped)
            if item.trigger in STARTS and item.state is not None and not loaded:
                chain.load_state_dict(
                    item.state if not skipped else {k: v for k, v in item.state.items() if k not in skipped}
                )
                loaded = True
            continue
        for stand_in in stand_ins:
            stand_in.due = [d for d in item.decisions if d["plugin"] == plugin_name(stand_in)]
        ctx = context_of(item)
        try:
            run_hooks(chain, item, ctx, shadow)
        except PluginError as error:
            proof.differs(
                Difference(item.iter_num, item.sequence, error.plugin, error.hook, "no error", str(error))
            )
        shadow = ctx.shadow_knobs
        _compare(proof, item, made, ctx, skipped)
        made.clear()
    return proof


def _compare(proof: Proof, step: Step, made: list[Decision], ctx: OccamContext, skipped: set[str]) -> None:
    proof.steps += 1
    recorded = [d for d in step.decisions if d["plugin"] not in skipped]
    replayed = [data_of(d, "")[0] for d in made if d.plugin not in skipped]
    proof.decisions += len(recorded)
    for old, new in zip(recorded, replayed, strict=False):
        differing = [key for key in new if key not in POSITION and _text(old.get(key)) != _text(new[key])]
        proof.identical += not differing
        for key in differing[:1]:
            proof.differs(
                Difference(
                    step.iter_num, old["sequence"], old["plugin"], key, _text(old.get(key)), _text(new[key])
                )
            )
    if len(recorded) != len(replayed):
        then = [f"{d['plugin']} {d['reason_code']}" for d in recorded]
        now = [f"{d['plugin']} {d['reason_code']}" for d in replayed]
        who = next((o or n for o, n in _padded(then, now) if o != n), "chain").split()[0]
        proof.differs(Difference(step.iter_num, step.sequence, who, "decisions", _text(then), _text(now)))
    left = left_of(step)
    for name in KNOBS:
        value = getattr(ctx, name)
        if _text(lossless(left[name])) != _text(lossless(value)):
            proof.differs(
                Difference(
                    step.iter_num,
                    step.sequence,
                    "chain",
                    name,
                    _text(lossless(left[name])),
                    _text(lossless(value)),
                )
            )


def _compare_state(proof: Proof, frame: Frame, chain: PluginChain, skipped: set[str]) -> None:
    state: Mapping[str, Any] = lossless(chain.state_dict())
    if not skipped and digest(state) == frame.state_sha256:
        return
    for name, recorded in (frame.state or {}).items():
        if name in skipped:
            continue
        for key in sorted({*recorded, *state.get(name, {})}):
            old, new = recorded.get(key), state.get(name, {}).get(key)
            if _text(old) != _text(new):
                proof.differs(
                    Difference(frame.iter_num, frame.sequence, name, f"state {key}", _text(old), _text(new))
                )


def digest(state: Mapping[str, Any]) -> str:
    """SHA-256 of a lossless state as the log writes it: sorted keys, no spaces."""
    return hashlib.sha256(orjson.dumps(state, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _text(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def _padded(old: list[str], new: list[str]) -> Iterator[tuple[str, str]]:
    for at in range(max(len(old), len(new))):
        yield old[at] if at < len(old) else "", new[at] if at < len(new) else ""
