"""Forged events and checkpoints: well-formed, at the right position, with consistent digests."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

from tests.attacks.world import (
    Draw,
    Files,
    World,
    choose,
    is_kind,
    list_logs,
    note_size,
    read_event,
    read_lines,
    read_notes,
    tree_root,
    write_event,
    write_lines,
    write_notes,
)
from tests.helpers.safetensors_file import make_safetensors

FORGED_LOSS = 0.000123
KINDS = (
    "evaluation.recorded",
    "checkpoint.saved",
    "checkpoint.pruned",
    "run.finished",
    "run.resumed",
    "log.sealed",
    "policy.loaded",
)
_POSITION = ("sequence", "attempt", "rank")


def make_event(world: World, log: str, sequence: int, kind: str, data: dict[str, Any]) -> bytes:
    """Return the line of a forged event."""
    attempt, rank = (int(part) for part in log.split("-"))
    position = {"sequence": sequence, "attempt": attempt, "rank": rank}
    event = {
        "specversion": "1.0",
        "id": f"0198a0b0-0000-7000-8000-{sequence:012x}",
        "source": f"ockham://runs/{world.run_id}",
        "type": f"ockham.{kind}.v1",
        "subject": "run",
        "time": "2026-01-01T00:00:00.000000Z",
        "dataschema": f"urn:ockham:{kind}.v1",
        "data": {**position, **{key: value for key, value in data.items() if key not in _POSITION}},
    }
    return write_event(event)


def forge_event(world: World, draw: Draw, log: str, sequence: int, kind: str) -> bytes:
    """Return a forged event of a kind. Its other fields are those of a real event."""
    data = next(_real_events(world, kind), {"iter_num": 3})
    if kind == "evaluation.recorded":
        data |= {"val_loss": FORGED_LOSS}
    elif kind == "checkpoint.saved":
        data = forge_checkpoint(world, draw, log, sequence)
    elif kind == "checkpoint.pruned":
        names = sorted({path.split("/")[1] for path in world.files if path.startswith("checkpoints/")})
        name = choose(draw, [*names, "resume-00000009"])
        data = {"iter_num": 1, "snapshot_id": name, "kind": "resume", "reason_code": "NEWER_KEPT"}
    elif kind == "run.finished":
        data |= {"reason_code": "FORGED"}
    elif kind == "run.resumed":
        size = draw.integer(0, 40)
        root = tree_root(read_lines(world.files, "1-0")[:size]).hex()
        data |= {"from_attempt": 1, "from_size": size, "from_root": root, "snapshot_id": None, "iter_num": 0}
        data |= {"world_size": 1, "reason_code": "STARTED_AGAIN", "settings": {}}
        data.setdefault("policy_revision", "sha256:" + "0" * 64)
    return make_event(world, log, sequence, kind, data)


def forge_checkpoint(world: World, draw: Draw, log: str, sequence: int) -> dict[str, Any]:
    """Plant a checkpoint whose metadata and digests agree with the forged event. Return the event's data."""
    lines = read_lines(world.files, log)[:sequence]
    attempt, rank = (int(part) for part in log.split("-"))
    kind = choose(draw, ["accepted", "resume"])
    iteration = choose(draw, [2, 7, 900])
    name = f"{kind}-{iteration:08d}" + (f".{attempt}" if attempt > 1 else "")
    size = draw.integer(0, len(lines)) if draw.integer(0, 1) else len(lines)
    covered = {"log_size": size, "log_root": tree_root(lines[:size]).hex()}
    metadata = {"run_id": world.run_id, "attempt": attempt, "rank": rank, "iter_num": iteration, "kind": kind}
    weights = make_safetensors({**metadata, "policy_revision": "sha256:" + "0" * 64, **covered, "forged": 1})
    files = {"model.safetensors": weights}
    if kind == "resume":
        states = [data for path, data in world.files.items() if path.endswith("state.json")]
        files["state.json"] = choose(draw, states) if states else b'{"iter_num": 7, "run": {}}'
    world.files.update({f"checkpoints/{name}/{file}": data for file, data in files.items()})
    return {
        "iter_num": iteration,
        "snapshot_id": name,
        "kind": kind,
        "decision_id": _accepting_decision(lines) if kind == "accepted" else None,
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "files": [
            {"name": file, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
            for file, data in sorted(files.items())
        ],
        **covered,
    }


def append_events(world: World, draw: Draw, log: str, kinds: Iterable[str]) -> None:
    """Append forged events with the right sequence numbers."""
    lines = read_lines(world.files, log)
    for kind in kinds:
        lines.append(forge_event(world, draw, log, len(lines), kind))
        write_lines(world.files, log, lines)


def sign_with_old_key(world: World, draw: Draw, log: str) -> None:
    """Sign the lines of a log with the stolen old key: in addition to the heads, or in place of them."""
    lines = read_lines(world.files, log)
    size = choose(draw, [len(lines), draw.integer(0, len(lines))])
    note = world.old_key.sign(f"ockham/runs/{world.run_id}/{log}", size, tree_root(lines[:size]))
    notes = read_notes(world.files, log)
    kept = choose(draw, [notes, [old for old in notes if note_size(old) < size], []])
    newest = choose(draw, [note, world.files.get(f"log/{log}/checkpoint")])
    write_notes(world.files, log, [*kept, note], newest)


def renumber(lines: Sequence[bytes], run_id: str, log: str, first: int = 0) -> list[bytes]:
    """Return the lines with the position of a log."""
    attempt, rank = (int(part) for part in log.split("-"))
    found = []
    for sequence, line in enumerate(lines, first):
        event = read_event(line)
        if event:
            event["source"] = f"ockham://runs/{run_id}"
            event["data"] |= {"sequence": sequence, "attempt": attempt, "rank": rank}
        found.append(write_event(event) if event else line)
    return found


def all_logs(world: World) -> list[tuple[Files, str]]:
    """Return each log of this run and of all others."""
    return [(files, log) for files in (world.files, *world.donors) for log in list_logs(files)]


def _real_events(world: World, kind: str) -> Iterable[dict[str, Any]]:
    for files, log in all_logs(world):
        for line in read_lines(files, log):
            if f"ockham.{kind}.v1".encode() in line and is_kind(event := read_event(line), kind):
                yield dict(event["data"])


def _accepting_decision(lines: Sequence[bytes]) -> str | None:
    events = [read_event(line) for line in lines if b'"accepted"' in line]
    found = [event["id"] for event in events if is_kind(event, "decision.made")]
    return found[-1] if found else "0198a0b0-0000-7000-8000-000000000000"
