"""Attempt: one continuous execution of a run, written by one rank into one log."""

from __future__ import annotations

import contextlib
import hashlib
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from ockham.errors import (
    LogError,
    PluginError,
    RankDivergedError,
    RankError,
    RunError,
    RunStoppedError,
    VerdictNotAppliedError,
)
from ockham.event import STOPPED_BY_USER
from ockham.record.checkpoints import read_json_object, resume_keys
from ockham.record.disk_reserve import RESERVE
from ockham.record.durable_io import atomic_write, raise_run_errors
from ockham.record.evidence import LogKey, read_signed_log, select_kinds
from ockham.record.ledger import ledger_head
from ockham.record.log_writer import EventPosition, LogWriter
from ockham.record.parquet.builder import update_parquet
from ockham.record.payloads import StateRecord
from ockham.record.rank_group import RankGroup
from ockham.record.recovery import recover_earlier_logs
from ockham.record.run_folder import RunFolder
from ockham.record.segment_reader import read_complete_lines, read_first_event
from ockham.record.tlog.merkle import CompactRange, leaf_hash
from ockham.record.tlog.note import VerifierKey, load_or_create_signer

WAIT_FOR_RANK_0_SECONDS = 120
# Ends that all ranks reach together.
AGREED_ENDS = frozenset({"COMPLETED", "HALTED_BY_POLICY", "NO_ANCHOR", STOPPED_BY_USER})


class Attempt:
    """Opens folder and log, and writes the first and the last events.

    Args:
        folder: The run's folder.
        peers: This writer's rank and the others. Rank 0 creates the folder, the others wait for it.
        resume: Continue an existing run as its next attempt.
        keys: Trusted keys of the earlier attempts besides this machine's.

    Raises:
        RunError: If the run exists, or does not exist on resume.

    """

    def __init__(
        self, folder: RunFolder, peers: RankGroup, *, resume: bool, keys: Sequence[VerifierKey] = ()
    ) -> None:
        self.folder, self.peers, self.rank, self.resume = folder, peers, peers.rank, resume
        self.keys = keys
        self.number = 1
        self.log: LogWriter
        # Digest of run.json, which binds a request of a person to this run.
        self.run_json_sha256 = ""
        self._began = time.monotonic()
        self._over = False
        # IDs of the resumable checkpoints, the oldest first.
        self.resumable: list[str] = []
        self._recovered: list[tuple[str, dict[str, Any]]] = []
        self._old_logs: list[LogKey] = []

    @property
    def is_open(self) -> bool:
        """Return True if events can be appended: after `open` and before `close`."""
        return hasattr(self, "log") and not self._over

    def open(
        self,
        policy: tuple[str, bytes],
        about: Mapping[str, Any],
        opening: Mapping[str, Any],
        loaded: Mapping[str, Any],
    ) -> None:
        """Lock the log and write the first events.

        Args:
            policy: Revision and canonical bytes.
            about: Content of run.json for a new run.
            opening: Fields of `run.started` or `run.resumed`.
            loaded: Fields of `policy.loaded`.

        Raises:
            RunError: If the folder cannot be written, for example because the disk is full.

        """
        with raise_run_errors("cannot write", self.folder.path):
            old = self._open_next_attempt() if self.resume else {}
            self._create_log(policy, about)
            self._append_first_events({**opening, **old})
            self.log.append("policy.loaded", loaded)
            self._release_old_reserves()

    def _create_log(self, policy: tuple[str, bytes], about: Mapping[str, Any]) -> None:
        self.peers.run_on_rank_zero(lambda: self._create_folder(policy, about))
        self._wait_for_rank_0()
        self.log = self.peers.run_on_all(
            lambda: LogWriter(self.folder, self.number, self.rank, policy_revision=policy[0])
        )
        self.log.on_sealed = self._derive_in_background

    def _append_first_events(self, opening: Mapping[str, Any]) -> None:
        digest = self.run_json_sha256 = hashlib.sha256(self.folder.run_json.read_bytes()).hexdigest()
        if self.resume:
            self.log.append("run.resumed", {"run_json_sha256": digest, **opening}, urgent=True)
            for kind, fields in self._recovered:
                self.log.append(kind, fields, subject="log", urgent=True)
        else:
            self.log.append(
                "run.started",
                {"run_json_sha256": digest, "ledger": ledger_head(self.folder.runs), **opening},
                urgent=True,
            )

    def _release_old_reserves(self) -> None:
        """Remove the reserves of the recovered logs, which distinguish a kill from a fault.

        The events about these logs are signed first. Otherwise, after a kill, a later resume would report a
        gap.
        """
        if self._old_logs:
            self.log.flush()
        for place in self._old_logs:
            (self.folder.log_dir(*place) / RESERVE).unlink(missing_ok=True)

    def key_frame(self, state: StateRecord) -> None:
        """Record the state of all plugins, from which a replay can start."""
        self.log.append("plugin_state.recorded", state, iter_num=state.iter_num)

    def record_pruned(self, snapshot_ids: Sequence[str], iter_num: int, reason_code: str) -> None:
        """Record that checkpoints of kind `resume` are given up. Returns when the events are signed."""
        for snapshot_id in snapshot_ids:
            kind = snapshot_id.partition("-")[0]
            pruned = {
                "iter_num": iter_num,
                "snapshot_id": snapshot_id,
                "kind": kind,
                "reason_code": reason_code,
            }
            self.log.append("checkpoint.pruned", pruned, iter_num=iter_num)
        self.log.flush()

    def fail(self, error: PluginError) -> None:
        """Record that a plugin raised an exception."""
        failed = {
            "iter_num": error.iter_num,
            "micro_step": 0,
            "plugin": error.plugin,
            "hook": error.hook,
            "error_type": type(error.__cause__).__name__,
            "message": str(error.__cause__)[:4096],
        }
        self.log.append("plugin.failed", failed, iter_num=error.iter_num, urgent=True)

    def close(self, finished: Mapping[str, Any]) -> None:
        """Write the last event, make everything durable and start to write Parquet.

        Calling it again has no effect.
        """
        if self._over:
            return
        self._over = True
        if finished["reason_code"] in AGREED_ENDS:
            finished = {**finished, **self._next_rank_log()}
        times = {"seconds": time.monotonic() - self._began, "blocked_seconds": self.log.blocked_seconds}
        try:
            self.log.append("run.finished", {**finished, **times}, urgent=True)
        finally:
            self.log.close()
        update_parquet(self.folder, self.number, self.rank, last=True)

    def _next_rank_log(self) -> dict[str, Any]:
        """Return the signed size and root of the next rank's log, so that a rollback of one log is found."""
        if self.peers.all_gather is None:
            return {}
        try:
            head = self.peers.run_on_all(self.log.flush)
            heads = self.peers.gather_json([head.size, head.root.hex()])
        except (LogError, RankError, RunError):
            # The other ranks have ended already.
            return {}
        rank = (self.rank + 1) % self.peers.world_size
        size, root = heads[rank]
        return {"rank_logs": [{"rank": rank, "size": size, "root": root}]}

    def event_id(self, place: EventPosition | None) -> str | None:
        """Return the ID of an event that this attempt has appended."""
        return None if place is None else self.log.event_id_at(place)

    def _open_next_attempt(self) -> dict[str, Any]:
        """Assign the attempt number, recover earlier logs, and return their sizes and roots."""
        if self.peers.world_size > 1 and self.peers.all_gather is None:
            raise RunError(
                "a resume on several ranks requires `all_gather`, so that they agree on the attempt number"
            )
        self.peers.run_on_all(self.folder.require_exists)
        self.number = self.peers.all_reduce_max(self.folder.last_attempt()) + 1
        return self.peers.run_on_all(self._describe_previous_logs)

    def _describe_previous_logs(self) -> dict[str, Any]:
        last = self.number - 1
        self._recovered, self._old_logs = recover_earlier_logs(
            self.folder, self._logs_to_close, last, resume_keys(self.keys)
        )
        from_attempt = self._last_attempt_with_events()
        others = [
            {"rank": rank, **log_head(self.folder, from_attempt, rank)}
            for _, rank in self._logs_to_close(last)
            if rank != self.rank
        ]
        before, now = _world_size(self.folder, last), self.peers.world_size
        old = {"from_attempt": from_attempt, **log_head(self.folder, from_attempt, self.rank)}
        return old | ({"left_logs": others} if others else {}) | _world_size_change(before, now)

    def _last_attempt_with_events(self) -> int:
        """Return the newest earlier attempt of this rank with events. A kill can leave an empty one."""
        for attempt in range(self.number - 1, 0, -1):
            if log_head(self.folder, attempt, self.rank)["from_size"]:
                return attempt
        return self.number - 1

    def _logs_to_close(self, attempt: int) -> list[LogKey]:
        """Return the logs of an earlier attempt that this rank recovers.

        Each rank recovers its own log. Rank 0 also recovers the logs of ranks that no longer exist.
        """
        gone = [rank for number, rank in self.folder.logs() if number == attempt]
        ranks = [self.rank, *(r for r in gone if r >= self.peers.world_size and self.rank == 0)]
        return [(attempt, rank) for rank in ranks]

    def _create_folder(self, policy: tuple[str, bytes], about: Mapping[str, Any]) -> None:
        policy_file = self.folder.policy(policy[0])
        if self.resume:
            self.folder.remove_unfinished_files()
            atomic_write(policy_file, policy[1])
            return
        whole = {**about, "verifier_key": str(load_or_create_signer().verifier)}
        self.folder.create(
            {
                str(policy_file.relative_to(self.folder.path)): policy[1],
                self.folder.run_json.name: orjson.dumps(whole, option=orjson.OPT_INDENT_2),
            }
        )

    def _wait_for_rank_0(self) -> None:
        """Wait until the files of rank 0 are visible. A network file system can show them later."""
        waited = time.monotonic()
        while not self.folder.exists():
            if time.monotonic() - waited > WAIT_FOR_RANK_0_SECONDS:
                raise RunError(
                    f"rank {self.rank} waited {WAIT_FOR_RANK_0_SECONDS} s "
                    f"for rank 0 to create {self.folder.path}"
                )
            time.sleep(0.05)

    def _derive_in_background(self, _segment: Path) -> None:
        """Write Parquet of a sealed segment in a process at low priority, which costs the trainer no GIL."""
        subprocess.Popen(  # noqa: S603 - our own module, no shell
            [
                sys.executable,
                "-P",
                "-m",
                "ockham.record.parquet.builder",
                str(self.folder.runs),
                self.folder.run_id,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )


def log_head(folder: RunFolder, attempt: int, rank: int) -> dict[str, Any]:
    """Return size and root of the log that a resume continues from, computed from its complete lines."""
    frontier = CompactRange()
    for segment in folder.segments(attempt, rank):
        for line in read_complete_lines(segment)[0]:
            frontier.append(leaf_hash(line))
    return {"from_size": frontier.size, "from_root": frontier.root().hex()}


def last_policy_revision(folder: RunFolder, keys: Sequence[VerifierKey] = ()) -> str:
    """Return the last policy revision of a run, from the log of the lowest rank of its newest attempt.

    Only a signed `policy.loaded` counts, because a resume removes the other ones. A run that was killed
    before its first line has the policy of its run.json.

    Raises:
        RunError: If the run has no log, and its run.json names no policy.

    """
    for attempt, rank in sorted(folder.logs(), key=lambda log: (-log[0], log[1])):
        if opened := _first_event_data(folder, attempt, rank):
            log = read_signed_log(
                folder, attempt, rank, resume_keys(keys), select=select_kinds("policy.loaded")
            )
            loaded = [event["data"]["policy_revision"] for _, event in log.parsed()]
            return str([opened["policy_revision"], *loaded][-1])
    named = read_json_object(folder.run_json).get("policy_revision")
    if not isinstance(named, str):
        raise RunError(f"run {folder.run_id!r} has no log to resume from")
    return named


def _world_size(folder: RunFolder, attempt: int) -> int:
    """Return the number of ranks of an attempt as its logs record it, or else the number of logs."""
    ranks = [rank for of, rank in folder.logs() if of == attempt]
    return max(
        (int(_first_event_data(folder, attempt, rank).get("world_size", 0)) for rank in ranks), default=0
    ) or len(ranks)


def _first_event_data(folder: RunFolder, attempt: int, rank: int) -> dict[str, Any]:
    """Return the data of the first event of a log, or an empty dictionary if it has none."""
    for segment in folder.segments(attempt, rank)[:1]:
        with contextlib.suppress(ValueError):
            return dict(read_first_event(segment)["data"])
    return {}


def _world_size_change(before: int, now: int) -> dict[str, Any]:
    # A run that was killed before its first log was created has no earlier size.
    if before in (0, now):
        return {}
    warning = (
        f"{before} ranks before and {now} now: from here on the batches are others than they would have been"
    )
    return {"from_world_size": before, "reason_code": "RESUMED_ON_OTHER_WORLD_SIZE", "warnings": [warning]}


def end_reason(error: BaseException | None) -> tuple[str, str | None]:
    """Return reason code and message for a run that ended with this exception."""
    if error is None:
        return "COMPLETED", None
    if isinstance(error, (KeyboardInterrupt, SystemExit)):
        return "INTERRUPTED", None
    kinds = (
        (PluginError, "PLUGIN_FAILED"),
        (RankDivergedError, "RANK_DIVERGED"),
        (RankError, "RANK_LOST"),
        (VerdictNotAppliedError, "VERDICT_NOT_APPLIED"),
        (RunStoppedError, STOPPED_BY_USER),
    )
    for kind, reason_code in kinds:
        if isinstance(error, kind):
            return reason_code, str(error)
    return "FAILED", f"{type(error).__name__}: {error}"
