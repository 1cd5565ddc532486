"""Forward events to a receiver: CloudEvents over HTTP, in order, at least once, with a durable cursor.

Forwarding only reads the run. It sends the lines byte for byte, so that a receiver can check them against the
run's tree head. The cursor advances after the receiver has confirmed, and is synced before the next request.
After a crash in between, the same events are sent again with the same `id` and `source`.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, Self
from urllib.parse import SplitResult, urlsplit

import orjson
import platformdirs
import stamina

from ockham.errors import BadInputError, UnverifiableError
from ockham.record.durable_io import atomic_write
from ockham.record.log_tailer import Line, Log, RunTailer, peek_event_kind
from ockham.record.run_folder import RunFolder

STRUCTURED = "application/cloudevents+json; charset=UTF-8"
BATCHED = "application/cloudevents-batch+json; charset=UTF-8"
POLL_SECONDS = 0.2
TOO_LARGE_STATUS = 413
RETRY_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})


class SinkUnavailableError(OSError):
    """The receiver is down, slow or overloaded. The request can be repeated later."""


class RequestTooLargeError(BadInputError):
    """The receiver accepts only smaller requests."""


class ForwardStats(NamedTuple):
    """Number of events and requests of one call of `forward`."""

    events: int
    requests: int


class Sink(Protocol):
    """Receiver of lines.

    `send` returns when the receiver has the lines. It raises SinkUnavailableError if a later try can succeed,
    RequestTooLargeError if fewer lines can, and BadInputError if none can.
    """

    def send(self, lines: Sequence[bytes], *, batched: bool) -> None:
        """Send lines in order."""
        ...


class HttpSink:
    """HTTP receiver with one URL and one persistent connection.

    Args:
        url: http:// or https:// address.
        headers: Headers of every request, such as an authorization.
        timeout: Seconds per request.

    Raises:
        BadInputError: If events cannot be sent to the URL.

    """

    def __init__(self, url: str, headers: Mapping[str, str] | None = None, timeout: float = 10.0) -> None:
        self.parts = parse_sink_url(url)
        self.headers = dict(headers or {})
        self.timeout = timeout
        self._connection: http.client.HTTPConnection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, lines: Sequence[bytes], *, batched: bool) -> None:
        """Send lines as one request.

        Raises:
            SinkUnavailableError: If a later try can succeed.
            RequestTooLargeError: If the receiver accepts only smaller requests.
            BadInputError: If the receiver rejects these events.

        """
        body = b"[" + b",".join(lines) + b"]" if batched else lines[0]
        headers = {**self.headers, "Content-Type": BATCHED if batched else STRUCTURED}
        path = (self.parts.path or "/") + (f"?{self.parts.query}" if self.parts.query else "")
        try:
            if self._connection is None:
                self._connection = self._connect()
            # A receiver that refuses the size answers before it has read everything, and may close at once.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self._connection.request("POST", path, body, headers)
            answer = self._connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            cause = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise SinkUnavailableError(f"{self.parts.netloc}: {cause}") from None
        if answer.status in RETRY_STATUSES:
            raise SinkUnavailableError(f"{self.parts.netloc} answered {answer.status} {answer.reason}")
        if answer.status == TOO_LARGE_STATUS:
            raise RequestTooLargeError(f"{self.parts.netloc} answered {answer.status} {answer.reason}")
        if not 200 <= answer.status < 300:
            raise BadInputError(
                f"{self.parts.netloc} answered {answer.status} {answer.reason}; "
                "a receiver that has the events answers 2xx"
            )

    def close(self) -> None:
        """Close the connection. The next request opens a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connect(self) -> http.client.HTTPConnection:
        secure = self.parts.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        return kind(self.parts.hostname or "", self.parts.port, timeout=self.timeout)


class Cursor:
    """File with the next sequence number of each log that a receiver does not have yet.

    Args:
        path: The file. It is created with the first event.
        run_id: Run to which the cursor belongs.

    Raises:
        BadInputError: If the file is not a cursor of this run.

    """

    def __init__(self, path: Path, run_id: str) -> None:
        self.path = path
        self.run_id = run_id
        self.position: dict[Log, int] = {}
        try:
            stored = orjson.loads(path.read_bytes())
            if stored["run_id"] != run_id:
                raise BadInputError(f"{path} is the cursor of run {stored['run_id']!r}, not of {run_id!r}")
            for name, sequence in stored["next"].items():
                attempt, rank = name.split("-")
                self.position[int(attempt), int(rank)] = int(sequence)
        except FileNotFoundError:
            pass
        except (ValueError, KeyError, TypeError, AttributeError):
            raise BadInputError(f"{path} is not a cursor file; delete it to send all events again") from None

    def advance(self, lines: Sequence[Line]) -> None:
        """Store durably that these lines have arrived."""
        for line in lines:
            self.position[line.log] = line.sequence + 1
        positions = {
            f"{attempt}-{rank}": sequence for (attempt, rank), sequence in sorted(self.position.items())
        }
        atomic_write(self.path, orjson.dumps({"run_id": self.run_id, "next": positions}))


def cursor_path(runs: Path, run_id: str, url: str) -> Path:
    """Return the default path of the cursor of a run and a receiver, in the user's state folder."""
    name = hashlib.sha256("\n".join((str(runs.resolve()), run_id, url)).encode()).hexdigest()[:32]
    return Path(platformdirs.user_state_dir("ockham")) / "cursors" / f"{run_id}-{name}.json"


def forward(
    folder: RunFolder,
    receiver: Sink,
    cursor: Cursor,
    *,
    batch: int = 100,
    follow: bool = False,
    kinds: Collection[str] = (),
    retry_timeout: float | None = 300.0,
    on_retry: Callable[[str], None] = lambda _: None,
) -> ForwardStats:
    """Send the events that the receiver does not have yet.

    Args:
        folder: Folder of the run.
        receiver: Receiver of the events.
        cursor: Position of the receiver.
        batch: Events per request. 1 uses structured mode: one event per request. If the receiver reports that
            a request is too large, its events and all later ones are sent in smaller requests.
        follow: Continue until the run ends.
        kinds: Only events of these kinds, such as `decision.made`. Empty means all.
        retry_timeout: Seconds of retrying before giving up. None retries forever.
        on_retry: Called with a message each time the receiver cannot be reached.

    Raises:
        UnverifiableError: If the receiver could not be reached in time, or a line is not an event. The cursor
            keeps its position.
        BadInputError: If the receiver rejects the events.

    """
    reader = RunTailer(folder, cursor.position)
    sender = _Sender(folder, receiver, cursor, batch, kinds, retry_timeout, on_retry)
    while True:
        # Checked before reading, so that lines written in between are read in the next round.
        ended = follow and reader.is_finished()
        lines = reader.lines(sender.batch)
        if lines:
            sender.send(lines)
        elif not follow or ended:
            return ForwardStats(sender.events, sender.requests)
        else:
            time.sleep(POLL_SECONDS)


class _Sender:
    """Sends lines in order and advances the cursor.

    Attributes:
        batch: Lines per request. It is halved if the receiver reports that a request is too large.
        events: Number of events that were sent.
        requests: Number of requests that the receiver accepted.

    """

    def __init__(
        self,
        folder: RunFolder,
        receiver: Sink,
        cursor: Cursor,
        batch: int,
        kinds: Collection[str],
        retry_timeout: float | None,
        on_retry: Callable[[str], None],
    ) -> None:
        self.batch = batch
        self.events = 0
        self.requests = 0
        self._folder = folder
        self._receiver = receiver
        self._cursor = cursor
        self._batched = batch > 1
        self._kinds = kinds
        self._retry_timeout = retry_timeout
        self._on_retry = on_retry

    def send(self, lines: Sequence[Line]) -> None:
        """Send the wanted lines in one request, or in several if it is too large."""
        wanted = [
            line
            for line in lines
            if _require_event_kind(self._folder, line) in self._kinds or not self._kinds
        ]
        try:
            if wanted:
                contents = [line.content for line in wanted]
                _send_with_retry(self._receiver, contents, self._batched, self._retry_timeout, self._on_retry)
                self.events, self.requests = self.events + len(wanted), self.requests + 1
        except RequestTooLargeError as error:
            if len(wanted) == 1:
                attempt, rank = wanted[0].log
                raise BadInputError(
                    f"{error} to an event of {len(wanted[0].content):,} bytes, event {wanted[0].sequence} of "
                    f"log {attempt}-{rank}; raise the limit of the receiver, or select types with --type"
                ) from None
            self.batch = (len(wanted) + 1) // 2
            middle = lines.index(wanted[self.batch])
            self.send(lines[:middle])
            self.send(lines[middle:])
            return
        self._cursor.advance(lines)


def _require_event_kind(folder: RunFolder, line: Line) -> str:
    """Return the kind of an event.

    A batch is lines joined by commas, so a line that is not an event must not be sent.

    Raises:
        UnverifiableError: If the line is not an event.

    """
    kind = peek_event_kind(line.content)
    if not kind:
        place = f"event {line.sequence} of log {line.log[0]}-{line.log[1]} of run {folder.run_id!r}"
        raise UnverifiableError(
            f"{place} is not an event of Ockham; nothing is sent from there on; run `ockham verify`"
        )
    return kind


def _send_with_retry(
    receiver: Sink,
    lines: list[bytes],
    batched: bool,
    retry_timeout: float | None,
    on_retry: Callable[[str], None],
) -> None:
    tries = stamina.retry_context(
        on=SinkUnavailableError, attempts=None, timeout=retry_timeout, wait_initial=0.1, wait_max=15.0
    )
    failed: SinkUnavailableError | None = None
    try:
        for attempt in tries:
            with attempt:
                if failed is not None:
                    on_retry(f"{failed}; try {attempt.num}")
                try:
                    receiver.send(lines, batched=batched)
                except SinkUnavailableError as error:
                    failed = error
                    raise
    except SinkUnavailableError as error:
        raise UnverifiableError(f"{error}; gave up; the next call continues here") from None


def parse_sink_url(url: str) -> SplitResult:
    """Return the parts of a URL to which events can be sent.

    Raises:
        BadInputError: If events cannot be sent to it.

    """
    try:
        parts = urlsplit(url)
        is_valid_port = parts.port is None or parts.port > 0
    except ValueError as error:
        raise BadInputError(f"{url!r:.100} is not a URL: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or not is_valid_port or parts.username:
        raise BadInputError(
            f"{url!r:.100}: not a receiver; use http://host/path or https://host/path without a user"
        )
    return parts
