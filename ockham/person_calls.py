"""Requests of people during a run: notes, changes of the policy, and its end. `ockham.Run` inherits them."""

from __future__ import annotations

from ockham.chain import PluginChain
from ockham.errors import BadInputError, RunStoppedError
from ockham.event import STOPPED_BY_USER, Value
from ockham.person_requests import PersonRequests
from ockham.plugins.memory import OckhamMemory
from ockham.policy import Policy, plugin_sources
from ockham.policy.change import PolicyChange, change_policy, changed_base_knobs
from ockham.quotient import Performance
from ockham.record.attempt import Attempt
from ockham.record.durable_io import atomic_write
from ockham.record.recorder import Recorder
from ockham.record.requests import SignedRequest, event_fields


class PersonCalls:
    """Applies the requests of people between two steps. `ockham.Run` sets the attributes."""

    run_id: str
    policy: Policy
    chain: PluginChain
    attempt: Attempt
    memory: OckhamMemory | None
    _recorder: Recorder
    _requests: PersonRequests
    _knobs: dict[str, Value]
    _performance: Performance

    @property
    def stop_requested(self) -> bool:
        """True after `ockham stop`. The loop ends after the present step. Equal on all ranks."""
        return self._requests.stop is not None

    @property
    def stop_message(self) -> str | None:
        """Who has stopped the run, and why. None if it was not stopped."""
        stop = self._requests.stop
        return None if stop is None else f"stopped by {stop.request.by}: {stop.request.reason}"

    def _require_not_stopped(self) -> None:
        """Raise RunStoppedError if a person has stopped the run, and the loop starts another step."""
        if self.stop_requested:
            raise RunStoppedError(f"run {self.run_id!r}: {self.stop_message}")

    def _apply_interventions(self, iter_num: int) -> None:
        """Change the policy as people have requested. Each change is signed before it has an effect."""
        for signed in self._requests.take_changes():
            try:
                change = change_policy(self.policy, self.chain.plugins, signed.request.settings)
            except BadInputError as error:
                self._requests.refuse(iter_num, signed, str(error))
                continue
            self._record_intervention(iter_num, signed, change)
            self._use_policy(change)
            self._requests.complete(signed)

    def _record_intervention(self, iter_num: int, signed: SignedRequest, change: PolicyChange) -> None:
        """Record the request, the new policy, and the state that its plugins start from."""
        attempt, revision = self.attempt, change.policy.revision
        if attempt.rank == 0:
            atomic_write(attempt.folder.policy(revision), change.policy.canonical)
        kind, data = event_fields(signed)
        data |= {
            "iter_num": iter_num,
            "from_policy_revision": self.policy.revision,
            "policy_revision": revision,
            "changes": [changed._asdict() for changed in change.changes],
        }
        attempt.log.append(kind, data, iter_num=iter_num)
        loaded = {
            "policy_revision": revision,
            "policy": change.policy.name,
            "source": f"intervention {signed.request.request_id}",
            "plugins": plugin_sources(change.policy, change.plugins),
        }
        attempt.log.append("policy.loaded", loaded)
        self._recorder.record_key_frame("INTERVENTION", iter_num)
        attempt.log.set_policy_revision(revision)

    def _use_policy(self, change: PolicyChange) -> None:
        self.policy = change.policy
        self.chain.replace_plugins(change.plugins)
        self._knobs = changed_base_knobs(change)
        self.memory = next((plugin for plugin in change.plugins if isinstance(plugin, OckhamMemory)), None)
        if self.memory is not None:
            self._performance = self.memory.performance


def completed_reason(reason_code: str, *, stopped: bool) -> str:
    """Return the reason code of the end of a loop that does not distinguish a stop from its last step."""
    return STOPPED_BY_USER if stopped and reason_code == "COMPLETED" else reason_code
