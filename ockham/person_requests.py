"""Requests of people to a running training: reading, checking and recording them."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from ockham.record.attempt import Attempt
from ockham.record.log_writer import LogWriter
from ockham.record.request_answers import read_answered_ids
from ockham.record.request_folder import RequestFile, RequestFolder, file_name
from ockham.record.requests import (
    RefusedRequest,
    SignedRequest,
    check_request,
    event_fields,
    open_request,
)
from ockham.record.tlog.note import VerifierKey, parse_key
from ockham.text_safety import escape_control_characters

# Refusals of one step that are recorded one by one. The others are counted in one event.
MAX_SINGLE_REFUSALS = 4
MAX_IGNORED_NAMES = 4_096
# Without a connection between the ranks, only one of them would follow.
_FOR_ALL_RANKS = frozenset({"INTERVENE", "STOP"})


class _Refusal(NamedTuple):
    file: RequestFile
    refused: RefusedRequest
    signed: SignedRequest | None


class PersonRequests:
    """Requests of one attempt.

    Rank 0 reads the folder, and all ranks apply the same requests at the same step.

    Args:
        attempt: The attempt. It must be open before the first `poll`.
        keys: Keys whose requests are applied, besides the key of the log.

    Attributes:
        stop: The request that ends the run. None without one.

    """

    def __init__(self, attempt: Attempt, keys: Sequence[VerifierKey] = ()) -> None:
        self.stop: SignedRequest | None = None
        self.keys = tuple(keys)
        self._attempt = attempt
        self._folder = RequestFolder(attempt.folder)
        self._is_reader = attempt.rank == 0
        self._recorded: set[str] | None = None
        self._ignored: set[str] = set()
        self._accepted: list[SignedRequest] = []
        self._refusals: list[_Refusal] = []
        self._changes: list[SignedRequest] = []

    def poll(self) -> bool:
        """Read new requests on rank 0. Return True if some are accepted."""
        if not self._is_reader or not self._folder.has_news():
            return False
        for file in self._folder.read(self._ignored):
            found = self._check(file)
            if isinstance(found, _Refusal):
                self._refusals.append(found)
            elif found is not None:
                self._accepted.append(found)
        return bool(self._accepted)

    def answer(self, iter_num: int, *, has_news: bool) -> None:
        """Record the requests that `poll` has read. Interventions wait for the next batch.

        Args:
            iter_num: The step that has ended.
            has_news: Rank 0 has accepted requests. All ranks pass the same value at the same step.

        """
        if self._refusals:
            refusals, self._refusals = self._refusals, []
            self._record_refusals(iter_num, refusals)
        if has_news:
            self._exchange(iter_num)

    def _exchange(self, iter_num: int) -> None:
        own = [[signed.note, str(signed.key)] for signed in self._accepted]
        self._accepted.clear()
        for note, key in self._attempt.peers.gather_json(own)[0]:
            signed = open_request(note.encode(), [parse_key(key)])
            if isinstance(signed, RefusedRequest):
                continue
            self._ignored.add(file_name(signed.request.request_id))
            if signed.request.action == "INTERVENE":
                self._changes.append(signed)
            else:
                self._record(signed, iter_num)

    def take_changes(self) -> list[SignedRequest]:
        """Return the interventions to apply before the next batch, in order. Each is returned once."""
        changes, self._changes = self._changes, []
        return changes

    def refuse(self, iter_num: int, signed: SignedRequest, message: str) -> None:
        """Record that an authentic request cannot be applied."""
        if self._is_reader:
            name = file_name(signed.request.request_id)
            file = RequestFile(name, signed.note.encode(), None, is_young=False)
            self._record_refusals(iter_num, [_Refusal(file, RefusedRequest("NOT_ACCEPTED", message), signed)])

    def complete(self, signed: SignedRequest) -> None:
        """Remove the file of a request whose event is signed."""
        self._known().add(signed.request.request_id)
        if self._is_reader:
            self._remove(file_name(signed.request.request_id))

    def _record(self, signed: SignedRequest, iter_num: int) -> None:
        kind, data = event_fields(signed)
        if kind == "stop.requested":
            data["iter_num"] = iter_num
        if kind == "stop.requested" or self._is_reader:
            about = data.get("iter_num")
            self._log.append(kind, data, iter_num=about, urgent=True)
            self._log.flush()
        if kind == "stop.requested":
            self.stop = signed
        self.complete(signed)

    @property
    def _log(self) -> LogWriter:
        return self._attempt.log

    def _check(self, file: RequestFile) -> SignedRequest | _Refusal | None:
        """Return an accepted request, a refusal, or None for a file that may still be incomplete."""
        if file.refused is not None:
            return _Refusal(file, file.refused, None)
        signed = open_request(file.data, [self._log.signer.verifier, *self.keys])
        if isinstance(signed, RefusedRequest):
            return None if file.is_young else _Refusal(file, signed, None)
        if file.name != file_name(signed.request.request_id):
            # Otherwise two copies of one request could be accepted in one step.
            return _Refusal(file, RefusedRequest("WRONG_NAME", "is not named after its request"), signed)
        try:
            known = self._known()
        except OSError as error:
            message = f"an earlier log cannot be read: {error.strerror}"
            return _Refusal(file, RefusedRequest("UNREADABLE", message), None)
        attempt = self._attempt
        refused = check_request(signed, attempt.folder.run_id, attempt.run_json_sha256, known, time.time())
        action = signed.request.action
        if action == "WAIVE":
            refused = RefusedRequest("WRONG_ACTION", "a waiver is recorded in the ledger")
        elif action in _FOR_ALL_RANKS and not attempt.peers.is_connected:
            refused = RefusedRequest("RANKS_NOT_CONNECTED", "the ranks of this run exchange no messages")
        return signed if refused is None else _Refusal(file, refused, signed)

    def _known(self) -> set[str]:
        """Return the IDs of all requests that the run has answered."""
        if self._recorded is None:
            folder = self._attempt.folder
            self._recorded = read_answered_ids(folder, self._attempt.number) if self._is_reader else set()
        return self._recorded

    def _record_refusals(self, iter_num: int, refusals: Sequence[_Refusal]) -> None:
        """Record refusals, and remove their files when the events are signed."""
        for refusal in refusals[:MAX_SINGLE_REFUSALS]:
            self._append_refusal(iter_num, refusal, 1)
        if others := refusals[MAX_SINGLE_REFUSALS:]:
            self._append_refusal(iter_num, others[0], len(others))
        self._log.flush()
        for refusal in refusals:
            if refusal.signed is not None and refusal.refused.reason_code != "WRONG_NAME":
                self._known().add(refusal.signed.request.request_id)
            self._remove(refusal.file.name)

    def _append_refusal(self, iter_num: int, refusal: _Refusal, count: int) -> None:
        file, refused, signed = refusal
        data: dict[str, Any] = {
            "iter_num": iter_num,
            "reason_code": refused.reason_code,
            "message": refused.message[:4096],
            "file": format_file_name(file.name),
            "content_sha256": hashlib.sha256(file.data).hexdigest() if file.data else None,
            "count": count,
            "request_id": None,
            "by": None,
            "key": None,
            "request": None,
        }
        if signed is not None:
            recorded = signed.recorded()
            data |= {name: recorded[name] for name in ("request_id", "by", "key", "request")}
        self._log.append("request.refused", data, iter_num=iter_num, urgent=True)

    def _remove(self, name: str) -> None:
        if self._folder.remove(name):
            self._ignored.discard(name)
        elif len(self._ignored) < MAX_IGNORED_NAMES:
            self._ignored.add(name)


def format_file_name(name: str) -> str:
    """Return a file name from an untrusted folder as text that a log can contain."""
    return escape_control_characters(name.encode("utf-8", "backslashreplace").decode())[:300]
