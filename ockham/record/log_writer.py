"""LogWriter: one append-only log with one writer thread.

The training thread appends one small object to a queue (about 1 us). The writer thread builds the envelope,
validates it, encodes it once, writes it, and syncs in groups: every 200 ms, or at once for an urgent event.
Each sync is followed by a signed tree head over the lines as read back from the disk. An event is
acknowledged once a signed head covers it. Lines without a signature were never acknowledged, and a resume
removes them. A full queue blocks the trainer, and the time is counted; no event is dropped. A hard kill can
lose the events that were appended in the last 200-250 ms.
"""

from __future__ import annotations

import contextlib
import errno
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import filelock
import orjson

from ockham.errors import InvalidEventError, LogError, LogHaltedError, LogLockedError, OckhamError
from ockham.event import MAX_LINE_BYTES, envelope, event_id
from ockham.record.disk_reserve import RESERVE, DiskReserve, disable_after_fork
from ockham.record.durable_io import SyncError, atomic_write, make_dirs
from ockham.record.lock_support import require_locks
from ockham.record.log_status import read_log_status
from ockham.record.payloads import Payload, encode_payload
from ockham.record.run_folder import RunFolder
from ockham.record.schema import validate_event
from ockham.record.segment import Segment
from ockham.record.tlog.note import Signer
from ockham.record.tlog.note import load_or_create_signer as users_signer
from ockham.record.tlog.tree_head import HeadWriter, TreeHead, origin

# Until the trainer looks again whether a full queue has room.
QUEUE_POLL_SECONDS = 0.01
SYNC_INTERVAL_SECONDS = (
    # Between two looks at the queue; with four times as many an event costs twice as much.
    0.2
)
# Every sync signs a head. The history keeps about one each second, so that it stays small.
HISTORY_INTERVAL_SECONDS = 1.0
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class _Item(NamedTuple):
    kind: str
    sequence: int
    time_ns: int
    subject: str
    payload: Payload
    urgent: bool


class EventPosition(NamedTuple):
    """Result of `append`: the sequence number of the event, and the time from which its ID is made."""

    sequence: int
    time_ns: int


class LogWriter:
    """Append-only writer for one log. Thread-safe for `append`.

    Args:
        folder: The run's folder.
        attempt: Attempt number, from 1.
        rank: Rank, from 0.
        policy_revision: Revision that every decision and context contains.
        signer: Signs the tree heads. None uses the user's key.
        segment_events: Events per segment, at least 2. The event that seals a segment is written to the next
            one.
        queue_limit: Events that can wait. A full queue blocks the trainer, and the time is counted.

    Raises:
        LogLockedError: If another process writes this log.
        LogHaltedError: From `append` and `flush`, after the disk has rejected a write or a sync.

    """

    def __init__(
        self,
        folder: RunFolder,
        attempt: int,
        rank: int,
        *,
        policy_revision: str = "",
        signer: Signer | None = None,
        segment_events: int = 20_000,
        queue_limit: int = 65_536,
    ) -> None:
        if segment_events < 2:
            raise LogError(f"segment_events={segment_events}: 2 or more, as a seal is an event of the next")
        self.folder, self.attempt, self.rank = folder, attempt, rank
        self.path = folder.log_dir(attempt, rank)
        self.blocked_seconds = 0.0
        self.on_durable: Callable[[list[dict[str, Any]]], None] | None = None
        self.on_sealed: Callable[[Path], None] | None = None
        self._revision, self._segment_events, self._limit = policy_revision, segment_events, queue_limit
        self._nonce = secrets.randbits(30)
        self._queue: deque[_Item] = deque()
        self._append_lock = threading.Lock()
        self._next = 0
        self._error: BaseException | None = None
        self._closing = self._closed = self._flush_requested = False
        # Only what is urgent wakes the writer: each waking costs it 60 us.
        self._wake = threading.Event()
        self._acknowledged = threading.Condition()
        self._unsynced: list[dict[str, Any]] = []
        self.signer = signer or users_signer()
        self._heads = HeadWriter(self.path, origin(folder.run_id, attempt, rank), self.signer)
        self._open()
        disable_after_fork(self)
        self._thread = threading.Thread(
            target=self._write_until_closed, name=f"ockham-log-{attempt}-{rank}", daemon=True
        )
        self._thread.start()

    @property
    def next_sequence(self) -> int:
        """Sequence number of the next event."""
        return self._next

    def append(
        self,
        kind: str,
        payload: Payload,
        *,
        iter_num: int | None = None,
        subject: str = "run",
        urgent: bool = False,
    ) -> EventPosition:
        """Append one event and return its position. Blocks while the queue is full.

        Raises:
            LogError: If the log was closed, or was halted by an earlier error.

        """
        if self._error is not None:
            raise self._halt_error()
        if self._closed:
            raise LogError(f"{self.path}: the log is closed, so no event can be appended")
        if len(self._queue) >= self._limit:
            self._wait_for_queue_space()
        with self._append_lock:
            # The writer can fail while this thread waits.
            if self._error is not None:
                raise self._halt_error()
            sequence = self._next
            self._next = sequence + 1
            where = subject if iter_num is None else f"iter/{iter_num}"
            now = time.time_ns()
            self._queue.append(_Item(kind, sequence, now, where, payload, urgent))
        if urgent:
            self._wake.set()
        return EventPosition(sequence, now)

    def set_policy_revision(self, revision: str) -> None:
        """Set the revision of every later decision and context. All appended events are signed before."""
        self.flush()
        self._revision = revision

    def event_id_at(self, place: EventPosition) -> str:
        """Return the ID of an event of this log, such as a decision ID."""
        return event_id(place.time_ns, place.sequence, self._nonce)

    def flush(self) -> TreeHead:
        """Block until all appended events are durable and signed. Return the tree head that covers them."""
        wanted = self._next
        with self._acknowledged:
            self._flush_requested = True
            self._wake.set()
            self._acknowledged.wait_for(lambda: self._heads.head.size >= wanted or self._error is not None)
        if self._error is not None:
            raise self._halt_error()
        return self._heads.head

    def close(self) -> None:
        """Write and sync the remaining events, then release the lock. Calling it again has no effect."""
        self._closing = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        self._closed = True
        self._segment.close()
        self._lock.release()
        if self._error is not None:
            raise self._halt_error()

    def _open(self) -> None:
        make_dirs(self.path)
        require_locks(self.path)
        self._lock = filelock.FileLock(str(self.path / "lock"), timeout=0)
        try:
            self._lock.acquire()
        except filelock.Timeout:
            raise LogLockedError(
                f"{self.path} is being written by another process: one writer for each log"
            ) from None
        if self.folder.segments(self.attempt, self.rank):
            self._lock.release()
            raise LogError(f"{self.path} has a log already: a resume is a new attempt")
        self._reserve = DiskReserve(self.path / RESERVE)
        self._heads.sign_empty()
        self._segment = Segment(self.path, 0)

    def _write_until_closed(self) -> None:
        synced = recorded = time.monotonic()
        try:
            while True:
                # Read before the queue: what came before close() is written.
                closing = self._closing
                urgent = self._write_queue()
                now = time.monotonic()
                due = urgent or self._flush_requested or closing or now - recorded >= HISTORY_INTERVAL_SECONDS
                if due or (self._unsynced and (not self._queue or now - synced >= SYNC_INTERVAL_SECONDS)):
                    self._sync_and_sign(history=due)
                    synced, recorded = now, now if due else recorded
                if closing and not self._queue:
                    return
                if not self._queue and self._wake.wait(SYNC_INTERVAL_SECONDS):
                    self._wake.clear()
        except BaseException as error:
            # The training thread must hear of it, whatever it was.
            with self._append_lock:
                self._error = error
            # After a failed sync, nothing more is written.
            if isinstance(error, OSError) and error.errno in _FULL and not isinstance(error, SyncError):
                self._record_halt(error)
            self._notify_waiters()
        finally:
            self._reserve.release()

    def _write_queue(self) -> bool:
        """Encode and write the queue up to the end of the segment. Return True if an event was urgent."""
        lines: list[bytes] = []
        urgent = False
        room = self._segment_events - self._segment.lines
        while self._queue and len(lines) < min(room, 1024):
            item = self._queue.popleft()
            lines.append(self._encode(item))
            urgent = urgent or item.urgent
        if lines:
            self._segment.write(lines)
            if len(lines) == room:
                self._seal()
        return urgent

    def _encode(self, item: _Item) -> bytes:
        data, blob = encode_payload(item.payload, self._revision)
        data = {"sequence": item.sequence, "attempt": self.attempt, "rank": self.rank, **data}
        id_ = event_id(item.time_ns, item.sequence, self._nonce)
        event = envelope(item.kind, self.folder.run_id, item.subject, item.time_ns, id_, data)
        validate_event(item.kind, event)
        line = orjson.dumps(event)
        if len(line) > MAX_LINE_BYTES:
            raise InvalidEventError(
                f"{item.kind}: a line of {len(line)} bytes; at most {MAX_LINE_BYTES} are allowed"
            )
        if blob is not None:
            path = self.folder.blob(data["state_sha256"])
            if not path.exists():
                atomic_write(path, blob)
        self._unsynced.append(event)
        return line + b"\n"

    def _sync_and_sign(self, *, history: bool) -> None:
        """Sync the written lines, sign a tree head over them as read back, and acknowledge them."""
        if self._unsynced:
            self._segment.sync()
            self._heads.ingest(self._segment.path, self._segment.size, self._segment.digest)
        self._heads.sign(history=history)
        events, self._unsynced = self._unsynced, []
        if events and self.on_durable is not None:
            self.on_durable(events)
        self._notify_waiters()

    def _record_halt(self, error: OSError) -> None:
        """Truncate to the last complete line and record the halt, signed, in the reserved space.

        A log without a line remains empty, and run.finished remains the end of a log.
        """
        # The first error is reported, also if the reserve does not suffice.
        with contextlib.suppress(OSError, OckhamError):
            self._segment.truncate_to_whole_lines()
            self._reserve.release()
            end = self._segment.next_sequence
            self._unsynced = [event for event in self._unsynced if event["data"]["sequence"] < end]
            if not end:
                return
            if not read_log_status(self.folder, self.attempt, self.rank).finished:
                code, message = errno.errorcode[error.errno or 0], error.strerror
                data = {"reason_code": code, "message": message, "lost_events": self._next - end}
                halted = _Item("log.halted", end, time.time_ns(), "log", data, urgent=True)
                self._segment.write([self._encode(halted)])
            self._sync_and_sign(history=True)

    def _notify_waiters(self) -> None:
        with self._acknowledged:
            self._flush_requested = False
            self._acknowledged.notify_all()

    def _seal(self) -> None:
        """Seal the segment. The event that records it is written to the next one."""
        self._sync_and_sign(history=False)
        # The old segment stays open until the new one exists, because a full disk is recorded there.
        segment, self._segment = self._segment, Segment(self.path, self._segment.next_sequence)
        sealed = segment.seal()
        self.append("log.sealed", sealed, subject="log")
        if self.on_sealed is not None:
            self.on_sealed(segment.path)

    def _wait_for_queue_space(self) -> None:
        began = time.monotonic()
        self._wake.set()
        while (
            len(self._queue) >= self._limit
            and self._error is None
            and threading.current_thread() is not self._thread
        ):
            time.sleep(QUEUE_POLL_SECONDS)
        self.blocked_seconds += time.monotonic() - began

    def _halt_error(self) -> LogError:
        if isinstance(self._error, LogError):
            return self._error
        halted = LogHaltedError(
            f"{self._segment.path}: {self._error}; "
            f"nothing after event {self._heads.head.size} is acknowledged"
        )
        halted.__cause__ = self._error
        return halted
