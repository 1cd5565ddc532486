"""Run: policy, chain and record around any training loop. train.py uses only this public interface.

    with ockham.Run("balanced", facts={"max_iters": 600}) as run:
        for iter_num, batch in enumerate(batches):
            loss = model(batch)
            ctx = run.start_batch(iter_num, loss.item(), learning_rate=schedule(iter_num))
            if ctx.updated:
                loss.backward(); optimizer.step()
            ctx = run.end_batch(ctx, stepped=ctx.updated)
            if ctx.halt or run.stop_requested:
                break

Leaving the block ends the run: the log is valid and signed, also after an exception.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ockham.chain import PluginChain, base_knobs
from ockham.context import OccamContext
from ockham.errors import LogError, OckhamWarning, PluginError, RunError
from ockham.person_calls import completed_reason
from ockham.person_requests import PersonRequests
from ockham.plugin import OccamPlugin
from ockham.plugins.memory import OckhamMemory
from ockham.policy import Policy, policy_from_plugins, with_default_plugins
from ockham.quotient import Performance
from ockham.rank_calls import DEFAULT_WEIGHTS_INTERVAL
from ockham.record.attempt import end_reason
from ockham.record.checkpoints import ResumePoint
from ockham.record.counters import RunCounters
from ockham.record.log_writer import EventPosition
from ockham.record.rank_group import Gather, RankGroup
from ockham.record.run_folder import RunFolder, new_run_id
from ockham.record.subscriptions import Consumer, Subscription
from ockham.record.tlog.note import VerifierKey
from ockham.record.tlog.tree_head import TreeHead
from ockham.savings import Savings, SavingsCounter
from ockham.session import Session, resolve_policy
from ockham.state_calls import StateCalls
from ockham.step_audit import Meter, StepAudit

# The weights were trained before without the log of this run.
STARTED_LATE = "STARTED_LATE"


class Run(StateCalls):
    """One attempt of one run, written by one rank.

    Args:
        policy: Name of a preset, path of a policy file, or a Policy. None uses `balanced`, or on resume the
            last policy of the run.
        overrides: Settings such as `"gate.target=0.3"`.
        plugins: Plugin objects in place of a policy.
        memory: Memory that is added to `plugins`.
        runs: Folder of all runs.
        run_id: 1 to 64 characters of a-z, 0-9, `.`, `_`, `-`. None takes the run of `resumed`, or makes one
            from the time.
        settings: Settings of the trainer. They are recorded.
        facts: Facts of the whole run, such as seed, max_iters, vocab_size, model_params.
        data: Description of the training data: name, digest, sizes. It is recorded.
        resumed: Continue its run as a new attempt from this point (`ockham.find_resume_point`,
            `ockham.find_trainer_resume_point`).
        rank: Rank of this process, from 0. Each rank creates its own Run with the same `run_id`.
        world_size: Number of ranks.
        all_gather: Passes bytes to all ranks and returns those of every rank in order, such as
            `ockham.nano.DistributedRanks().all_gather`. Every verdict is compared on all ranks before any
            rank acts on it. All ranks must make the same calls.
        request_keys: Keys of people whose requests (`ockham intervene`, `stop`) are applied, besides this
            user's key.

    Raises:
        RunError: If the run exists, does not exist on resume, or its folder cannot be written.
        DataError: If the run to resume was started on other data.
        PolicyError: If the policy cannot be used.

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
        request_keys: Sequence[VerifierKey] = (),
    ) -> None:
        if run_id is None and resumed is not None:
            run_id = resumed.run_id or None
        if run_id is None and world_size > 1:
            raise RunError("run_id is required with more than one rank; give all ranks the same run_id")
        self.run_id = run_id or new_run_id()
        self.folder = RunFolder(runs, self.run_id)
        self.peers = RankGroup(rank, world_size, all_gather)
        self.settings = dict(settings or {})
        self.data = dict(data or {})
        self._resumed = resumed
        self._late_start: dict[str, Any] = {}
        self.facts = dict(facts or {})
        if resumed is not None:
            resumed.require_data(self.run_id, self.data)
        keys = () if resumed is None else resumed.keys
        if plugins is not None:
            plugin_objects = with_default_plugins(plugins, memory)
            self.policy = policy_from_plugins(plugin_objects)
        else:
            self.policy = resolve_policy(policy, overrides, self.folder if resumed else None, keys)
            plugin_objects = self.policy.build()
        self._session = Session(self.folder, self.peers, resumed)
        self.attempt, self._recorder = self._session.attempt, self._session.recorder
        self._requests = PersonRequests(self.attempt, request_keys)
        # Integrations restore what they changed, and complete the data of `run.finished`.
        self.finish_hooks = self._session.finish_hooks
        self.chain = PluginChain(plugin_objects, self._recorder.record_decision)
        self._recorder.state = self.chain.state_dict
        self.memory = next((plugin for plugin in plugin_objects if isinstance(plugin, OckhamMemory)), None)
        self._performance: Performance = "inverse_loss" if self.memory is None else self.memory.performance
        self.counts = RunCounters(savings=SavingsCounter(world_size=world_size))
        self._knobs = base_knobs(plugin_objects, self.policy.hyperparameters)
        self._last = OccamContext(0, 0.0, run_id=self.run_id, **self.facts)
        self._rows: Mapping[str, Any] | None = None
        self._is_started = False
        self._warned_none_accepted = False
        self._warned_no_gradients = False
        self._audit = StepAudit(None if resumed is None else resumed.iter_num)
        self._weights_interval = DEFAULT_WEIGHTS_INTERVAL if all_gather is not None else 0

    def __enter__(self) -> Self:
        """Start the run. See `start`."""
        return self.start()

    def start(self) -> Self:
        """Create or reopen the folder, lock the log and write the first events. Return the run.

        In a notebook, call `start` and `finish` in place of a `with` block.

        Raises:
            RunError: If the run has started already, or its folder cannot be written.

        """
        if self._is_started:
            raise RunError(f"run {self.run_id!r} was started already; create another ockham.Run")
        self._is_started = True
        self._session.open(
            self.policy,
            self.chain.plugins,
            settings=self.settings,
            facts=self.facts,
            data=self.data,
            resumed=self._resumed,
            late_start=self._late_start,
            request_keys=self._requests.keys,
        )
        # After a resume from a checkpoint, load_state_dict writes the key frame.
        if self._resumed is None or self._resumed.path is None:
            self._recorder.record_key_frame("START", self._late_start.get("iter_num", 0))
        return self

    def begin_at(self, iter_num: int, warning: str) -> Self:
        """Begin at a later iteration, because the weights were trained before without this log.

        Call it before `start`. It is recorded in `run.started`. Return the run.

        Args:
            iter_num: Iteration of the first batch.
            warning: The known facts about the earlier training, one sentence.

        Raises:
            RunError: If the run has started, or continues an earlier attempt.

        """
        if self._is_started or self._resumed is not None:
            state = "has started already" if self._is_started else "continues an earlier attempt"
            raise RunError(f"run.begin_at: run {self.run_id!r} {state}; call it on a new run, before start()")
        self._late_start = {"iter_num": iter_num, "reason_code": STARTED_LATE, "warnings": [warning]}
        self._audit = StepAudit(iter_num)
        return self

    @property
    def first_iter(self) -> int:
        """Iteration of the first batch of this attempt."""
        resumed = 0 if self._resumed is None else self._resumed.iter_num
        return int(self._late_start.get("iter_num", resumed))

    @property
    def resume_point(self) -> ResumePoint | None:
        """Point from which this attempt continues. None for a new run."""
        return self._resumed

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the run. If both the block and the end fail, the exception of the block is raised."""
        try:
            if isinstance(error, PluginError):
                self.attempt.fail(error)
            self.finish(*end_reason(error))
        except LogError:
            if error is None:
                raise

    def finish(
        self, reason_code: str = "COMPLETED", message: str | None = None, **measured: float | None
    ) -> None:
        """End the run: write the last events, sync and sign everything, and start to write Parquet.

        Calling it again has no effect.

        Args:
            reason_code: Why the run ended, as a stable code.
            message: One sentence for people. None for no message.
            measured: `val_loss`, if the trainer measured it.

        """
        self._require_started("finish")
        was_open = self.attempt.is_open
        ended = {
            "reason_code": completed_reason(reason_code, stopped=self.stop_requested),
            "iter_num": self._last.iter_num,
            **self.counts.summary(),
            "message": (message or self.stop_message or "")[:4096] or None,
            **measured,
        }
        self._session.close(ended)
        if was_open and (explanation := self._explain_no_acceptance()):
            warnings.warn(f"run {self.run_id}: {explanation}", OckhamWarning, stacklevel=2)

    def watch(self, *optimizers: Any, measure_norm: bool = False) -> Meter:
        """Measure the steps of torch optimizers from now on. Every step is compared with its verdict.

        The learning rates, whether a step was taken and whether the weights changed then come from the
        optimizer and the weights. Without it the record contains what the loop reports.

        Args:
            optimizers: Optimizers from `torch.optim`.
            measure_norm: Measure the norm of the gradient at each step, after clipping.

        Raises:
            BadInputError: If an object is not a torch optimizer.

        """
        from ockham.nano.step_meter import StepMeter

        if self._audit.meter is not None:
            self._audit.meter.close()
        self._audit.meter = StepMeter(*optimizers, measure_norm=measure_norm)
        self.compare_weights(self._audit.meter)
        return self._audit.meter

    def flush(self) -> TreeHead:
        """Block until all appended events are durable. Return the signed tree head of the log."""
        self._require_started("flush")
        return self.attempt.log.flush()

    def subscribe(
        self,
        consumer: Consumer,
        *,
        type: str = "",  # noqa: A002 - as CloudEvents calls it
        reason_code: str = "",
    ) -> Subscription:
        """Call *consumer* with each durable event from now on, on a separate thread.

        The training loop never waits for a consumer.

        Args:
            consumer: Takes the event as a dictionary.
            type: Only events of this kind, such as `decision.made`. Empty means all.
            reason_code: Only events with this reason code. Empty means all.

        Raises:
            BadInputError: If the type does not exist.

        """
        self._require_open("subscribe")
        return self._session.subscribe(consumer, type, reason_code)

    @property
    def last_iter(self) -> int:
        """Iteration of the last batch that ended."""
        return self._last.iter_num

    @property
    def val_loss(self) -> float | None:
        """Loss of the last evaluation in nats/token, None before the first."""
        return self._last.val_loss

    def rates(self) -> dict[str, float | None]:
        """Return `update_rate` of finite batches and `accept_rate` of finite evaluations, else None."""
        return self.counts.rates()

    def savings(self) -> Savings:
        """Return the estimate of the compute that skipped batches have saved until now."""
        return self.counts.savings.estimate()

    def emit(
        self, kind: str, data: Mapping[str, Any], *, iter_num: int | None = None, urgent: bool = False
    ) -> EventPosition:
        """Append another event of `schemas/`. The log adds its position.

        Args:
            kind: Event kind, such as `adapter.enabled`.
            data: Data of the event without its position.
            iter_num: Iteration of the event. None if it has none.
            urgent: Sync at once.

        """
        self._require_open("emit")
        return self.attempt.log.append(kind, data, iter_num=iter_num, urgent=urgent)

    def decision_id(self, knob: str) -> str | None:
        """Return the ID of the last decision that set *knob*, such as `accepted` or `rollback`."""
        return self._recorder.decision_id(knob)
