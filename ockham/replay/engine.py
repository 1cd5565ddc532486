"""Replay of one chunk of a log from its key frame, compared bit for bit.

A decision is compared as the JSON in the log: shortest round-trip doubles differ exactly if their bits
differ. State is compared at every key frame, so a plugin with hidden state is found at the first decision or
frame that it affects.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from ockham.chain import PluginChain, plugin_name
from ockham.context import KNOBS, OccamContext, knob_values
from ockham.errors import ContextError, PluginError, UnverifiableError
from ockham.event import Decision, Value, from_json_value, to_json_value
from ockham.plugin import OccamPlugin
from ockham.record.payloads import encode_payload
from ockham.replay.json_diff import canonical_json, float_bits, json_diff, json_equal, state_digest
from ockham.replay.log_reader import (
    START_TRIGGERS,
    Item,
    KeyFrame,
    Step,
    UnfinishedBatch,
    build_context,
    knobs_after_chain,
    run_hooks,
)
from ockham.replay.playback import PlaybackPlugin

POSITION = ("sequence", "attempt", "rank", "policy_revision", "ext")
MAX_DIFFERENCES = 20


@dataclass(slots=True)
class Difference:
    """One difference. `recorded` and `replayed` are JSON text."""

    iter_num: int
    sequence: int
    plugin: str
    field: str
    recorded: str
    replayed: str


@dataclass(slots=True)
class ReplayResult:
    """Result of the replay of a chunk.

    Attributes:
        contexts: Hooks that were run again.
        decisions: Decisions that were recomputed.
        identical: Recomputed decisions that are equal bit for bit.
        not_replayed: Decisions of third-party code that was not run. They are used as recorded.
        unfinished: Decisions of a batch that never ended (a crash, a plugin that raised). They cannot be
            recomputed.
        frames: Key frames whose state was compared.
        found: Number of differences. `differences` contains the first ones.

    """

    contexts: int = 0
    decisions: int = 0
    identical: int = 0
    not_replayed: int = 0
    unfinished: int = 0
    frames: int = 0
    found: int = 0
    differences: list[Difference] = field(default_factory=list)

    def add_difference(
        self, iter_num: int, sequence: int, plugin: str, name: str, recorded: Any, replayed: Any
    ) -> None:
        """Add a difference."""
        self.found += 1
        if len(self.differences) < MAX_DIFFERENCES:
            self.differences.append(
                Difference(
                    iter_num, sequence, plugin, name, canonical_json(recorded), canonical_json(replayed)
                )
            )


def replay_chunk(
    items: Iterable[Item], plugins: list[OccamPlugin], revision: str, *, fresh_start: bool = True
) -> ReplayResult:
    """Replay frames and steps with new plugins.

    Args:
        items: A chunk that starts with a key frame before a batch.
        plugins: Plugins created by `build_plugins`.
        revision: Policy revision that every step must name.
        fresh_start: True if the state at the start of the run must be that of new plugins.

    Raises:
        UnverifiableError: If the chunk starts differently.

    """
    return _Replay(plugins, revision).run(items, fresh_start=fresh_start)


class _Replay:
    def __init__(self, plugins: list[OccamPlugin], revision: str) -> None:
        self.replayed_decisions: list[Decision] = []
        self.chain = PluginChain(plugins, self.replayed_decisions.append)
        self.revision = revision
        self.stand_ins = {plugin_name(p): p for p in plugins if isinstance(p, PlaybackPlugin)}
        self.names = frozenset(plugin_name(plugin) for plugin in plugins)
        # A rollback restores the state of all others.
        self.survivors = frozenset(plugin_name(plugin) for plugin in plugins if plugin.survives_rollback)
        self.shadow: dict[str, Value] = {}
        self.proof = ReplayResult()

    def run(self, items: Iterable[Item], *, fresh_start: bool) -> ReplayResult:
        loaded = False
        for item in items:
            if isinstance(item, KeyFrame):
                if loaded and item.trigger == "ROLLBACK":
                    self._compare_state(item, self.survivors)
                elif (loaded and item.trigger != "RESUME") or (item.trigger == "START" and fresh_start):
                    self._compare_state(item, self.names)
                if not loaded and item.trigger in START_TRIGGERS:
                    self._load(item)
                    loaded = True
            elif isinstance(item, UnfinishedBatch):
                self.proof.unfinished += len(item.decisions)
            elif not loaded:
                raise UnverifiableError(
                    f"no key frame before iteration {item.iter_num} (sequence {item.sequence}), "
                    "so a replay cannot start"
                )
            else:
                self._step(item)
        return self.proof

    def _load(self, frame: KeyFrame) -> None:
        state = {name: kept for name, kept in frame.state.items() if name not in self.stand_ins}
        try:
            self.chain.load_state_dict(from_json_value(state))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            self.proof.add_difference(
                frame.iter_num, frame.sequence, "chain", "state", "a state", f"does not load: {error!r}"
            )

    def _step(self, step: Step) -> None:
        proof = self.proof
        proof.contexts += 1
        if step.orphans:
            lost = [made.data for made in step.orphans]
            proof.add_difference(
                lost[0]["iter_num"],
                lost[0]["sequence"],
                lost[0]["plugin"],
                "context",
                _codes(lost),
                "no context was recorded for this batch",
            )
        if step.data.get("policy_revision") != self.revision:
            proof.add_difference(
                step.iter_num,
                step.sequence,
                "chain",
                "policy_revision",
                step.data.get("policy_revision"),
                self.revision,
            )
        self._play_back(step)
        try:
            ctx = build_context(step)
            left = knobs_after_chain(step, knob_values(ctx))
            run_hooks(self.chain, step, ctx, self.shadow)
        except PluginError as error:
            proof.add_difference(
                step.iter_num, step.sequence, error.plugin, error.hook, "no error", str(error.__cause__)
            )
            return
        except (ContextError, KeyError, TypeError, ValueError) as error:
            proof.add_difference(
                step.iter_num, step.sequence, "context", "fields", "a context", f"none: {error}"
            )
            return
        self.shadow = ctx.shadow_knobs
        self._compare(step)
        self._compare_knobs(step, left, ctx)

    def _play_back(self, step: Step) -> None:
        for name, stand_in in self.stand_ins.items():
            stand_in.recorded_decisions = [
                made.data for made in step.decisions if made.data["plugin"] == name
            ]
        self.replayed_decisions.clear()

    def _compare(self, step: Step) -> None:
        proof, skipped = self.proof, self.stand_ins
        recorded, made = step.decisions, self.replayed_decisions
        if skipped:
            recorded = [old for old in recorded if old.data["plugin"] not in skipped]
            made = [new for new in made if new.plugin not in skipped]
        replayed = [encode_payload(new, self.revision)[0] for new in made]
        proof.decisions += len(recorded)
        proof.not_replayed += len(step.decisions) - len(recorded)
        if len(recorded) != len(replayed):
            then, now = _codes(old.data for old in recorded), _codes(replayed)
            odd = next(o or n for o, n in _padded(then, now) if o != n)
            proof.identical += sum(o == n for o, n in zip(then, now, strict=False))
            proof.add_difference(step.iter_num, step.sequence, odd.split()[0], "decisions", then, now)
            return
        for old, new in zip(recorded, replayed, strict=True):
            if old.judged == orjson.dumps(new)[1:] + b"}":
                proof.identical += 1
                continue
            field_differences = list(json_diff(_judged(old.data), _judged(new)))
            proof.identical += not field_differences
            for name, was, now_ in field_differences[:1]:
                proof.add_difference(step.iter_num, old.sequence, new["plugin"], name, was, now_)

    def _compare_knobs(self, step: Step, recorded: tuple[Value, ...], ctx: OccamContext) -> None:
        replayed = knob_values(ctx)
        if float_bits(recorded) == float_bits(replayed):
            return
        for name, old, new in zip(KNOBS, recorded, replayed, strict=True):
            if repr(old) != repr(new):
                self.proof.add_difference(
                    step.iter_num,
                    step.sequence,
                    "chain",
                    f"left.{name}",
                    to_json_value(old),
                    to_json_value(new),
                )

    def _compare_state(self, frame: KeyFrame, names: Collection[str]) -> None:
        """Compare the state of plugins with a key frame. A plugin that one of the two lacks differs."""
        self.proof.frames += 1
        if state_digest(frame.state) != frame.state_sha256:
            self.proof.add_difference(
                frame.iter_num,
                frame.sequence,
                "chain",
                "state_sha256",
                frame.state_sha256,
                state_digest(frame.state),
            )
        state: Mapping[str, Any] = to_json_value(self.chain.state_dict())
        if json_equal(state, frame.state):
            return
        for name in {**state, **frame.state}:
            if name in self.stand_ins or (name in self.names and name not in names):
                continue
            for key, old, new in json_diff(frame.state.get(name, {}), state.get(name, {})):
                self.proof.add_difference(frame.iter_num, frame.sequence, name, f"state.{key}", old, new)


def _judged(made: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in made.items() if key not in POSITION}


def _codes(decisions: Iterable[Mapping[str, Any]]) -> list[str]:
    return [f"{made['plugin']} {made['reason_code']}" for made in decisions]


def _padded(old: list[str], new: list[str]) -> Iterator[tuple[str, str]]:
    for at in range(max(len(old), len(new))):
        yield old[at] if at < len(old) else "", new[at] if at < len(new) else ""
