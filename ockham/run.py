"""Run: policy, chain and record around anyone's training loop; train.py uses this and nothing hidden.

    with ockham.Run("balanced", facts={"max_iters": 600}) as run:
        for iter_num, batch in enumerate(batches):
            loss = model(batch)
            ctx = run.start_batch(iter_num, loss.item(), learning_rate=schedule(iter_num))
            if ctx.updated:
                loss.backward(); optimizer.step()
            ctx = run.end_batch(ctx, grad_norm=...)
            if ctx.halt:
                break

Leaving the block ends the run, valid and signed, whatever happened inside.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from ockham.chain import PluginChain, base_knobs, merge_scheduled_knobs
from ockham.context import GAUGES, OccamContext
from ockham.errors import (
    DataError,
    LogError,
    PluginError,
    PolicyError,
    RankDivergedError,
    RunError,
)
from ockham.event import Value, from_json_value, to_json_value
from ockham.plugin import OccamPlugin
from ockham.plugins.memory import OckhamMemory
from ockham.policy import (
    Policy,
    load_policy,
    plugin_sources,
    policy_from_json,
    policy_from_plugins,
    with_default_plugins,
)
from ockham.quotient import compute_performance, occam_quotient
from ockham.record.attempt import Attempt, end_reason, last_policy_revision
from ockham.record.checkpointing import CheckpointKind, CheckpointPacker, save_checkpoint
from ockham.record.checkpoints import ResumePoint
from ockham.record.counters import RunCounters
from ockham.record.log_writer import EventPosition
from ockham.record.payloads import gauge_values
from ockham.record.rank_group import Gather, RankGroup
from ockham.record.recorder import Recorder
from ockham.record.run_folder import RunFolder, new_run_id
from ockham.record.run_metadata import build_run_metadata
from ockham.record.subscriptions import Consumer, Subscription, Subscriptions
from ockham.record.tlog.tree_head import TreeHead


class Run:
    """One attempt of one run, written by one rank.

    Args:
        policy: name of a preset, path of a policy file, or a Policy; None takes `balanced`, or on resume the
            policy that the run was last under.
        overrides: settings such as `"gate.target=0.3"`.
        plugins: plugin objects instead of a policy; `memory` goes with them.
        runs: the folder of all runs.
        run_id: 1 to 64 of a-z, 0-9, `.`, `_`, `-`; None makes one from the time.
        settings: the trainer's settings, recorded.
        facts: run-long facts of the context, such as seed, max_iters, vocab_size, model_params.
        data: what is trained on, recorded: name, digest, sizes.
        resumed: go on with `run_id` as a new attempt, from this point of it (`ockham.starting_point`).
        rank: of this process, from 0; each rank makes a Run of its own with the same `run_id`.
        world_size: how many ranks there are.
        gather: hands bytes to all ranks and returns those of every rank in order, as `ockham.nano.Ranks.gather` does;
            with it every verdict is compared before anyone acts on it. All of them must make the same calls.

    Raises:
        RunError: if the run exists, or on resume does not, or its folder can't be written.
        PolicyError: if the policy can't be used.

    """

    def __init__(
        self,
        policy: str | Path | Policy | None = None,
        *,
        overrides: Sequence[str] = (),
        plugins: Sequence[OccamPlugin] | None = None,
        memory: OckhamMemory | None = None,
        runs: str | Path = "runs",
        run_id: str | None = None,
        settings: Mapping[str, Any] | None = None,
        facts: Mapping[str, Any] | None = None,
        data: Mapping[str, Any] | None = None,
        resumed: ResumePoint | None = None,
        rank: int = 0,
        world_size: int = 1,
        all_gather: Gather | None = None,
    ) -> None:
        if run_id is None and world_size > 1:
            raise RunError("many ranks write one run: give each the same run_id")
        self.run_id = run_id or new_run_id()
        self.folder = RunFolder(runs, self.run_id)
        self.peers = RankGroup(rank, world_size, all_gather)
        self.settings, self.data = dict(settings or {}), dict(data or {})
        self._resumed = resumed
        self._facts = dict(facts or {})
        if resumed is not None and resumed.data.get("sha256") != self.data.get("sha256"):
            was, now = resumed.data.get("name"), self.data.get("name")
            raise DataError(
                f"run {self.run_id!r} was started on other data ({was!r}, another digest) than {now!r}"
            )
        if plugins is not None:
            plugin_objects = with_default_plugins(plugins, memory)
            self.policy = policy_from_plugins(plugin_objects)
        else:
            self.policy = _resolve_policy(policy, overrides, self.folder if resumed else None)
            plugin_objects = self.policy.build()
        self.attempt = Attempt(self.folder, self.peers, resume=resumed is not None)
        self._recorder = Recorder(self.attempt)
        self._subscriptions: Subscriptions | None = None
        self.chain = PluginChain(plugin_objects, self._recorder.record_decision)
        self._recorder.state = self.chain.state_dict
        self.memory = next((plugin for plugin in plugin_objects if isinstance(plugin, OckhamMemory)), None)
        self.counts = RunCounters()
        self._knobs = base_knobs(plugin_objects, self.policy.hyperparameters)
        self._last = OccamContext(0, 0.0, run_id=self.run_id, **self._facts)

    def __enter__(self) -> Self:
        """Make or reopen the folder, take the log's lock, write the first events."""
        revision = self.policy.revision
        settings = {f"setting {name}": value for name, value in self.settings.items()}
        self.peers.require_equal({"run ID": self.run_id, "policy": revision, "data": self.data, **settings})
        common = {"policy_revision": revision, "settings": self.settings, "world_size": self.peers.world_size}
        loaded = {
            "policy_revision": revision,
            "policy": self.policy.name,
            "source": self.policy.source,
            "plugins": plugin_sources(self.policy, self.chain.plugins),
        }
        content = build_run_metadata(
            self.run_id,
            time.time_ns(),
            settings=self.settings,
            facts=self._facts,
            data=self.data,
            policy_revision=revision,
        )
        resumed = {} if self._resumed is None else {
            "reason_code": "RESUMED_FROM_CHECKPOINT" if self._resumed.path else "STARTED_AGAIN",
            "iter_num": self._resumed.iter_num, "snapshot_id": self._resumed.snapshot_id,
        }  # fmt: skip
        self.attempt.open((revision, self.policy.canonical), content, {**common, **resumed}, loaded)
        if self._resumed is None or self._resumed.path is None:  # else load_state_dict writes the key frame
            self._recorder.record_key_frame("START", 0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the run, valid, whatever happened; the first error is the one that is raised."""
        try:
            self._close_after(error)
        except LogError:
            if error is None:
                raise

    def finish(
        self, reason_code: str = "COMPLETED", message: str | None = None, **measured: float | None
    ) -> None:
        """End the run: the last events, everything durable and signed, Parquet written. Twice is nothing.

        Args:
            reason_code: why it ended, a stable code.
            message: one sentence for people.
            measured: `val_loss`, `backward_over_forward` and `compute_saved`, where the trainer measured them.

        """
        try:
            self.attempt.close({
                "reason_code": reason_code,
                "iter_num": self._last.iter_num,
                **self.counts.summary(),
                "message": None if message is None else message[:4096],
                **measured,
            })  # fmt: skip
        finally:  # a log that cannot be ended leaves no thread of a subscriber either
            if self._subscriptions is not None:
                self._subscriptions.close()

    def flush(self) -> TreeHead:
        """Block until everything so far is durable; returns the signed tree head of the log."""
        return self.attempt.log.flush()

    def subscribe(
        self,
        consumer: Consumer,
        *,
        type: str = "",  # noqa: A002 - as CloudEvents calls it
        reason_code: str = "",
    ) -> Subscription:
        """Call a function with each durable event from now on, on a thread of its own; the batch never waits for it.

        Args:
            consumer: takes the event as a dictionary.
            type: only these, such as `decision.made`; empty: all.
            reason_code: only those with this code; empty: all.

        Raises:
            BadInputError: if there is no such type.

        """
        if self._subscriptions is None:
            self._subscriptions = Subscriptions(self.attempt.log)
        return self._subscriptions.subscribe(consumer, type, reason_code)

    def start_batch(
        self, iter_num: int, task_loss: float, micro_step: int = 0, **fields: Any
    ) -> OccamContext:
        """Build the context of a batch whose loss has just been read, and run `on_batch_start`.

        Args:
            iter_num: optimizer step, from 0.
            task_loss: loss in nats per token, a Python float.
            micro_step: micro-batch within the step.
            fields: facts of this batch and knobs at their scheduled value, such as `learning_rate`.

        """
        self._recorder.record_key_frame_if_due(iter_num, micro_step)
        ctx = self._last.next_context(
            iter_num, task_loss, micro_step=micro_step, **merge_scheduled_knobs(self._knobs, fields)
        )
        self._recorder.begin_hook(ctx)
        self.chain.on_batch_start(ctx)
        return self._require_agreement(ctx, "on_batch_start")

    def end_batch(
        self,
        ctx: OccamContext,
        *,
        stepped: bool | None = None,
        applied: Mapping[str, Value] | None = None,
        seconds: Mapping[str, float] | None = None,
        **gauges: Any,
    ) -> OccamContext:
        """Report what was done with the batch, run `on_batch_end` and record the context.

        Args:
            ctx: the context that `start_batch` returned.
            stepped: whether the optimizer took a step; None: as the chain left `updated`.
            applied: the knob values as used; None: `updated` as the chain left it.
            seconds: how long each stage took.
            gauges: measured after the step, such as `grad_norm` and `complexity_cost`.

        """
        counts = self.counts
        counts.add_batch(
            ctx.task_loss, updated=ctx.updated, stepped=ctx.updated if stepped is None else stepped
        )
        ctx.set_gauges(update_rate=counts.updated / max(counts.finite, 1), updates=counts.updates, **gauges)
        self._recorder.set_measured(ctx)
        self.chain.on_batch_end(ctx)
        self._require_agreement(ctx, "on_batch_end")
        self._recorder.record_context(ctx, "batch", applied or {"updated": ctx.updated}, seconds or {})
        self._last = ctx
        return ctx

    def evaluate(
        self,
        ctx: OccamContext,
        val_loss: float,
        *,
        standard_error: float | None = None,
        tokens: int = 0,
        seconds: float = 0.0,
        trigger: Literal["SCHEDULE", "CONSOLIDATION", "USER"] = "USER",
        **gauges: Any,
    ) -> OccamContext:
        """Record a validation loss and let memory and anchor judge it; then look at `ctx.accepted`."""
        evaluation = {
            "iter_num": ctx.iter_num,
            "trigger": trigger,
            "val_loss": val_loss,
            "standard_error": standard_error,
            "tokens": tokens,
            "seconds": seconds,
        }
        self.attempt.log.append("evaluation.recorded", evaluation, iter_num=ctx.iter_num)
        ctx.set_gauges(val_loss=val_loss, occam_quotient=self._quotient(ctx, val_loss), **gauges)
        self._recorder.begin_hook(ctx)
        self.chain.on_evaluate(ctx)
        self._require_agreement(ctx, "on_evaluate")
        self.counts.add_evaluation(val_loss, accepted=ctx.accepted)
        self._recorder.record_context(ctx, "on_evaluate", {"updated": ctx.updated}, {"evaluation": seconds})
        return ctx

    def record_consolidation(
        self,
        ctx: OccamContext,
        *,
        drift: float,
        snapshot_id: str | None = None,
        weights_sha256: str | None = None,
    ) -> OccamContext:
        """Record that the anchor moved to the present weights, and run `on_consolidate`."""
        moved = {
            "iter_num": ctx.iter_num,
            "reason_code": "ANCHOR_MOVED",
            "decision_id": self.decision_id("consolidating"),
            "drift": drift,
            "val_loss": ctx.val_loss,
            "snapshot_id": snapshot_id,
            "weights_sha256": weights_sha256,
        }
        self.attempt.log.append("anchor.consolidated", moved, iter_num=ctx.iter_num)
        self._recorder.begin_hook(ctx)
        self.chain.on_consolidate(ctx)
        self._recorder.record_context(ctx, "on_consolidate", {"updated": ctx.updated}, {})
        ctx.set_gauges(complexity_cost=0.0, drift_raw=0.0, drift_sq=0.0)
        return ctx

    def record_rollback(
        self, ctx: OccamContext, *, anchor_iter_num: int, drift: float, seconds: float
    ) -> None:
        """Record that the weights returned to the anchor; the gauges of drift start again at 0."""
        back = {
            "iter_num": ctx.iter_num,
            "decision_id": self.decision_id("rollback"),
            "anchor_iter_num": anchor_iter_num,
            "drift": drift,
            "seconds": seconds,
        }
        self.attempt.log.append("rollback.performed", back, iter_num=ctx.iter_num, urgent=True)
        ctx.set_gauges(complexity_cost=0.0, drift_raw=0.0, drift_sq=0.0)

    def save_checkpoint(
        self,
        ctx: OccamContext,
        kind: CheckpointKind,
        pack: CheckpointPacker,
    ) -> str:
        """Keep the present weights; returns the snapshot ID, which is the folder's name under `checkpoints/`.

        The log is durable and signed before the files are written, and its tree head stands in their metadata:
        which decisions made these weights is written on them. Of kind `resume` the newest two are kept. Every rank
        calls this and packs; rank 0 alone writes.

        Args:
            ctx: the context of the batch that they come from.
            kind: only `accepted` has an accepting decision.
            pack: makes the files from metadata and, for kind `resume`, from the run's state, which goes into
                `state.json` whole, with whatever the trainer adds.

        Raises:
            CheckpointError: if the disk refuses, or nobody could go on from the files.

        """
        revision, state = self.policy.revision, self.state_dict
        return save_checkpoint(self._recorder, ctx, kind, pack, policy_revision=revision, state=state)

    @property
    def last_iter(self) -> int:
        """Iteration of the last batch that ended."""
        return self._last.iter_num

    @property
    def val_loss(self) -> float | None:
        """Loss of the last evaluation, nats/token."""
        return self._last.val_loss

    def rates(self) -> dict[str, float | None]:
        """`update_rate` of finite batches and `accept_rate` of finite evaluations so far; None before the first."""
        return self.counts.rates()

    def emit(
        self, kind: str, data: Mapping[str, Any], *, iter_num: int | None = None, urgent: bool = False
    ) -> EventPosition:
        """Hand over any other event of `schemas/`, without its position."""
        return self.attempt.log.append(kind, data, iter_num=iter_num, urgent=urgent)

    def decision_id(self, knob: str) -> str | None:
        """ID of the last decision that turned this knob on (`accepted`, `rollback`, `halt`, `consolidating`)."""
        return self._recorder.decision_id(knob)

    def state_dict(self) -> dict[str, Any]:
        """Plugin state, counters and carried gauges, as JSON: what a checkpoint keeps."""
        carried = dict(zip(GAUGES, gauge_values(self._last), strict=True))
        state = {"plugins": self.chain.state_dict(), "counts": self.counts.state_dict(), "gauges": carried,
                 "custom": dict(self._last.custom), "iter_num": self._last.iter_num}  # fmt: skip
        return dict(to_json_value(state))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up where `state_dict` left, and record the key frame that replay starts from."""
        state = from_json_value(state)
        self.chain.load_state_dict(state["plugins"])
        self.counts = RunCounters(**state["counts"])
        self._last = self._last.next_context(state["iter_num"], 0.0)
        self._last.set_gauges(**state["gauges"])
        self._last.custom.update(state["custom"])
        self._recorder.record_key_frame("RESUME", state["iter_num"] + 1)

    def _require_agreement(self, ctx: OccamContext, hook: str) -> OccamContext:
        """The context itself, where every rank left it alike.

        Raises RankDivergedError if one did not; every rank then knows, and each log says what differs.
        """
        diverged = self.peers.find_divergence(ctx, hook)
        if diverged is not None:
            self.emit("rank.diverged", diverged.event, iter_num=ctx.iter_num, urgent=True)
            raise RankDivergedError(diverged.message)
        return ctx

    def _quotient(self, ctx: OccamContext, val_loss: float) -> float | None:
        flops, megabytes = ctx.cost()
        if flops <= 0 or megabytes <= 0:
            return None
        kind = self.memory.performance if self.memory is not None else "inverse_loss"
        return occam_quotient(compute_performance(val_loss, kind, ctx.vocab_size), flops, megabytes)

    def _close_after(self, error: BaseException | None) -> None:
        if isinstance(error, PluginError):
            failed = {"iter_num": error.iter_num, "micro_step": 0, "plugin": error.plugin, "hook": error.hook,
                      "error_type": type(error.__cause__).__name__, "message": str(error.__cause__)[:4096]}  # fmt: skip
            self.attempt.fail(failed)
        self.finish(*end_reason(error))


def _resolve_policy(
    policy: str | Path | Policy | None, overrides: Sequence[str], resumed: RunFolder | None
) -> Policy:
    """The policy that was asked for; on resume without one, the one that the run was last under."""
    if isinstance(policy, Policy):
        return policy
    if policy is None and resumed is not None:
        if overrides:
            raise PolicyError(
                f"--set {overrides[0]!r} on resume changes the policy: say which one it is put on, with --preset or --policy"
            )
        return policy_from_json(resumed.policy(last_policy_revision(resumed.require_exists())).read_bytes())
    return load_policy(policy or "balanced", overrides)
