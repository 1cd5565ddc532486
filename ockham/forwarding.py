"""Events to others: CloudEvents over HTTP, in order, at least once, with a cursor that survives a crash.

A reader like any other: it never touches the run. The lines go out as they stand in the log, byte for byte, so that a
receiver can check them against the run's tree head. The cursor moves after the receiver has said yes and is synced before
the next request; a crash in between sends the same events again, with the same `id` and `source`.
"""

from __future__ import annotations

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
from ockham.record.log_tailer import Line, Log, RunTailer, peek_event_kind
from ockham.record.run_folder import RunFolder, atomic_write

STRUCTURED = "application/cloudevents+json; charset=UTF-8"
BATCHED = "application/cloudevents-batch+json; charset=UTF-8"
POLL_SECONDS = 0.2
RETRY_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})


class SinkUnavailableError(OSError):
    """The receiver is down, slow or overloaded: what is asked again later."""


class ForwardStats(NamedTuple):
    """What one call of `forward` did."""

    events: int
    requests: int


class Sink(Protocol):
    """Whatever takes lines: it returns when it has them, raises Unreachable for later and BadInputError for never."""

    def send(self, lines: Sequence[bytes], *, batched: bool) -> None:
        """Take lines, in order."""
        ...


class HttpSink:
    """One URL, one connection that is kept open.

    Args:
        url: http:// or https://
        headers: sent with every request, an authorization for example.
        timeout: seconds for one request.

    Raises:
        BadInputError: if the URL is none that events can be sent to.

    """

    def __init__(self, url: str, headers: Mapping[str, str] | None = None, timeout: float = 10.0) -> None:
        self.parts, self.headers, self.timeout = parse_sink_url(url), dict(headers or {}), timeout
        self._connection: http.client.HTTPConnection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, lines: Sequence[bytes], *, batched: bool) -> None:
        """Send lines as one request.

        Raises:
            Unreachable: if it may work later.
            BadInputError: if the receiver refuses these events for good.

        """
        body = b"[" + b",".join(lines) + b"]" if batched else lines[0]
        headers = {**self.headers, "Content-Type": BATCHED if batched else STRUCTURED}
        path = (self.parts.path or "/") + (f"?{self.parts.query}" if self.parts.query else "")
        try:
            if self._connection is None:
                self._connection = self._connect()
            self._connection.request("POST", path, body, headers)
            answer = self._connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise SinkUnavailableError(f"{self.parts.netloc}: {error or type(error).__name__}") from None
        if answer.status in RETRY_STATUSES:
            raise SinkUnavailableError(f"{self.parts.netloc} answered {answer.status} {answer.reason}")
        if not 200 <= answer.status < 300:
            raise BadInputError(
                f"{self.parts.netloc} answered {answer.status} {answer.reason}; a receiver answers 2xx when it has the events"
            )

    def close(self) -> None:
        """Close the connection; the next request opens another one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connect(self) -> http.client.HTTPConnection:
        secure = self.parts.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        return kind(self.parts.hostname or "", self.parts.port, timeout=self.timeout)


class Cursor:
    """The next sequence of each log that a receiver has not got yet, in a file.

    Args:
        path: the file; made with the first event.

    Raises:
        BadInputError: if the file is not a cursor of this run.

    """

    def __init__(self, path: Path, run_id: str) -> None:
        self.path, self.run_id = path, run_id
        self.position: dict[Log, int] = {}
        try:
            held = orjson.loads(path.read_bytes())
            if held["run_id"] != run_id:
                raise BadInputError(f"{path} is the cursor of run {held['run_id']!r}, not of {run_id!r}")
            for name, sequence in held["next"].items():
                attempt, rank = name.split("-")
                self.position[int(attempt), int(rank)] = int(sequence)
        except FileNotFoundError:
            pass
        except (ValueError, KeyError, TypeError, AttributeError):
            raise BadInputError(f"{path} is no cursor; without it everything is sent again") from None

    def advance(self, lines: Sequence[Line]) -> None:
        """These lines have arrived: remember it durably."""
        for line in lines:
            self.position[line.log] = line.sequence + 1
        named = {f"{attempt}-{rank}": sequence for (attempt, rank), sequence in sorted(self.position.items())}
        atomic_write(self.path, orjson.dumps({"run_id": self.run_id, "next": named}))


def cursor_path(runs: Path, run_id: str, url: str) -> Path:
    """Where the cursor of a run and a receiver lies by default: the user's state folder, never the run's."""
    name = hashlib.sha256("\n".join((str(runs.resolve()), run_id, url)).encode()).hexdigest()[:32]
    return Path(platformdirs.user_state_dir("ockham")) / "cursors" / f"{run_id}-{name}.json"


def forward(
    folder: RunFolder, receiver: Sink, cursor: Cursor, *, batch: int = 100, follow: bool = False,
    kinds: Collection[str] = (), retry_timeout: float | None = 300.0, on_retry: Callable[[str], None] = lambda _: None,
) -> ForwardStats:  # fmt: skip
    """Send what the receiver has not got yet.

    Args:
        folder: the run's folder.
        receiver: where to.
        cursor: up to where it has got them.
        batch: events in one request; 1: structured mode, each in a request of its own.
        follow: go on until the run ends.
        kinds: only these, such as `decision.made`; empty: all.
        give_up: seconds of retrying after which it stops; None: never.
        told: gets a line each time that the receiver can't be reached.

    Raises:
        UnverifiableError: if the receiver could not be reached in time, or a line is no event; the cursor stands where it stopped.
        BadInputError: if the receiver refuses the events.

    """
    reader = RunTailer(folder, cursor.position)
    events = requests = 0
    while True:
        ended = (
            follow and reader.is_finished()
        )  # asked before reading: what comes after it is read in the next round
        lines = reader.lines(batch)
        wanted = [line for line in lines if _require_event_kind(folder, line) in kinds or not kinds]
        if wanted:
            _send_with_retry(receiver, [line.content for line in wanted], batch > 1, retry_timeout, on_retry)
            events, requests = events + len(wanted), requests + 1
        if lines:
            cursor.advance(lines)
        elif not follow or ended:
            return ForwardStats(events, requests)
        else:
            time.sleep(POLL_SECONDS)


def _require_event_kind(folder: RunFolder, line: Line) -> str:
    """A batch is lines joined by commas: one that is no event of its own would put others' words into it."""
    kind = peek_event_kind(line.content)
    if not kind:
        place = f"event {line.sequence} of log {line.log[0]}-{line.log[1]} of run {folder.run_id!r}"
        raise UnverifiableError(
            f"{place} is no event of ours, nothing is sent from there on; `ockham verify` says more"
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
        raise UnverifiableError(f"{error}; given up, and the next call goes on here") from None


def parse_sink_url(url: str) -> SplitResult:
    """The parts of a URL that events can be sent to.

    Raises:
        BadInputError: if it is none.

    """
    try:
        parts = urlsplit(url)
        port_is_one = parts.port is None or parts.port > 0
    except ValueError as error:
        raise BadInputError(f"{url!r:.100} is no URL: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_one or parts.username:
        raise BadInputError(
            f"{url!r:.100}: events go to http://host/path or https://host/path, without a user in it"
        )
    return parts
