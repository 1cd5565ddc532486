"""Subscriptions: a function that is called with each durable event on a separate thread.

No event is queued. The thread reads the durable lines of the log, so a slow consumer costs no memory, never
blocks the training thread, and misses no event. A consumer that raises is logged once, and delivery continues
with the next event.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import orjson

from ockham import resources
from ockham.errors import BadInputError
from ockham.event import event_type
from ockham.record.log_tailer import LogTailer
from ockham.record.log_writer import LogWriter

Consumer = Callable[[dict[str, Any]], object]
CATCH_UP_SECONDS = 5.0
_logger = logging.getLogger("ockham")


class Subscriptions:
    """The consumers of one log.

    Args:
        log: Log whose events they receive. Its `on_durable` is used.

    """

    def __init__(self, log: LogWriter) -> None:
        self.log = log
        self._durable = 0
        self._changed = threading.Condition()
        self._closing = False
        self._all: list[Subscription] = []
        log.on_durable = self._acknowledged

    def subscribe(self, consumer: Consumer, kind: str = "", reason_code: str = "") -> Subscription:
        """Call *consumer* with each event from now on.

        Args:
            consumer: Takes the event as a dictionary with its envelope and `data`.
            kind: Only events of this kind, such as `decision.made`. Empty means all.
            reason_code: Only events with this code. Empty means all.

        Raises:
            BadInputError: If the kind does not exist.

        """
        if kind and not (resources.schemas_dir() / f"{kind}.v1.schema.json").is_file():
            raise BadInputError(
                f"no event has the type {kind!r}; schemas/ lists them, `decision.made` is one"
            )
        made = Subscription(self, consumer, kind, reason_code)
        self._all.append(made)
        made.thread.start()
        return made

    def close(self, timeout: float = CATCH_UP_SECONDS) -> None:
        """Wait for the consumers after the end of the log, at most `timeout` seconds."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for one in self._all:
            one.thread.join(timeout)
            if one.thread.is_alive():
                _logger.warning(
                    "a subscriber lags by %d events and is stopped; the log contains them",
                    self._durable - one.position,
                )

    def wait(self, seen: int) -> int | None:
        """Return the number of durable events once it exceeds `position`. None if no more will follow."""
        with self._changed:
            while self._durable <= seen and not self._closing:
                self._changed.wait()
            return self._durable if self._durable > seen else None

    def _acknowledged(self, events: list[dict[str, Any]]) -> None:
        with self._changed:
            self._durable = events[-1]["data"]["sequence"] + 1 if events else self._durable
            self._changed.notify_all()


class Subscription:
    """One consumer: its position, and the last exception that it raised."""

    def __init__(self, all_: Subscriptions, consumer: Consumer, kind: str, reason_code: str) -> None:
        self.position = all_.log.next_sequence
        self.errors = 0
        self.error: Exception | None = None
        self._all, self._consumer, self._reason_code = all_, consumer, reason_code
        self._type = event_type(kind) if kind else ""
        self._reader = LogTailer(all_.log.folder, (all_.log.attempt, all_.log.rank), self.position)
        self.thread = threading.Thread(target=self._run, name="ockham-subscriber", daemon=True)

    def _run(self) -> None:
        while (durable := self._all.wait(self.position)) is not None:
            while self.position < durable:
                lines = self._reader.lines(min(1_000, durable - self.position))
                if not lines:
                    # The folder is gone: nothing that a consumer could do about it.
                    return
                for line in lines:
                    self._deliver(line.content)
                    self.position = line.sequence + 1

    def _deliver(self, content: bytes) -> None:
        if self._type and self._type.encode() not in content:
            # Most lines are of other kinds, and reading them costs the trainer's interpreter time.
            return
        event = orjson.loads(content)
        wanted = not self._type or event["type"] == self._type
        if not wanted or (self._reason_code and event["data"].get("reason_code") != self._reason_code):
            return
        try:
            self._consumer(event)
        except Exception as error:
            self.errors, self.error = self.errors + 1, error
            if self.errors == 1:
                _logger.warning(
                    "a subscriber raised %s: %s; delivery continues with the next event",
                    type(error).__name__,
                    error,
                )
