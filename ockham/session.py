"""Session: what one rank of one attempt writes with, from opening the log to its end."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ockham.errors import OckhamWarning, PolicyError
from ockham.plugin import OccamPlugin
from ockham.policy import Policy, load_policy, plugin_sources, policy_from_json
from ockham.record.attempt import Attempt, last_policy_revision
from ockham.record.checkpoints import PRUNED_DAMAGED, ResumePoint, remove_leftovers
from ockham.record.rank_group import RankGroup
from ockham.record.recorder import Recorder
from ockham.record.request_answers import read_changed_revisions
from ockham.record.run_folder import RunFolder
from ockham.record.run_metadata import build_run_metadata
from ockham.record.subscriptions import Consumer, Subscription, Subscriptions
from ockham.record.tlog.note import VerifierKey


class Session:
    """Attempt, recorder and subscriptions of one rank.

    Args:
        folder: The run's folder.
        peers: This rank and the others.
        resumed: Point from which an existing run is continued. None for a new run.

    """

    def __init__(self, folder: RunFolder, peers: RankGroup, resumed: ResumePoint | None) -> None:
        keys = () if resumed is None else resumed.keys
        self.attempt = Attempt(folder, peers, resume=resumed is not None, keys=keys)
        self.recorder = Recorder(self.attempt)
        self._subscriptions: Subscriptions | None = None
        # Called once with the data of `run.finished`, which they may complete, before it is written.
        self.finish_hooks: list[Callable[[dict[str, Any]], None]] = []

    def open(
        self,
        policy: Policy,
        plugins: Sequence[OccamPlugin],
        *,
        settings: Mapping[str, Any],
        facts: Mapping[str, Any],
        data: Mapping[str, Any],
        resumed: ResumePoint | None,
        late_start: Mapping[str, Any] | None = None,
        request_keys: Sequence[VerifierKey] = (),
    ) -> None:
        """Create or reopen the folder, lock the log and write the first events.

        Args:
            policy: The policy.
            plugins: Its plugins.
            settings: Settings of the trainer.
            facts: Facts of the run.
            data: Description of the training data.
            resumed: Point from which an existing run is continued.
            late_start: Further fields of `run.started`, if a new run begins at a later iteration.
            request_keys: Keys whose requests are applied, besides the key of the log.

        Raises:
            RunError: If the ranks differ in run ID, policy, data or settings, or a file cannot be written.

        """
        folder, peers, revision = self.attempt.folder, self.attempt.peers, policy.revision
        recorded = {f"setting {name}": value for name, value in settings.items()}
        peers.require_equal({"run ID": folder.run_id, "policy": revision, "data": data, **recorded})
        opening: dict[str, Any] = {
            "policy_revision": revision,
            "settings": {**{name: facts[name] for name in ("max_iters",) if name in facts}, **settings},
            "world_size": peers.world_size,
            **(late_start or {}),
        }
        if request_keys:
            opening["request_keys"] = [str(key) for key in request_keys]
        if resumed is not None:
            opening["reason_code"] = "RESUMED_FROM_CHECKPOINT" if resumed.path else "STARTED_AGAIN"
            opening |= {"iter_num": resumed.iter_num, "snapshot_id": resumed.snapshot_id}
        loaded = {
            "policy_revision": revision,
            "policy": policy.name,
            "source": policy.source,
            "plugins": plugin_sources(policy, plugins),
        }
        content = build_run_metadata(
            folder.run_id, time.time_ns(), settings=settings, facts=facts, data=data, policy_revision=revision
        )
        self.attempt.open((revision, policy.canonical), content, opening, loaded)
        if resumed is not None:
            self._give_up_damaged(resumed)

    def _give_up_damaged(self, resumed: ResumePoint) -> None:
        """Record the damaged checkpoints, so that their files are not expected, and remove leftovers."""
        self.attempt.resumable = list(resumed.resumable)
        if self.attempt.peers.rank == 0:
            damaged = [snapshot_id for snapshot_id, _ in resumed.damaged]
            self.attempt.record_pruned(damaged, resumed.iter_num, PRUNED_DAMAGED)
            remove_leftovers(self.attempt.folder, resumed.leftovers)

    def subscribe(self, consumer: Consumer, kind: str, reason_code: str) -> Subscription:
        """Call *consumer* with each durable event from now on. See `ockham.Run.subscribe`."""
        if self._subscriptions is None:
            self._subscriptions = Subscriptions(self.attempt.log)
        return self._subscriptions.subscribe(consumer, kind, reason_code)

    def close(self, ended: dict[str, Any]) -> None:
        """Write `run.finished`, and end the threads of the subscribers also if the log cannot be ended."""
        try:
            while self.finish_hooks:
                self.finish_hooks.pop()(ended)
            self.attempt.close(ended)
        finally:
            if self._subscriptions is not None:
                self._subscriptions.close()


def resolve_policy(
    policy: str | Path | Policy | None,
    overrides: Sequence[str],
    resumed: RunFolder | None,
    keys: Sequence[VerifierKey] = (),
) -> Policy:
    """Return the requested policy, or on resume the last policy of the run.

    Raises:
        PolicyError: If the policy cannot be used, or settings would change that of a resumed run.

    """
    if policy is None and resumed is not None:
        if overrides:
            raise PolicyError(
                f"--set {overrides[0]!r} changes the policy of a resumed run; name it with --policy"
            )
        return policy_from_json(resumed.read_policy(last_policy_revision(resumed.require_exists(), keys)))
    chosen = policy if isinstance(policy, Policy) else load_policy(policy or "balanced", overrides)
    if resumed is not None and resumed.exists():
        _warn_if_replaced(resumed, chosen, last_policy_revision(resumed, keys))
    return chosen


def _warn_if_replaced(folder: RunFolder, chosen: Policy, last_revision: str) -> None:
    """Warn if the named policy replaces one that a person has changed during the run."""
    if last_revision != chosen.revision and last_revision in read_changed_revisions(folder):
        warnings.warn(
            f"run {folder.run_id}: policy {chosen.name!r} replaces the one that a person has changed; "
            "without a policy, a resume keeps it",
            OckhamWarning,
            stacklevel=4,
        )
