"""Differences between the two runs of a pair that are not part of the policy: length, data, size, seed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from ockham.odr.pinned_log import PinnedLog, parse_event, read_pinned_lines
from ockham.odr.record import DecisionRecord
from ockham.odr.record_data import EvidenceSide
from ockham.record.run_folder import read_regular_file

# They change no result, or are measured by the run.
_IGNORED = frozenset(
    {"threads", "checkpoint_every", "rank_timeout", "calibration", "new_loss", "familiar_loss"}
)
_SHOWN = 6
_MISSING = object()


def check_differences(record: DecisionRecord, logs: Mapping[EvidenceSide, PinnedLog]) -> None:
    """Add a warning for each pair whose runs differ in more than the policy and the settings of `varies`."""
    about = {side: dict(_facts(log)) for side, log in logs.items()} if record.claims.baselines else {}
    for pair in record.claims.pairs:
        if pair.baseline is None:
            continue
        differences = _differences(about[pair.baseline], about[pair.candidate], record.claims.varies)
        if differences:
            more = f", and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
            message = (
                f"{pair.candidate.run} differs from {pair.baseline.run} in more than the policy: "
                f"{', '.join(differences[:_SHOWN])}{more}"
            )
            record.add_finding_at("ODR416", message, (*pair.candidate.path, "run"))


def _differences(
    baseline: Mapping[str, Any], candidate: Mapping[str, Any], varies: tuple[str, ...]
) -> list[str]:
    allowed = {*varies, *(("iterations",) if "max_iters" in varies else ()), *_IGNORED}
    return [
        f"{name} {_text(candidate[name])} against {_text(value)}"
        for name, value in baseline.items()
        if name not in allowed and candidate.get(name, _MISSING) not in (_MISSING, value)
    ]


def _text(value: Any) -> str:
    return f"{value:,}" if type(value) is int else f"{value!s:.40}"


def _facts(log: PinnedLog) -> Iterator[tuple[str, Any]]:
    """Yield name and value of what must be equal. Only facts that both runs recorded are compared."""
    first = next(read_pinned_lines(log), b"")
    event = parse_event(first)
    if event is None or event["type"] not in {"ockham.run.started.v1", "ockham.run.resumed.v1"}:
        return
    data = event["data"]
    last = None
    for line in read_pinned_lines(log):
        if b'"type":"ockham.context.recorded.v1"' in line and b'"hook":"batch"' in line:
            last = line
    batch = parse_event(last) if last is not None else None
    if batch is not None:
        yield "iterations", int(batch["data"]["iter_num"]) + 1
    yield "world_size", data["world_size"]
    yield from ((str(name), value) for name, value in data["settings"].items())
    digest = _data_digest(log, data)
    if digest:
        yield "data_sha256", digest


def _data_digest(log: PinnedLog, started: Mapping[str, Any]) -> str:
    """Return the digest of the data in run.json, if the log contains the digest of run.json."""
    try:
        content = read_regular_file(log.folder.run_json)
        if hashlib.sha256(content).hexdigest() != started.get("run_json_sha256"):
            return ""
        return str(orjson.loads(content)["data"]["sha256"])[:12]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
