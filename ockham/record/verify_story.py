"""Verifying what the events of one log say together: who turned which knob, which decision made which checkpoint."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Mapping
from typing import Any

import orjson

from ockham.context import FIELDS, KNOBS
from ockham.event import kind_of, lossless
from ockham.record.folder import RunFolder
from ockham.record.peers import OWN
from ockham.record.report import Report
from ockham.record.verify_log import Line

_DEFAULTS = {field.name: lossless(field.default) for field in FIELDS}
_FIRST_HOOK = {
    "batch": ("on_batch_start", "on_batch_end"),
    "on_evaluate": ("on_evaluate",),
    "on_consolidate": ("on_consolidate",),
}
BROKEN_OFF = (
    "FAILED",
    "PLUGIN_FAILED",
    "INTERRUPTED",
    "RANK_DIVERGED",
    "RANK_LOST",
)  # may end inside a batch


class Story:
    """Follows the events of one log in order.

    It checks the chain of knob changes (the value after plugin i is the value before i+1, and the last is the value
    used), that each batch has its context and each context its decisions, that each accepted checkpoint has the
    decision that accepted it, and that policies, blobs and run.json are the ones named.
    """

    def __init__(self, folder: RunFolder, attempt: int, rank: int, report: Report) -> None:
        self.folder, self.attempt, self.rank, self.report = folder, attempt, rank, report
        self.checkpoints: list[Mapping[str, Any]] = []
        self.pruned: set[str] = set()
        self.resumed: Mapping[str, Any] | None = None
        self.world_size = 1
        self.finished = self.broken = False
        self.left, self.iterations = (
            array("Q"),
            array("Q"),
        )  # of each context, to be held against other ranks'
        self._pending: list[Mapping[str, Any]] = []
        self._accepting: dict[str, int] = {}
        self._policies: dict[str, bool] = {}
        self._last: tuple[int, int] | None = None
        self._gap_said = False

    def tell(self, line: Line) -> None:
        """Take one event."""
        event = line.event
        if event is None:
            self._pending.clear()  # said already; what hangs on it cannot be judged
            self._last, self._gap_said = None, True
            return
        kind, data = kind_of(event["type"]), event["data"]
        if line.sequence == 0 and kind not in ("run.started", "run.resumed"):
            self._odd(line, f"a log opens with run.started or run.resumed, not with {kind}")
        if "policy_revision" in data:
            self._policy(line, data["policy_revision"])
        handler = getattr(self, "_" + kind.replace(".", "_"), None)
        if handler is not None:
            handler(line, event, data)

    def end(self) -> None:
        """What can be said once the log has ended."""
        if self.finished and self._pending and not self._ended_inside():
            self.report.add(
                "contradiction",
                self._place(),
                f"{len(self._pending)} decisions at the end belong to no context",
            )

    def _ended_inside(self) -> bool:
        """Whether the attempt broke off inside a batch, whose decisions then have no context."""
        return self.broken and len({(made["iter_num"], made["micro_step"]) for made in self._pending}) == 1

    def _decision_made(self, line: Line, event: Mapping[str, Any], data: Mapping[str, Any]) -> None:
        self._pending.append({**data, "id": event["id"], "line": line.sequence})
        if (
            any(c["field"] == "accepted" and c["after"] is True for c in data["changes"])
            and not data["shadow"]
        ):
            self._accepting[event["id"]] = data["iter_num"]
        self.report.count("decisions")

    def _context_recorded(self, line: Line, _event: Mapping[str, Any], data: Mapping[str, Any]) -> None:
        self.report.count("contexts")
        self._order(line, data)
        own, self._pending = self._pending, []
        said = data["decisions"]
        if said["count"] != len(own) or (own and said["first"] != own[0]["line"]):
            self._odd(
                line,
                f"this context says {said['count']} decisions from {said['first']}, and the log has {len(own)}",
            )
            return
        knobs = {name: data["given"].get(name, _DEFAULTS[name]) for name in KNOBS}
        for decision in own:
            key = (decision["iter_num"], decision["micro_step"])
            if (
                key != (data["iter_num"], data["micro_step"])
                or decision["hook"] not in _FIRST_HOOK[data["hook"]]
            ):
                self._odd(line, f"decision {decision['line']} is of another batch or hook than its context")
            if not decision["shadow"]:
                self._turn(line, decision, knobs)
        left = {name: data["left"].get(name, data["given"].get(name, _DEFAULTS[name])) for name in KNOBS}
        if self.world_size > 1:
            self._remember(data, left)
        for name in KNOBS:
            if not _same(knobs[name], left[name]):
                self._odd(
                    line,
                    f"{name} was left at {left[name]!r:.40}, and the decisions leave it at {knobs[name]!r:.40}",
                )

    def _remember(self, data: Mapping[str, Any], left: Mapping[str, Any]) -> None:
        """Eight bytes of how the chain left a context: ranks are compared without holding their contexts."""
        shared = [
            data["hook"],
            data["iter_num"],
            data["micro_step"],
            *(left[n] for n in KNOBS if n not in OWN),
        ]
        self.left.append(int.from_bytes(hashlib.blake2b(orjson.dumps(shared), digest_size=8).digest()))
        self.iterations.append(data["iter_num"])

    def _turn(self, line: Line, decision: Mapping[str, Any], knobs: dict[str, Any]) -> None:
        for change in decision["changes"]:
            name = change["field"]
            if not _same(knobs.get(name), change["before"]):
                self._odd(
                    line,
                    f"decision {decision['line']} of {decision['plugin']!r:.40} turned {name} from {change['before']!r:.40}, "
                    f"and it stood at {knobs.get(name)!r:.40}",
                )
            knobs[name] = change["after"]

    def _order(self, line: Line, data: Mapping[str, Any]) -> None:
        """Each micro-batch of each iteration once, in order."""
        if data["hook"] != "batch":
            return
        now = (data["iter_num"], data["micro_step"])
        last, self._last = self._last, now
        said, self._gap_said = self._gap_said, False
        if last is None or said:
            return
        following = (last[0], last[1] + 1), (last[0] + 1, 0)
        if now not in following:
            self._odd(line, f"batch {now} follows batch {last}")

    def _checkpoint_saved(self, line: Line, _event: Mapping[str, Any], data: Mapping[str, Any]) -> None:
        self.checkpoints.append(data)
        if data["kind"] != "accepted":
            return
        if self._accepting.get(data["decision_id"]) != data["iter_num"]:
            self.report.add(
                "checkpoint", data["snapshot_id"],
                f"names decision {data['decision_id']}, which accepted nothing at iteration {data['iter_num']}", line.sequence,
            )  # fmt: skip

    def _checkpoint_pruned(self, _line: Line, _event: Mapping[str, Any], data: Mapping[str, Any]) -> None:
        self.pruned.add(data["snapshot_id"])

    def _run_started(self, line: Line, _event: Mapping[str, Any], data: Mapping[str, Any]) -> None:
        self.world_size = data["world_size"]
        try:
            digest = hashlib.sha256(self.folder.run_json.read_bytes()).hexdigest()
        except OSError:
            digest = ""
        if digest != data["run_json_sha256"]:
            self.report.add(
                "tampering", "run.json", "is not the file whose digest run.started gives", line.sequence
            )

    def _run_resumed(self, _line: Line, _event: Mapping[str, Any], data: Mapping[str, Any]) -> None:
        self.resumed, self.world_size = data, data["world_size"]

    def _run_finished(self, _line: Line, _event: Mapping[str, Any], data: Mapping[str, Any]) -> None:
        self.finished, self.broken = True, data["reason_code"] in BROKEN_OFF

    def _log_gap(self, line: Line, _event: Mapping[str, Any], data: Mapping[str, Any]) -> None:
        self._gap_said = True
        count = "an unknown number of" if data["count"] is None else data["count"]
        said = f"the log says that {count} events are missing ({data['reason_code']})"
        self.report.add("gap", self._place(), said, line.sequence)

    def _log_halted(self, line: Line, _event: Mapping[str, Any], data: Mapping[str, Any]) -> None:
        self._gap_said = True
        said = f"the log was halted ({data['reason_code']}): {data['lost_events']} events were lost"
        self.report.add("gap", self._place(), said, line.sequence)

    def _plugin_state_recorded(self, line: Line, _event: Mapping[str, Any], data: Mapping[str, Any]) -> None:
        state = data["state"]
        try:
            raw = (
                orjson.dumps(state, option=orjson.OPT_SORT_KEYS)
                if state is not None
                else self.folder.blob(data["state_sha256"]).read_bytes()
            )
        except OSError:
            said = "the plugin state of a key frame is missing"
            self.report.add("corruption", f"blobs/{data['state_sha256']}", said, line.sequence)
            return
        if hashlib.sha256(raw).hexdigest() != data["state_sha256"]:
            said = "the plugin state is not the one recorded"
            self.report.add("tampering", f"blobs/{data['state_sha256']}", said, line.sequence)
        self.report.count("key frames")

    def _policy(self, line: Line, revision: str) -> None:
        if revision in self._policies:
            return
        try:
            found = hashlib.sha256(self.folder.policy(revision).read_bytes()).hexdigest()
        except OSError:
            found = "missing"
        self._policies[revision] = f"sha256:{found}" == revision
        self.report.count("policies")
        if not self._policies[revision]:
            why = "is missing" if found == "missing" else "has other bytes"
            self.report.add(
                "policy missing", f"policies/{revision.removeprefix('sha256:')}.json", why, line.sequence
            )

    def _odd(self, line: Line, message: str) -> None:
        self.report.add("contradiction", self._place(), message, line.sequence)

    def _place(self) -> str:
        return f"log/{self.attempt}-{self.rank}"


def _same(one: Any, other: Any) -> bool:
    """Equal as JSON: 1 and 1.0 are one number, true is none."""
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)
