"""Events of people in the ledger: notes, approvals and waivers after the end of a run."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from ockham.catalog.schemas import LEDGER_PEOPLE
from ockham.errors import UnverifiableError
from ockham.event import event_kind
from ockham.record.evidence import parse_event, read_signed_log
from ockham.record.request_answers import is_answer
from ockham.record.run_folder import LEDGER, RunFolder
from ockham.record.segment_reader import read_complete_lines
from ockham.record.tlog.note import VerifierKey, parse_key
from ockham.record.verify.people import find_request_problem


class LedgerPeople:
    """Reads the ledger of a folder of runs. An unchanged ledger is not read again.

    Args:
        runs: Folder of runs.
        keys: Trusted keys. Without one, the key that an event names is used.
        signed_only: Leave out events that no trusted key has signed.

    """

    def __init__(self, runs: Path, keys: Sequence[VerifierKey] = (), *, signed_only: bool = False) -> None:
        self._ledger = RunFolder(runs, LEDGER)
        self._keys = keys
        self._signed_only = signed_only
        self._rows: dict[int, dict[str, Any] | None] = {}

    def state(self) -> object:
        """Return a value that changes when the ledger has another entry."""
        return self._ledger.logs()[-1:]

    def table(self) -> pa.Table:
        """Return one row per event of a person."""
        rows = []
        for attempt, rank in self._ledger.logs():
            if attempt not in self._rows:
                self._rows[attempt] = next(self._read(attempt, rank), None)
            row = self._rows[attempt]
            if row is not None and (row["signed"] or not self._signed_only):
                rows.append(row)
        return pa.Table.from_pylist(rows, schema=LEDGER_PEOPLE)

    def _read(self, attempt: int, rank: int) -> Iterator[dict[str, Any]]:
        for segment in self._ledger.segments(attempt, rank):
            for line in filter(is_answer, read_complete_lines(segment)[0]):
                row = _to_row(parse_event(line))
                if row is not None:
                    yield {**row, "signed": self._is_signed(attempt, rank, row.pop("key"))}

    def _is_signed(self, attempt: int, rank: int, key: VerifierKey | None) -> bool:
        """Return True if a trusted key has signed the entry, or the key that it names if none is given."""
        if key is None or (self._keys and key not in self._keys):
            return False
        try:
            return read_signed_log(self._ledger, attempt, rank, [key]).signed > 0
        except UnverifiableError:
            return False


def _to_row(event: dict[str, Any]) -> dict[str, Any] | None:
    """Return the row of an event, or None if it is not the event of a person.

    `key` is None if the request in the event is not signed by the key that it names.
    """
    try:
        data, kind = event["data"], event_kind(event["type"])
        is_intact = find_request_problem(kind, data, LEDGER) is None
        return {
            "run_id": str(data["run_id"]),
            "time": dt.datetime.fromisoformat(event["time"]),
            "type": event["type"],
            "event_id": str(event["id"]),
            "data": orjson.dumps(data).decode(),
            "key": parse_key(data["key"]) if is_intact else None,
        }
    except (KeyError, TypeError, ValueError):
        return None
