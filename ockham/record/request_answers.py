"""Events of a log that answer the requests of people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ockham.event import event_kind
from ockham.record.evidence import parse_event, select_kinds
from ockham.record.requests import EVENT_KINDS
from ockham.record.run_folder import RunFolder
from ockham.record.segment_reader import read_complete_lines

ANSWER_KINDS = (*EVENT_KINDS.values(), "request.refused")
is_answer = select_kinds(*ANSWER_KINDS)


def read_answered_ids(folder: RunFolder, before_attempt: int) -> set[str]:
    """Return the IDs of the requests in the logs of earlier attempts of rank 0, applied and refused ones.

    Call it after the recovery of these logs, which removes unsigned lines.
    """
    attempts = [attempt for attempt, rank in folder.logs() if rank == 0 and attempt < before_attempt]
    answers = (data for attempt in attempts for _, data in _read_answers(folder, attempt))
    return {str(data["request_id"]) for data in answers if data.get("request_id") is not None}


def find_answer(folder: RunFolder, request_id: str) -> tuple[str, Mapping[str, Any]] | None:
    """Return kind and data of the event of the newest attempt that answers a request. None without one."""
    answers = _read_answers(folder, folder.last_attempt())
    file = f"{request_id}.note"
    for kind, data in answers:
        if data.get("request_id") == request_id or data.get("file") == file:
            return kind, data
    return None


def read_changed_revisions(folder: RunFolder) -> set[str]:
    """Return the revisions of the policies that people have changed, from the logs of rank 0."""
    attempts = [attempt for attempt, rank in folder.logs() if rank == 0]
    answers = (answer for attempt in attempts for answer in _read_answers(folder, attempt))
    return {str(data["policy_revision"]) for kind, data in answers if kind == "intervention.applied"}


def _read_answers(folder: RunFolder, attempt: int) -> Iterator[tuple[str, dict[str, Any]]]:
    for segment in folder.segments(attempt, 0):
        for line in filter(is_answer, read_complete_lines(segment)[0]):
            if event := parse_event(line):
                yield event_kind(event["type"]), event["data"]
