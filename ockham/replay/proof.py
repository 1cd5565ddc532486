"""One stretch of a log, derived again from its key frame and compared to the last bit.

A decision is compared as the JSON that the log holds: shortest round-trip doubles differ exactly where their bits
do. State is compared at every key frame, so that a plugin that keeps something hidden is caught at the first
decision or frame where it shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from ockham.chain import PluginChain, plugin_name
from ockham.context import KNOBS, OccamContext, knob_values
from ockham.errors import CannotJudgeError, ContextError, PluginError
from ockham.event import Decision, Value, lossless, restored
from ockham.plugin import OccamPlugin
from ockham.record.lines import data_of
from ockham.replay.bits import bits, digest, equal, text_of, unequal
from ockham.replay.stand_in import StandIn
from ockham.replay.steps import STARTS, Frame, Item, Step, Unended, context_of, left_of, run_hooks

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
    """What a replay found over a stretch of a log.

    Attributes:
        contexts: hooks that were run again.
        decisions: decisions that were derived again.
        identical: those of them that came out the same to the last bit.
        taken: decisions of third-party code that was not run, taken as recorded.
        unended: decisions of a batch that never ended (a crash, a plugin that raised): nothing to derive them from.
        frames: key frames whose state was compared.
        found: how many differences there are; `differences` keeps the first ones.

    """

    contexts: int = 0
    decisions: int = 0
    identical: int = 0
    taken: int = 0
    unended: int = 0
    frames: int = 0
    found: int = 0
    differences: list[Difference] = field(default_factory=list)

    def differs(
        self, iter_num: int, sequence: int, plugin: str, name: str, recorded: Any, replayed: Any
    ) -> None:
        """Note a difference."""
        self.found += 1
        if len(self.differences) < SHOWN:
            self.differences.append(
                Difference(iter_num, sequence, plugin, name, text_of(recorded), text_of(replayed))
            )


def prove(
    items: Iterable[Item], plugins: list[OccamPlugin], revision: str, *, fresh_start: bool = True
) -> Proof:
    """Replay frames and steps with fresh plugins.

    Args:
        items: a stretch that begins with a key frame that stands before a batch.
        plugins: as `plugins_of` builds them.
        revision: the policy revision that every step must name.
        fresh_start: whether the state at the start of the run must be that of fresh plugins.

    Raises:
        CannotJudgeError: if the stretch begins otherwise.

    """
    return _Replay(plugins, revision).run(items, fresh_start=fresh_start)


class _Replay:
    def __init__(self, plugins: list[OccamPlugin], revision: str) -> None:
        self.made: list[Decision] = []
        self.chain = PluginChain(plugins, self.made.append)
        self.revision = revision
        self.stand_ins = {plugin_name(p): p for p in plugins if isinstance(p, StandIn)}
        self.shadow: dict[str, Value] = {}
        self.proof = Proof()

    def run(self, items: Iterable[Item], *, fresh_start: bool) -> Proof:
        loaded = False
        for item in items:
            if isinstance(item, Frame):
                if (loaded and item.trigger != "RESUME") or (item.trigger == "START" and fresh_start):
                    self._compare_state(item)
                if not loaded and item.trigger in STARTS:
                    self._load(item)
                    loaded = True
            elif isinstance(item, Unended):
                self.proof.unended += len(item.decisions)
            elif not loaded:
                raise CannotJudgeError(
                    f"no key frame stands before iteration {item.iter_num} (sequence {item.sequence}): nowhere to replay from"
                )
            else:
                self._step(item)
        return self.proof

    def _load(self, frame: Frame) -> None:
        state = {name: kept for name, kept in frame.state.items() if name not in self.stand_ins}
        try:
            self.chain.load_state_dict(restored(state))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            self.proof.differs(
                frame.iter_num, frame.sequence, "chain", "state", "a state", f"does not load: {error!r}"
            )

    def _step(self, step: Step) -> None:
        proof = self.proof
        proof.contexts += 1
        if step.orphans:
            lost = [made.data for made in step.orphans]
            proof.differs(lost[0]["iter_num"], lost[0]["sequence"], lost[0]["plugin"],
                          "context", _codes(lost), "no context was recorded for this batch")  # fmt: skip
        if step.data.get("policy_revision") != self.revision:
            proof.differs(
                step.iter_num,
                step.sequence,
                "chain",
                "policy_revision",
                step.data.get("policy_revision"),
                self.revision,
            )
        for name, stand_in in self.stand_ins.items():
            stand_in.due = [made.data for made in step.decisions if made.data["plugin"] == name]
        self.made.clear()
        try:
            ctx = context_of(step)
            left = left_of(step, knob_values(ctx))
            run_hooks(self.chain, step, ctx, self.shadow)
        except PluginError as error:
            proof.differs(
                step.iter_num, step.sequence, error.plugin, error.hook, "no error", str(error.__cause__)
            )
            return
        except (ContextError, KeyError, TypeError, ValueError) as error:
            proof.differs(step.iter_num, step.sequence, "context", "fields", "a context", f"none: {error}")
            return
        self.shadow = ctx.shadow_knobs
        self._compare(step)
        self._compare_knobs(step, left, ctx)

    def _compare(self, step: Step) -> None:
        proof, skipped = self.proof, self.stand_ins
        recorded, made = step.decisions, self.made
        if skipped:
            recorded = [old for old in recorded if old.data["plugin"] not in skipped]
            made = [new for new in made if new.plugin not in skipped]
        replayed = [data_of(new, self.revision)[0] for new in made]
        proof.decisions += len(recorded)
        proof.taken += len(step.decisions) - len(recorded)
        if len(recorded) != len(replayed):
            then, now = _codes(old.data for old in recorded), _codes(replayed)
            odd = next(o or n for o, n in _padded(then, now) if o != n)
            proof.identical += sum(o == n for o, n in zip(then, now, strict=False))
            proof.differs(step.iter_num, step.sequence, odd.split()[0], "decisions", then, now)
            return
        for old, new in zip(recorded, replayed, strict=True):
            if old.judged == orjson.dumps(new)[1:] + b"}":
                proof.identical += 1
                continue
            odd_ones = list(unequal(_judged(old.data), _judged(new)))
            proof.identical += not odd_ones
            for name, was, now_ in odd_ones[:1]:
                proof.differs(step.iter_num, old.sequence, new["plugin"], name, was, now_)

    def _compare_knobs(self, step: Step, recorded: tuple[Value, ...], ctx: OccamContext) -> None:
        replayed = knob_values(ctx)
        if bits(recorded) == bits(replayed):
            return
        for name, old, new in zip(KNOBS, recorded, replayed, strict=True):
            if repr(old) != repr(new):
                self.proof.differs(
                    step.iter_num, step.sequence, "chain", f"left.{name}", lossless(old), lossless(new)
                )

    def _compare_state(self, frame: Frame) -> None:
        self.proof.frames += 1
        if digest(frame.state) != frame.state_sha256:
            self.proof.differs(
                frame.iter_num,
                frame.sequence,
                "chain",
                "state_sha256",
                frame.state_sha256,
                digest(frame.state),
            )
        state: Mapping[str, Any] = lossless(self.chain.state_dict())
        if equal(state, frame.state):
            return
        for name in [n for n in {**state, **frame.state} if n not in self.stand_ins]:
            for key, old, new in unequal(frame.state.get(name, {}), state.get(name, {})):
                self.proof.differs(frame.iter_num, frame.sequence, name, f"state.{key}", old, new)


def _judged(made: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in made.items() if key not in POSITION}


def _codes(decisions: Iterable[Mapping[str, Any]]) -> list[str]:
    return [f"{made['plugin']} {made['reason_code']}" for made in decisions]


def _padded(old: list[str], new: list[str]) -> Iterator[tuple[str, str]]:
    for at in range(max(len(old), len(new))):
        yield old[at] if at < len(old) else "", new[at] if at < len(new) else ""
