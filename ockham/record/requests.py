"""Requests of people to a run: signed text, its check, and the events that record it.

A request is a signed note of C2SP, as a tree head is, under the user's key:

    ockham/requests/night-1                   origin: the run
    {"action":"STOP","by":"alice",...}        the request as one line of JSON

    — ockham-3f2a9c1b Az3grlgtzPICa5OS8npVmf1Myq...

The event that records it contains the complete note. An auditor can check its signature without this
package: Ed25519 over the text up to and including the newline before the empty line.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import secrets
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import orjson

from ockham.errors import BadInputError
from ockham.event import event_id, timestamp
from ockham.record.run_folder import LEDGER, RunFolder, read_regular_file
from ockham.record.tlog.note import NoteError, Signer, VerifierKey, open_note

Action = Literal["NOTE", "INTERVENE", "STOP", "APPROVE", "WAIVE"]
EVENT_KINDS: Mapping[Action, str] = {
    "NOTE": "note.added",
    "INTERVENE": "intervention.applied",
    "STOP": "stop.requested",
    "APPROVE": "checkpoint.approved",
    "WAIVE": "waiver.granted",
}
MAX_REQUEST_BYTES = 16_384
MAX_REASON_CHARACTERS = 2_000
MAX_NAME_CHARACTERS = 100
MAX_SETTING_CHARACTERS = 200
# A request that was held back is not applied weeks later.
MAX_AGE_SECONDS = 86_400
_ORIGIN = "ockham/requests/"
_SIGNATURE_MARK = b"\n\n\xe2\x80\x94 "
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME_CHARACTERS)]
_Reason = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_REASON_CHARACTERS)]
_Setting = Annotated[str, msgspec.Meta(min_length=3, max_length=MAX_SETTING_CHARACTERS)]
_Digest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Content of a request. All texts are printable and have one line.

    Attributes:
        run_json_sha256: Digest of the run's run.json, so that a request for an earlier run of the same name
            is refused. None for the ledger.
        iter_num: Iteration that a note is about. None if it is about the run.
        settings: Policy settings of an intervention, such as `gate.target=0.5`.
        target: ID of the approved checkpoint, or of the record whose constraint is waived.
        digest: SHA-256 of the approved weights, or of the record's file.

    """

    action: Action
    request_id: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
    run_id: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9_][a-z0-9._-]{0,63}$")]
    run_json_sha256: _Digest | None
    time: Annotated[str, msgspec.Meta(pattern=r"^[0-9T:.-]{26}Z$")]
    by: _Name
    reason: _Reason
    iter_num: Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)] | None = None
    settings: Annotated[tuple[_Setting, ...], msgspec.Meta(max_length=16)] = ()
    target: Annotated[str, msgspec.Meta(max_length=200)] | None = None
    digest: _Digest | None = None

    def fields(self) -> dict[str, Any]:
        """Return the fields that the request sets."""
        return {name: value for name, value in msgspec.to_builtins(self).items() if value not in (None, [])}


class SignedRequest(NamedTuple):
    """A request with its note and the key that signed it."""

    request: Request
    note: str
    key: VerifierKey

    def recorded(self) -> dict[str, Any]:
        """Return the fields that each event of a person has."""
        request = self.request
        return {
            "run_id": request.run_id,
            "request_id": request.request_id,
            "by": request.by,
            "reason": request.reason,
            "key": str(self.key),
            "request": self.note,
        }


class RefusedRequest(NamedTuple):
    """Why a request is not applied, as a stable code and one sentence."""

    reason_code: str
    message: str


def make_request(folder: RunFolder, action: Action, by: str, reason: str, **fields: Any) -> Request:
    """Return a new request about a run, or about the ledger.

    Args:
        folder: The run, or the ledger.
        action: Kind of the request.
        by: Name of the person.
        reason: Why, or the text of a note.
        fields: Further fields of `Request`.

    Raises:
        BadInputError: If a text is too long, or not printable.

    """
    texts = [("--by", by, MAX_NAME_CHARACTERS), ("text", reason, MAX_REASON_CHARACTERS)]
    texts += [("--set", setting, MAX_SETTING_CHARACTERS) for setting in fields.get("settings", ())]
    for name, text, limit in texts:
        if not text.strip() or len(text) > limit or not text.isprintable():
            raise BadInputError(f"{name} {text[:60]!r}: use one line of 1 to {limit:,} printable characters")
    now = time.time_ns()
    request = Request(
        action=action,
        request_id=event_id(now, secrets.randbits(32), secrets.randbits(30)),
        run_id=folder.run_id,
        run_json_sha256=digest_run_json(folder),
        time=timestamp(now),
        by=by,
        reason=reason,
        **fields,
    )
    try:
        msgspec.convert(msgspec.to_builtins(request), Request)
    except msgspec.ValidationError as error:
        raise BadInputError(f"the request is not valid: {error}") from None
    return request


def digest_run_json(folder: RunFolder) -> str | None:
    """Return the SHA-256 of run.json. None for the ledger, which has none."""
    if folder.run_id == LEDGER:
        return None
    return hashlib.sha256(read_regular_file(folder.run_json)).hexdigest()


def sign_request(request: Request, signer: Signer) -> SignedRequest:
    """Return the request with its signed note.

    Raises:
        BadInputError: If it is too large.

    """
    line = orjson.dumps(msgspec.to_builtins(request), option=orjson.OPT_SORT_KEYS).decode()
    note = signer.sign(f"{_ORIGIN}{request.run_id}\n{line}\n")
    if len(note) > MAX_REQUEST_BYTES:
        raise BadInputError(
            f"the request has {len(note):,} bytes; at most {MAX_REQUEST_BYTES:,} are accepted"
        )
    return SignedRequest(request, note.decode(), signer.verifier)


def open_request(note: bytes, keys: Sequence[VerifierKey]) -> SignedRequest | RefusedRequest:
    """Return the request in a note that one of *keys* has signed."""
    if _SIGNATURE_MARK not in note:
        return RefusedRequest("UNSIGNED", "the file has no signature")
    try:
        text, key = open_note(note, keys)
    except NoteError as error:
        return RefusedRequest("WRONG_SIGNATURE", f"{error}")
    origin, _, line = text.partition("\n")
    try:
        request = msgspec.json.decode(line, type=Request)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return RefusedRequest("MALFORMED", f"the signed text is not a request: {error!s:.200}")
    texts = (request.by, request.reason, request.target or "", *request.settings)
    if line.count("\n") != 1 or not all(text.isprintable() for text in texts):
        return RefusedRequest("MALFORMED", "a text in the request is not one printable line")
    if origin != f"{_ORIGIN}{request.run_id}":
        return RefusedRequest("MALFORMED", "the first line does not name the run of the request")
    return SignedRequest(request, note.decode(), key)


def check_request(
    signed: SignedRequest, run_id: str, run_json_sha256: str | None, recorded: Collection[str], now: float
) -> RefusedRequest | None:
    """Return why an authentic request is not for this run at this time. None if it is.

    Args:
        signed: The request.
        run_id: ID of the run.
        run_json_sha256: Digest of its run.json.
        recorded: IDs of the requests that the run has recorded.
        now: Seconds since the epoch.

    """
    request = signed.request
    if request.run_id != run_id or request.run_json_sha256 != run_json_sha256:
        return RefusedRequest("OTHER_RUN", f"the request is for another run, named {request.run_id}")
    if request.request_id in recorded:
        return RefusedRequest("DUPLICATE", "the run has recorded this request before")
    if now - _seconds(request.time) > MAX_AGE_SECONDS:
        return RefusedRequest("EXPIRED", f"the request of {request.time} is older than one day")
    return None


def describe_mismatch(kind: str, data: Mapping[str, Any], run_id: str, key: VerifierKey) -> str | None:
    """Return how the event of a person differs from the request that it contains. None if it does not.

    Args:
        kind: Kind of the event.
        data: Data of the event.
        run_id: Run whose log contains the event, or the ledger.
        key: Key that the event names.

    """
    opened = open_request(str(data["request"]).encode(), [key])
    if isinstance(opened, RefusedRequest):
        return opened.message
    request = opened.request
    if EVENT_KINDS[request.action] != kind:
        return f"the signed request is {request.action}"
    if run_id not in (request.run_id, LEDGER):
        return f"the signed request is for run {request.run_id}"
    signed = {**opened.recorded(), **_specific_fields(kind, request)}
    name = next((name for name, value in signed.items() if data.get(name) != value), None)
    return None if name is None else f"{name} is {data.get(name)!r:.80}, signed was {signed[name]!r:.80}"


def _specific_fields(kind: str, request: Request) -> dict[str, Any]:
    """Return the fields of an event that its request determines."""
    if kind == "note.added":
        return {"iter_num": request.iter_num}
    if kind == "checkpoint.approved":
        return {"snapshot_id": request.target, "weights_sha256": request.digest}
    if kind == "waiver.granted":
        return {"odr_id": request.target, "odr_sha256": request.digest, "waived": list(request.settings)}
    if kind == "intervention.applied":
        return {"settings": list(request.settings)}
    return {}


def event_fields(signed: SignedRequest) -> tuple[str, dict[str, Any]]:
    """Return kind and data of the event that records a request. An intervention adds its changes."""
    kind = EVENT_KINDS[signed.request.action]
    return kind, {**signed.recorded(), **_specific_fields(kind, signed.request)}


def _seconds(text: str) -> float:
    """Return a time of a request in seconds since the epoch, or 0 if it does not exist."""
    try:
        return dt.datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        return 0.0
