"""Acts of people for the standalone verifier: each event contains the request that a person has signed.

The packed verifier contains this file, so it imports only the file of the signatures.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ockham.record.verify.archive_signatures import Key, open_note, parse_key

# Type of an event -> action of its request, and name in the event -> name in the request.
PEOPLE: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "ockham.note.added.v1": ("NOTE", {"iter_num": "iter_num"}),
    "ockham.intervention.applied.v1": ("INTERVENE", {"settings": "settings"}),
    "ockham.stop.requested.v1": ("STOP", {}),
    "ockham.checkpoint.approved.v1": ("APPROVE", {"snapshot_id": "target", "weights_sha256": "digest"}),
    "ockham.waiver.granted.v1": (
        "WAIVE",
        {"odr_id": "target", "odr_sha256": "digest", "waived": "settings"},
    ),
}
_LEDGER = "_ledger"
_ALWAYS = {"run_id": "run_id", "request_id": "request_id", "by": "by", "reason": "reason"}


def find_request_problem(event: Mapping[str, Any], run_id: str) -> str:
    """Return how the event of a person differs from its signed request. Empty if it does not."""
    action, names = PEOPLE[event["type"]]
    data = event["data"]
    try:
        text, problem = open_note(str(data["request"]).encode(), parse_key(str(data["key"])))
        origin, _, line = text.partition("\n")
        request = json.loads(line) if not problem else {}
    except (ValueError, LookupError, TypeError, RecursionError):
        return "contains a request that cannot be read"
    if problem:
        return f"contains a request {problem}"
    if not isinstance(request, dict) or request.get("action") != action:
        return f"contains a signed request that is not {action}"
    if origin != f"ockham/requests/{request.get('run_id')}" or run_id not in (request["run_id"], _LEDGER):
        return "contains a signed request for another run"
    for name, signed in {**_ALWAYS, **names}.items():
        if data.get(name) != request.get(signed):
            return f"differs from its signed request in {name}"
    return ""


def find_untrusted_key(events: Sequence[Mapping[str, Any]], key: Key) -> str:
    """Return the finding of a request under a key that the log does not trust. Empty without one."""
    trusted = {key}
    for event in events:
        for text in event["data"].get("request_keys") or () if event.get("type") not in PEOPLE else ():
            try:
                trusted.add(parse_key(str(text)))
            except ValueError:
                return "request_keys contains text that is not a verifier key"
    for event in events:
        if event.get("type") in PEOPLE:
            try:
                signer = parse_key(str(event["data"].get("key")))
            except ValueError:
                continue
            if signer not in trusted:
                return f"a request was recorded under the key {signer[0]!r:.60}, which the log does not trust"
    return ""
