"""Verification of the sequence of events: knob changes, contexts, decisions and checkpoints of one log."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from operator import attrgetter
from typing import Any

import orjson
from msgspec import UNSET

from ockham.applied_step import REFUSAL_CAUSES
from ockham.context import KNOBS
from ockham.event import TYPES
from ockham.fields import STEP_KNOBS
from ockham.record.fast_decode import CONTEXT, DECISION, ContextData, DecisionData, Event, Gradients, Left
from ockham.record.log_tailer import peek_event_kind
from ockham.record.rank_group import PER_RANK_KNOBS
from ockham.record.requests import EVENT_KINDS
from ockham.record.run_folder import LEDGER, RunFolder, read_regular_file
from ockham.record.verify.log_summary import LogSummary
from ockham.record.verify.people import find_request_problem
from ockham.record.verify.report import FindingClass, VerificationReport

_FIRST_HOOK = {
    "batch": ("on_batch_start", "on_gradients", "on_batch_end"),
    "on_evaluate": ("on_evaluate",),
    "on_consolidate": ("on_consolidate",),
}
# May end inside a batch.
ABNORMAL_END_REASONS = frozenset({"FAILED", "PLUGIN_FAILED", "INTERRUPTED", "RANK_DIVERGED", "RANK_LOST"})
_NOTHING_LEFT = Left()
_NO_GRADIENTS = Gradients()
# A context. Empty if no micro-batch was accepted, None if events are missing.
_Accepted = ContextData | tuple[()] | None
_knobs: Callable[[Any], tuple[Any, ...]] = attrgetter(*KNOBS)
_step_values: Callable[[Any], tuple[Any, ...]] = attrgetter(*STEP_KNOBS)


class SequenceChecker:
    """Checks the events of one log, or of a part of it, in order.

    It checks the chain of knob changes (the value after plugin i is the value before i+1, and the last one is
    the value used), that each batch has its context and each context its decisions, and that blobs and
    run.json are the named ones. Facts that depend on other parts of the log are collected in `summary`.
    """

    def __init__(
        self, folder: RunFolder, attempt: int, rank: int, report: VerificationReport, world_size: int
    ) -> None:
        self.folder, self.attempt, self.rank, self.world_size = folder, attempt, rank, world_size
        self.start_reporting(report)
        self._pending: list[tuple[int, DecisionData]] = []
        # The batch before, where the next must follow it.
        self._last: tuple[int, int] | None = None
        # Last accepted micro-batch of the present step.
        self._accepted: _Accepted = None
        self._finished = False
        # First and last position of each range of the data that is not read from here on.
        self._skipped: list[tuple[int, int]] = []
        # In the ledger each log is one entry of any kind.
        self._opening = TYPES if folder.run_id == LEDGER else ("run.started", "run.resumed")
        names = {kind: "_" + kind.replace(".", "_") for kind in TYPES}
        self._handlers = {kind: getattr(self, name) for kind, name in names.items() if hasattr(self, name)}
        self._handlers |= {kind: partial(self._person_event, kind) for kind in EVENT_KINDS.values()}

    def start_reporting(self, report: VerificationReport) -> None:
        """Start reporting. Events fed before this call only restore the state at the start of the segment."""
        self.report, self.summary, self._decisions, self._contexts = report, LogSummary(), 0, 0

    def feed(self, first: int, events: Sequence[Event | None]) -> None:
        """Check events in order. None is a line that is not an event."""
        policies = self.summary.policies
        revision = None
        for sequence, event in enumerate(events, first):
            if event is None:
                # Reported already; dependent checks are not possible.
                self._pending.clear()
                self._last = self._accepted = None
                continue
            kind, id_, data = event
            if self._finished or sequence == 0:
                self._check_ends(sequence, kind)
            before = revision
            # The most frequent first.
            if kind == DECISION:
                revision = data.policy_revision
                self._pending.append((sequence, data))
                if data.changes and not data.shadow:
                    self._note_acceptance(id_, data)
            elif kind == CONTEXT:
                revision = data.policy_revision
                self._context_recorded(sequence, data)
            else:
                revision = data.get("policy_revision")
                if kind in self._handlers:
                    self._handlers[kind](sequence, data)
            if revision != before and revision not in policies and revision is not None:
                policies[revision] = sequence
        kinds = Counter([event[0] for event in events if event is not None])
        self._decisions += kinds[DECISION]
        self._contexts += kinds[CONTEXT]

    def finish(self) -> LogSummary:
        """Return the collected facts after the last event."""
        self.summary.pending = len(self._pending)
        self.summary.pending_batches = len({(made.iter_num, made.micro_step) for _, made in self._pending})
        for what, number in (("decisions", self._decisions), ("contexts", self._contexts)):
            if number:
                self.report.count(what, number)
        return self.summary

    def feed_unsigned(self, lines: Iterable[bytes]) -> None:
        """Collect the kinds of unsigned lines. After a signed end the writer appends only log.sealed."""
        if self._finished:
            self.summary.kinds_after_end.update(map(peek_event_kind, lines))

    def _check_ends(self, sequence: int, kind: str) -> None:
        """Check that a log opens with a start or a resume, and that only log.sealed follows its end."""
        if self._finished and kind != "log.sealed":
            self._contradiction(sequence, f"{kind} follows the end of the run")
        if sequence == 0 and kind not in self._opening:
            self._contradiction(0, f"a log opens with run.started or run.resumed, not with {kind}")

    def _note_acceptance(self, id_: str, data: DecisionData) -> None:
        for change in data.changes:
            if change.field == "accepted" and change.after is True:
                self.summary.acceptances_and_checkpoints.append((id_, data.iter_num))

    def _context_recorded(self, sequence: int, data: ContextData) -> None:
        key = (data.iter_num, data.micro_step)
        accepted: _Accepted = ()
        if data.hook == "batch":
            last, self._last = self._last, key
            if last is not None and key != (last[0] + 1, 0) and key != (last[0], last[1] + 1):
                self._contradiction(sequence, f"batch {key} follows batch {last}")
            if self._skipped:
                self._check_position(sequence, data)
            accepted = self._note_step(data)
        decisions, self._pending = self._pending, []
        counted = data.decisions
        if counted.count != len(decisions) or (decisions and counted.first != decisions[0][0]):
            self._contradiction(
                sequence,
                f"this context names {counted.count} decisions from {counted.first}, "
                f"but the log has {len(decisions)}",
            )
            return
        turned: dict[str, Any] = {}
        hooks = _FIRST_HOOK[data.hook]
        gradients: Any = data.gradients
        has_knobs = gradients is not UNSET and gradients != _NO_GRADIENTS
        step_knobs = self._step_knobs(sequence, data, accepted) if has_knobs else {}
        for at, decision in decisions:
            if step_knobs and decision.hook != "on_batch_start":
                turned.update(step_knobs)
                step_knobs = {}
            if (decision.iter_num, decision.micro_step) != key or decision.hook not in hooks:
                self._contradiction(sequence, f"decision {at} is of another batch or hook than its context")
            if decision.changes and not decision.shadow:
                self._apply_changes(sequence, at, decision, data.given, turned)
        if step_knobs:
            turned.update(step_knobs)
        # Without a change, the knobs are left as they were given.
        matches = _matches_changes(data, turned) if turned else data.left == _NOTHING_LEFT
        if not matches:
            self._check_left_knobs(sequence, data, turned)
        if self.world_size > 1:
            self._hash_knobs(data)

    def _hash_knobs(self, data: ContextData) -> None:
        """Store eight bytes of the knobs after the chain, which are compared between ranks."""
        knobs = zip(KNOBS, _knobs(data.left), _knobs(data.given), strict=True)
        left = [given if left is UNSET else left for name, left, given in knobs if name not in PER_RANK_KNOBS]
        shared = [data.hook, data.iter_num, data.micro_step, *left]
        self.summary.knob_hashes.append(
            int.from_bytes(hashlib.blake2b(orjson.dumps(shared), digest_size=8).digest())
        )
        self.summary.iterations.append(int(data.iter_num))

    def _check_left_knobs(self, sequence: int, data: ContextData, turned: Mapping[str, Any]) -> None:
        """Check the knobs that a context records as left. Unchanged knobs are skipped."""
        for name, left in zip(KNOBS, _knobs(data.left), strict=True):
            if left is UNSET and name not in turned:
                continue
            given = getattr(data.given, name)
            was, now = turned.get(name, given), given if left is UNSET else left
            if not _same(was, now):
                self._contradiction(
                    sequence, f"{name} was left at {now!r:.40}, and the decisions leave it at {was!r:.40}"
                )

    def _apply_changes(
        self, sequence: int, at: int, decision: DecisionData, given: Any, turned: dict[str, Any]
    ) -> None:
        for change in decision.changes:
            name = change.field
            current = turned.get(name, UNSET)
            if current is UNSET:
                current = getattr(given, name)
            before = change.before
            if (type(current) is not type(before) or current != before) and not _same(current, before):
                self._contradiction(
                    sequence,
                    f"decision {at} of {decision.plugin!r:.40} turned {name} from {before!r:.40}, "
                    f"and it stood at {current!r:.40}",
                )
            turned[name] = change.after

    def _note_step(self, data: ContextData) -> _Accepted:
        """Return the last accepted micro-batch of the step, if it is an earlier one.

        The result is empty without one, and None if events are missing.
        """
        earlier: _Accepted = self._accepted if data.micro_step else ()
        given: Any = data.given
        left: Any = data.left
        if not (given.updated if left.updated is UNSET else left.updated):
            self._accepted = earlier
            return earlier
        self._accepted = data
        return ()

    def _step_knobs(self, sequence: int, data: ContextData, accepted: _Accepted) -> dict[str, Any]:
        """Return the knobs that the step has from its last accepted micro-batch, before `on_gradients`.

        Args:
            sequence: Sequence number of the context.
            data: Context of the last micro-batch of the step.
            accepted: An earlier accepted micro-batch. Empty without one, None if events are missing.

        """
        pairs = zip(STEP_KNOBS, _step_values(data.gradients), strict=True)
        step_knobs = {name: value for name, value in pairs if value is not UNSET}
        if accepted is None:
            return step_knobs
        known = _left_step_knobs(accepted) if accepted else {}
        for name, value in step_knobs.items():
            if not _same(value, known.get(name)):
                message = (
                    f"the step has {name} {value!r:.40}, and no accepted micro-batch of it has this value"
                )
                self._contradiction(sequence, message)
        return step_knobs

    def _check_position(self, sequence: int, data: ContextData) -> None:
        """Check that the rows of a batch are not in a range that the log records as skipped."""
        position = UNSET if data.rows is UNSET else data.rows.position
        if position is not UNSET and any(first <= position <= last for first, last in self._skipped):
            self._contradiction(
                sequence, f"this batch read position {position}, which is recorded as skipped"
            )

    def _data_skipped(self, _sequence: int, data: Mapping[str, Any]) -> None:
        self._skipped.append((data["first_position"], data["last_position"]))

    def _verdict_not_applied(self, sequence: int, data: Mapping[str, Any]) -> None:
        kind: FindingClass = "refused step" if data["reason_code"] in REFUSAL_CAUSES else "not applied"
        message = (
            f"iteration {data['iter_num']}: {data['field']} was decided as {data['decided']!r:.40}, "
            f"and {data['applied']!r:.40} was measured ({data['reason_code']})"
        )
        self.report.add(kind, self._place(), message, sequence, f"{kind} {data['reason_code']}")

    def _checkpoint_saved(self, _sequence: int, data: Mapping[str, Any]) -> None:
        self.summary.acceptances_and_checkpoints.append(data)

    def _checkpoint_pruned(self, _sequence: int, data: Mapping[str, Any]) -> None:
        self.summary.pruned.add(data["snapshot_id"])

    def _person_event(self, kind: str, sequence: int, data: Mapping[str, Any]) -> None:
        if (problem := find_request_problem(kind, data, self.folder.run_id)) is not None:
            self._contradiction(sequence, problem)
        key = str(data["key"])
        self.summary.request_keys.setdefault(key, sequence)
        self.summary.request_counts[key] += 1

    def _rollback_performed(self, sequence: int, data: Mapping[str, Any]) -> None:
        if "snapshot_id" in data:
            self.summary.restored.append((sequence, data["snapshot_id"], data.get("weights_sha256", "")))

    def _run_started(self, sequence: int, data: Mapping[str, Any]) -> None:
        self.summary.trusted_request_keys.update(data.get("request_keys", ()))
        self.summary.world_size = data["world_size"]
        self._check_run_json(sequence, data["run_json_sha256"])

    def _run_resumed(self, sequence: int, data: Mapping[str, Any]) -> None:
        self.summary.resumed, self.summary.world_size = data, data["world_size"]
        self.summary.trusted_request_keys.update(data.get("request_keys", ()))
        if "run_json_sha256" in data:
            self._check_run_json(sequence, data["run_json_sha256"])

    def _check_run_json(self, sequence: int, expected: str) -> None:
        try:
            digest = hashlib.sha256(read_regular_file(self.folder.run_json)).hexdigest()
        except OSError:
            digest = ""
        if digest != expected:
            message = "is not the file whose digest the first event gives"
            self.report.add("tampering", "run.json", message, sequence, "run.json")

    def _run_finished(self, _sequence: int, data: Mapping[str, Any]) -> None:
        self._finished = self.summary.finished = True
        self.summary.ended_mid_batch = data["reason_code"] in ABNORMAL_END_REASONS
        self.summary.rank_logs = data.get("rank_logs") or ()

    def _log_recovered(self, _sequence: int, data: Mapping[str, Any]) -> None:
        self.summary.cut_files.add(data["cut_file"])

    def _log_gap(self, sequence: int, data: Mapping[str, Any]) -> None:
        self._last = self._accepted = None
        count = "an unknown number of" if data["count"] is None else data["count"]
        self._gap(sequence, f"the log records {count} missing events ({data['reason_code']})")

    def _log_halted(self, sequence: int, data: Mapping[str, Any]) -> None:
        self._last = self._accepted = None
        self._gap(
            sequence, f"the log was halted ({data['reason_code']}): {data['lost_events']} events were lost"
        )

    def _gap(self, sequence: int, message: str) -> None:
        self.report.add("gap", self._place(), message, sequence)

    def _plugin_state_recorded(self, sequence: int, data: Mapping[str, Any]) -> None:
        place, state = f"blobs/{data['state_sha256']}", data["state"]
        if state is None:
            self.summary.blobs.add(data["state_sha256"])
        try:
            raw = (
                orjson.dumps(state, option=orjson.OPT_SORT_KEYS)
                if state is not None
                else read_regular_file(self.folder.blob(data["state_sha256"]))
            )
        except OSError:
            self.report.add("corruption", place, "the plugin state of a key frame is missing", sequence)
            return
        if hashlib.sha256(raw).hexdigest() != data["state_sha256"]:
            self.report.add("tampering", place, "the plugin state is not the one recorded", sequence)
        self.report.count("key frames")

    def _contradiction(self, sequence: int, message: str) -> None:
        self.report.add("contradiction", self._place(), message, sequence)

    def _place(self) -> str:
        return f"log/{self.attempt}-{self.rank}"


def _matches_changes(data: ContextData, turned: Mapping[str, Any]) -> bool:
    """Return True if the knobs were left exactly as they were changed, which is the common case.

    Equal values of one type satisfy `_same` too. A knob that was changed back to its given value is not
    written.
    """
    expected = {}
    for name, value in turned.items():
        was = getattr(data.given, name)
        if was != value:
            was = getattr(data.left, name)
            expected[name] = value
        if type(was) is not type(value):
            return False
    return bool(data.left == (Left(**expected) if expected else _NOTHING_LEFT))


def _left_step_knobs(data: Any) -> dict[str, Any]:
    """Return the knobs of the step after a micro-batch."""
    pairs = zip(STEP_KNOBS, _step_values(data.left), _step_values(data.given), strict=True)
    return {name: given if left is UNSET else left for name, left, given in pairs}


def _same(one: Any, other: Any) -> bool:
    """Return True if two values are equal as JSON: 1 equals 1.0, true does not equal 1."""
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)
