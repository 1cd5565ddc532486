"""Verification of the events of people: each contains the request that its person has signed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ockham.errors import BadInputError
from ockham.record.requests import describe_mismatch
from ockham.record.tlog.note import VerifierKey, parse_key
from ockham.record.verify.log_summary import LogSummary
from ockham.record.verify.report import VerificationReport


def find_request_problem(kind: str, data: Mapping[str, Any], run_id: str) -> str | None:
    """Return how the event of a person differs from the signed request in it. None if it does not."""
    try:
        key = parse_key(str(data["key"]))
    except BadInputError:
        return f"{kind} names no verifier key"
    problem = describe_mismatch(kind, data, run_id, key)
    return None if problem is None else f"{kind} differs from its signed request: {problem}"


def check_request_keys(
    place: str, summary: LogSummary, keys: Sequence[VerifierKey], report: VerificationReport
) -> None:
    """Check that each request was signed by a key of the log, or by one that the attempt trusts.

    Args:
        place: Name of the log for findings.
        summary: Facts of the complete log.
        keys: Keys that may have signed the log.
        report: Takes the findings.

    """
    trusted = {*map(str, keys), *summary.trusted_request_keys}
    for key, sequence in summary.request_keys.items():
        report.count("requests", summary.request_counts[key])
        if key not in trusted:
            message = f"a request was recorded under the key {key:.60}, which this attempt does not trust"
            report.add("contradiction", place, message, sequence, f"request key {key}")
